/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/queue.h>

#include "lib/blocking/ctx-futex.h"

/* A channel, and those who wait at it.
 *
 * A thread that has to wait is a sleeper. It stands in the queue of each channel that it waits for, with a
 * waiter in each: one for a send or a receive, several for a select. The other side, under the lock of its
 * channel, takes the waiter out of the queue, claims the sleeper, which succeeds for one of all channels, and
 * copies the item. When it has released the lock it says DONE. From then on both may return, and free the
 * channel: neither touches it, or anything of the other one, any more. A sleeper that gives up claims itself:
 * if it is too late for that, its item was taken or delivered, and that counts, and not the end of the
 * context (law 26). */

enum sleeper_state {
        SLEEPER_WAITING,
        SLEEPER_CLAIMED, /* for a moment: another thread copies the item */
        SLEEPER_DONE,
        SLEEPER_GAVE_UP,
};

struct sleeper {
        _Atomic uint32_t state; /* enum sleeper_state; a futex */
        bool closed;            /* DONE, but because the channel was closed */
        struct waiter *done;    /* the one that was served */
};

struct waiter {
        TAILQ_ENTRY(waiter) entry;
        struct sleeper *sleeper;
        struct ctx_chan *chan;
        void *item;
        bool is_sender;
        bool queued; /* under the channel's lock */
};

TAILQ_HEAD(waiters, waiter);

/* An item that a thread was given which was cancelled at that moment. */
struct returned {
        STAILQ_ENTRY(returned) entry;
        char item[];
};

struct ctx_chan {
        _Atomic uint32_t refs;
        struct lock lock;
        bool closed, is_readable; /* is_readable: that is what the descriptor says */
        int fd;                   /* that of ctx_chan_fd(); -1: nobody has asked for it */
        size_t item_size, capacity;
        size_t first, n; /* a ring buffer: the index of the first item, and how many there are */
        STAILQ_HEAD(, returned) returned; /* these come before those in the ring */
        struct waiters senders, receivers;
        _Alignas(max_align_t) char items[];
};

/* The lock is held, in all of these. *ret_served: the waiter on the other side, or NULL. When the lock is
 * released, the caller gives it to waiter_done(). */

/* 0: sent; -EAGAIN: the caller would have to wait; -EPIPE. */
int chan_try_send(struct ctx_chan *chan, const void *item, struct waiter **ret_served);
/* 1: received; 0: closed and empty; -EAGAIN. */
int chan_try_recv(struct ctx_chan *chan, void *ret_item, struct waiter **ret_served);
void chan_enqueue(struct waiter *waiter);
/* Does nothing if it is in no queue any more. */
void chan_dequeue(struct waiter *waiter);
/* Makes the descriptor say whether a receive would wait. */
void chan_set_fd(struct ctx_chan *chan);

/* After every change. */
static inline void chan_update_fd(struct ctx_chan *chan)
{
        if (__builtin_expect(chan->fd >= 0, 0))
                chan_set_fd(chan);
}

/* Without a lock, in all of these. */

/* Takes NULL. closed: it was served because the channel was closed. */
void waiter_done(struct waiter *waiter, bool closed);
/* Sleeps until the sleeper is DONE, and returns 0; or it gives up, with the error of the
 * context. */
int sleeper_wait(struct ctx *ctx, struct sleeper *sleeper);
/* The thread is being cancelled. Returns true if the sleeper has given up. Else it was served; an item that
 * it was given is passed on. */
bool sleeper_cancelled(struct sleeper *sleeper);
/* Leaves the queue, if it is still in it. */
void waiter_leave(struct waiter *waiter);
/* What the call returns that was served: as chan_try_send() or chan_try_recv(). */
int sleeper_result(const struct sleeper *sleeper);
