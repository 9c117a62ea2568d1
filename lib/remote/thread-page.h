/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/remote/client.h"
#include "proto/thread-page.h"

/* The thread page of this process, mapped, and a thread's place in it. */

struct thread_map {
        /* Never used again. So the place of a thread in one map is not taken for a place in another. */
        uint64_t serial;
        unsigned fork_generation; /* of the process that has mapped it */
        struct thread_page *page;
        int kick;
        struct thread_map *next; /* the next older one */
};

/* The entry of this thread, from enter to leave. The next enter tries the same entry first. While the thread
 * stands in a list, all but `waits` is under the lock of that client. */
struct thread_place {
        uint64_t serial;
        uint32_t index;
        uint32_t tid;
        unsigned fork_generation; /* of tid */
        bool held;
        bool waits;                /* it has entered without an answer */
        uint64_t since_usec;       /* when that was */
        struct thread_place *next; /* in the list; also in it: */
        struct thread_place **before;
};

/* Maps the page that the daemon gave. */
int thread_map_new(int page_fd, int kick_fd, struct thread_map **ret);
/* Takes an entry for the thread of p. NULL: all are taken. */
struct thread_entry *thread_map_claim(struct thread_map *map, struct thread_place *p);
