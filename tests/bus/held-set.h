/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>
#include <stdbool.h>

/* A page that is not there: whoever touches it in the kernel sleeps, with all the locks that he has. */
struct missing {
        int faults;
        void *page;
};

/* false: it cannot be made, which was said. */
bool missing_start(struct missing *m);
/* Until somebody sleeps. */
void missing_is_touched(const struct missing *m);
void missing_end(struct missing *m);

/* An epoll set whose owner sleeps in epoll_wait(): it has the kernel's lock of the set. The last close of
 * a file that is in the set waits for that. */

struct held_set {
        int set, ready;
        struct missing missing;
        pthread_t thread;
};

bool held_start(struct held_set *h);
void held_add(const struct held_set *h, int fd);
/* After the last held_add(). */
void held_lock(struct held_set *h);
void held_end(struct held_set *h);
