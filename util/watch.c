/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "util/epoll-set.h"
#include "util/turn.h"
#include "util/watch.h"

#define AT_ONCE 64

struct watches {
        struct epoll_set set;
        struct turn turn;
        struct epoll_event taken[AT_ONCE];
        int n_taken; /* some of these may be ended while others of them are told */
};

static int take(sd_event_source *source, void *userdata)
{
        struct watches *s = userdata;

        s->n_taken = epoll_wait(s->set.fd, s->taken, AT_ONCE, 0);
        for (int i = 0; i < s->n_taken; i++) {
                struct watch *w = s->taken[i].data.ptr;

                if (w)
                        w->ready(w);
        }
        if (s->n_taken == AT_ONCE || epoll_set_arm(&s->set) < 0)
                turn_again(&s->turn);
        s->n_taken = 0;
        return 0;
}

int watches_new(struct watches **ret, sd_event *event)
{
        struct watches *s = calloc(1, sizeof *s);
        int r;

        if (!s)
                return -ENOMEM;
        r = epoll_set_init(&s->set, event, take, s);
        if (r >= 0)
                r = turn_init(&s->turn, event, "watches", take, s);
        if (r < 0) {
                watches_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

struct watches *watches_free(struct watches *s)
{
        if (!s)
                return NULL;
        epoll_set_deinit(&s->set);
        turn_deinit(&s->turn);
        free(s);
        return NULL;
}

static int control(struct watch *w, int operation)
{
        struct epoll_event event = {.events = w->events | EPOLLONESHOT, .data.ptr = w};

        return epoll_ctl(w->watches->set.fd, operation, w->fd, &event) < 0 ? -errno : 0;
}

int watch_begin(struct watches *s, struct watch *w, int fd, uint32_t events)
{
        int r;

        assert(!w->watches);
        w->watches = s;
        w->fd = fd;
        w->events = events;
        r = control(w, EPOLL_CTL_ADD);
        if (r < 0)
                w->watches = NULL;
        return r;
}

int watch_again(struct watch *w)
{
        return control(w, EPOLL_CTL_MOD);
}

void watch_end(struct watch *w)
{
        struct watches *s = w->watches;

        if (!s)
                return;
        /* The client may have the same file open, so a close would not take it out of the set. */
        (void) control(w, EPOLL_CTL_DEL);
        for (int i = 0; i < s->n_taken; i++)
                if (s->taken[i].data.ptr == w)
                        s->taken[i].data.ptr = NULL;
        w->watches = NULL;
}
