/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "lib/blocking/ctx-futex.h"

/* A channel as in Go: an operation also ends when a context is done. A thread that has to wait stands in a
 * queue, with a futex of its own and a pointer to its item. The other side, under the channel's lock, copies
 * the item, marks the waiter as served, and wakes it. A waiter that gives up looks under the same lock
 * whether its item was taken or delivered: then that counts, and not the end of the context (law 26). */

enum {
        WAITING,
        SERVED,
        CLOSED,
};

struct waiter {
        TAILQ_ENTRY(waiter) entry;
        _Atomic uint32_t state;
        void *item;
};

TAILQ_HEAD(waiters, waiter);

struct ctx_chan {
        _Atomic uint32_t refs;
        struct lock lock;
        bool closed;
        size_t item_size, capacity;
        size_t first, n; /* a ring buffer: the index of the first item, and how many there are */
        struct waiters senders, receivers;
        _Alignas(max_align_t) char items[];
};

struct ctx_chan *ctx_chan_new(size_t item_size, size_t capacity)
{
        struct ctx_chan *chan;
        size_t size;

        if (item_size == 0) {
                errno = EINVAL;
                return NULL;
        }
        if (__builtin_mul_overflow(item_size, capacity, &size) ||
                        __builtin_add_overflow(size, sizeof(struct ctx_chan), &size)) {
                errno = ENOMEM;
                return NULL;
        }
        chan = malloc(size);
        if (!chan)
                return NULL;
        *chan = (struct ctx_chan){
                        .refs = 1, .lock.rank = LOCK_CHANNEL, .item_size = item_size, .capacity = capacity};
        TAILQ_INIT(&chan->senders);
        TAILQ_INIT(&chan->receivers);
        return chan;
}

struct ctx_chan *ctx_chan_ref(struct ctx_chan *chan)
{
        if (chan)
                atomic_fetch_add_explicit(&chan->refs, 1, memory_order_relaxed);
        return chan;
}

struct ctx_chan *ctx_chan_unref(struct ctx_chan *chan)
{
        if (chan && atomic_fetch_sub_explicit(&chan->refs, 1, memory_order_acq_rel) == 1)
                free(chan);
        return NULL;
}

static void *slot(struct ctx_chan *chan, size_t i)
{
        return chan->items + (chan->first + i) % chan->capacity * chan->item_size;
}

static void put(struct ctx_chan *chan, const void *item)
{
        memcpy(slot(chan, chan->n++), item, chan->item_size);
}

static void take(struct ctx_chan *chan, void *item)
{
        memcpy(item, slot(chan, 0), chan->item_size);
        chan->first = (chan->first + 1) % chan->capacity;
        chan->n--;
}

/* Once the state has changed, the waiter may return, and its struct is gone. So only the address of the futex
 * is used after that. If another thread sleeps at the same address by then, it wakes up too early, which
 * every sleeper allows for. */
static void serve(struct waiters *waiters, struct waiter *waiter, uint32_t state)
{
        TAILQ_REMOVE(waiters, waiter, entry);
        atomic_store_explicit(&waiter->state, state, memory_order_release);
        futex_wake_all(&waiter->state);
}

/* The lock is held, in both. 1: done; 0: the caller would have to wait; or a negative errno. */
static int try_send(struct ctx_chan *chan, const void *item)
{
        struct waiter *receiver = TAILQ_FIRST(&chan->receivers);

        if (chan->closed)
                return -EPIPE;
        if (receiver) {
                memcpy(receiver->item, item, chan->item_size);
                serve(&chan->receivers, receiver, SERVED);
                return 1;
        }
        if (chan->n == chan->capacity)
                return 0;
        put(chan, item);
        return 1;
}

static int try_recv(struct ctx_chan *chan, void *item)
{
        struct waiter *sender = TAILQ_FIRST(&chan->senders);

        if (chan->n > 0) {
                take(chan, item);
                if (sender) {
                        put(chan, sender->item);
                        serve(&chan->senders, sender, SERVED);
                }
                return 1;
        }
        if (sender) {
                memcpy(item, sender->item, chan->item_size);
                serve(&chan->senders, sender, SERVED);
                return 1;
        }
        return chan->closed ? -EPIPE : 0;
}

/* Called with the lock held; releases it. Returns SERVED, CLOSED, or the context's error. */
static int wait_in(struct ctx *ctx, struct ctx_chan *chan, struct waiters *waiters, void *item)
{
        struct waiter waiter = {.item = item};
        uint32_t state;
        int r = 0;

        TAILQ_INSERT_TAIL(waiters, &waiter, entry);
        lock_release(&chan->lock);
        while (r == 0 && atomic_load_explicit(&waiter.state, memory_order_acquire) == WAITING)
                r = ctx_futex_wait(ctx, &waiter.state, WAITING);

        /* The lock is taken even if the waiter was served: the other side must be done with it before this
         * struct goes. */
        lock_acquire(&chan->lock);
        state = atomic_load(&waiter.state);
        if (state == WAITING)
                TAILQ_REMOVE(waiters, &waiter, entry);
        lock_release(&chan->lock);
        return state == WAITING ? r : (int) state;
}

int ctx_chan_send(struct ctx *ctx, struct ctx_chan *chan, const void *item)
{
        int r;

        if (!ctx || !chan || !item)
                return -EINVAL;
        r = ctx_futex_begin(ctx);
        if (r < 0)
                return r;
        lock_acquire(&chan->lock);
        r = try_send(chan, item);
        if (r != 0) {
                lock_release(&chan->lock);
                return r > 0 ? 0 : r;
        }
        r = wait_in(ctx, chan, &chan->senders, (void *) (uintptr_t) item);
        return r < 0 ? r : r == SERVED ? 0 : -EPIPE;
}

int ctx_chan_recv(struct ctx *ctx, struct ctx_chan *chan, void *ret_item)
{
        int r;

        if (!ctx || !chan || !ret_item)
                return -EINVAL;
        r = ctx_futex_begin(ctx);
        if (r < 0)
                return r;
        lock_acquire(&chan->lock);
        r = try_recv(chan, ret_item);
        if (r != 0) {
                lock_release(&chan->lock);
                return r > 0;
        }
        r = wait_in(ctx, chan, &chan->receivers, ret_item);
        return r < 0 ? r : r == SERVED;
}

int ctx_chan_close(struct ctx_chan *chan)
{
        struct waiter *waiter;
        int r = 0;

        if (!chan)
                return -EINVAL;
        lock_acquire(&chan->lock);
        if (chan->closed)
                r = -EPIPE;
        chan->closed = true;
        while ((waiter = TAILQ_FIRST(&chan->senders)))
                serve(&chan->senders, waiter, CLOSED);
        while ((waiter = TAILQ_FIRST(&chan->receivers)))
                serve(&chan->receivers, waiter, CLOSED);
        lock_release(&chan->lock);
        return r;
}
