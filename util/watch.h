/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

/* Watches thousands of descriptors that may become ready together: pidfds, pipes that hang up. With an
 * event source each, sd-event would look at all that are ready again in every turn, and come to everything
 * else after the last of them: 20,000 pipes that hang up together would hold everybody up for a minute. Here
 * a turn takes some of them, and others are served between. */

struct watches;

struct watch {
        struct watches *watches; /* NULL: it is not watched */
        int fd;
        uint32_t events;
        void (*ready)(struct watch *w); /* called once; it may end any watch */
};

/* 0 or a negative errno. */
int watches_new(struct watches **ret, sd_event *event);
struct watches *watches_free(struct watches *s); /* all watches have to be ended before */

/* Has ready() called when one of the events of epoll has come, or the other end has hung up. The descriptor
 * is borrowed, and has to stay open until the end of the watch. 0 or a negative errno. */
int watch_begin(struct watches *s, struct watch *w, int fd, uint32_t events);
/* Has ready() called once more. */
int watch_again(struct watch *w);
void watch_end(struct watch *w);
