/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <linux/aio_abi.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

/* An epoll set of our own, beside that of the event loop, for descriptors of which very many may be ready
 * together. sd-event looks at all that are ready in every turn; from this set a turn takes as many as it
 * wants. */
struct epoll_set {
        int fd; /* for epoll_ctl() and epoll_wait() */
        int wake;
        aio_context_t aio; /* 0: there is none */
        bool is_armed;
        struct iocb request;
        sd_event_source *source;
        sd_event_handler_t ready;
        void *userdata;
};

#define EPOLL_SET_NONE ((struct epoll_set){.fd = -1, .wake = -1}) /* for epoll_set_deinit() */

/* 0 or a negative errno. The set is armed. */
int epoll_set_init(struct epoll_set *s, sd_event *event, sd_event_handler_t ready, void *userdata);
void epoll_set_deinit(struct epoll_set *s);
/* Has ready() called once, with the source NULL, when something is ready; soon if it is already. It may take
 * what is ready with epoll_wait(), and arms the set again when it has taken all. Does nothing where the set
 * is armed. A negative errno, where memory is short: then nothing will come. */
int epoll_set_arm(struct epoll_set *s);
