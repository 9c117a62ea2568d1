/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/blocking/channel.h"

/* A channel as in Go: an operation also ends when a context is done. */

struct ctx_chan *ctx_chan_new(size_t item_size, size_t capacity)
{
        struct ctx_chan *chan;
        size_t size;

        if (__builtin_mul_overflow(item_size, capacity, &size) ||
                        __builtin_add_overflow(size, sizeof(struct ctx_chan), &size)) {
                errno = ENOMEM;
                return NULL;
        }
        chan = malloc(size);
        if (!chan)
                return NULL;
        *chan = (struct ctx_chan){.refs = 1,
                        .lock.rank = LOCK_CHANNEL,
                        .fd = -1,
                        .item_size = item_size,
                        .capacity = capacity};
        STAILQ_INIT(&chan->returned);
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
        struct returned *returned;

        if (!chan || atomic_fetch_sub_explicit(&chan->refs, 1, memory_order_acq_rel) > 1)
                return NULL;
        while ((returned = STAILQ_FIRST(&chan->returned))) {
                STAILQ_REMOVE_HEAD(&chan->returned, entry);
                free(returned);
        }
        if (chan->fd >= 0)
                close(chan->fd);
        free(chan);
        return NULL;
}

/* With a size of 0 there may be no memory to copy. */
static void copy(const struct ctx_chan *chan, void *to, const void *from)
{
        if (chan->item_size > 0)
                memcpy(to, from, chan->item_size);
}

static void *slot(struct ctx_chan *chan, size_t i)
{
        size_t to_end = chan->capacity - chan->first;

        return chan->items + (i < to_end ? chan->first + i : i - to_end) * chan->item_size;
}

static void put(struct ctx_chan *chan, const void *item)
{
        copy(chan, slot(chan, chan->n++), item);
}

static void take(struct ctx_chan *chan, void *item)
{
        copy(chan, item, slot(chan, 0));
        if (++chan->first == chan->capacity)
                chan->first = 0;
        chan->n--;
}

static void take_returned(struct ctx_chan *chan, void *item)
{
        struct returned *returned = STAILQ_FIRST(&chan->returned);

        STAILQ_REMOVE_HEAD(&chan->returned, entry);
        copy(chan, item, returned->item);
        free(returned);
}

void chan_enqueue(struct waiter *waiter)
{
        struct ctx_chan *chan = waiter->chan;

        TAILQ_INSERT_TAIL(waiter->is_sender ? &chan->senders : &chan->receivers, waiter, entry);
        waiter->queued = true;
}

void chan_dequeue(struct waiter *waiter)
{
        struct ctx_chan *chan = waiter->chan;

        if (waiter->queued)
                TAILQ_REMOVE(waiter->is_sender ? &chan->senders : &chan->receivers, waiter, entry);
        waiter->queued = false;
}

/* The first waiter whose sleeper nobody has served yet. It is claimed, and out of the queue. */
static struct waiter *claim_slowly(struct waiters *waiters)
{
        struct waiter *waiter;

        while ((waiter = TAILQ_FIRST(waiters))) {
                uint32_t state = SLEEPER_WAITING;

                chan_dequeue(waiter);
                if (atomic_compare_exchange_strong(&waiter->sleeper->state, &state, SLEEPER_CLAIMED))
                        break;
        }
        return waiter;
}

static inline struct waiter *claim_first(struct waiters *waiters)
{
        return __builtin_expect(TAILQ_EMPTY(waiters), 1) ? NULL : claim_slowly(waiters);
}

/* Once the state has changed, the sleeper may return, and its structs are gone. So only the address of the
 * futex is used after that. If another thread sleeps at the same address by then, it wakes up too early,
 * which every sleeper allows for. */
void waiter_done(struct waiter *waiter, bool closed)
{
        struct sleeper *sleeper;

        if (!waiter)
                return;
        sleeper = waiter->sleeper;
        sleeper->closed = closed;
        sleeper->done = waiter;
        atomic_store_explicit(&sleeper->state, SLEEPER_DONE, memory_order_release);
        futex_wake_all(&sleeper->state);
}

#define ALWAYS_INLINE inline __attribute__((always_inline))

static ALWAYS_INLINE int send_now(struct ctx_chan *chan, const void *item, struct waiter **ret_served)
{
        *ret_served = NULL;
        if (chan->closed)
                return -EPIPE;
        *ret_served = claim_first(&chan->receivers);
        if (*ret_served) {
                copy(chan, (*ret_served)->item, item);
                return 0;
        }
        if (chan->n == chan->capacity)
                return -EAGAIN;
        put(chan, item);
        return 0;
}

int chan_try_send(struct ctx_chan *chan, const void *item, struct waiter **ret_served)
{
        return send_now(chan, item, ret_served);
}

static ALWAYS_INLINE int recv_now(struct ctx_chan *chan, void *item, struct waiter **ret_served)
{
        bool is_kept = chan->n > 0;
        struct waiter *sender;

        *ret_served = NULL;
        if (!STAILQ_EMPTY(&chan->returned)) {
                take_returned(chan, item);
                return 1;
        }
        if (is_kept)
                take(chan, item);
        *ret_served = sender = claim_first(&chan->senders);
        if (sender && is_kept)
                put(chan, sender->item);
        else if (sender)
                copy(chan, item, sender->item);
        if (is_kept || sender)
                return 1;
        return chan->closed ? 0 : -EAGAIN;
}

int chan_try_recv(struct ctx_chan *chan, void *ret_item, struct waiter **ret_served)
{
        return recv_now(chan, ret_item, ret_served);
}

int sleeper_wait(struct ctx *ctx, struct sleeper *sleeper)
{
        uint32_t state;
        int r = 0;

        while (r == 0 && atomic_load_explicit(&sleeper->state, memory_order_acquire) == SLEEPER_WAITING)
                r = ctx_futex_wait(ctx, &sleeper->state, SLEEPER_WAITING, FUTEX_CANCELLABLE);
        state = SLEEPER_WAITING;
        if (r < 0 && atomic_compare_exchange_strong(&sleeper->state, &state, SLEEPER_GAVE_UP))
                return r;
        while (atomic_load_explicit(&sleeper->state, memory_order_acquire) == SLEEPER_CLAIMED)
                futex_wait(&sleeper->state, SLEEPER_CLAIMED);
        return 0;
}

/* It is the oldest of all: another receiver gets it, or it is the next that comes out. */
static void give_back(struct ctx_chan *chan, const void *item)
{
        struct waiter *receiver;

        lock_acquire(&chan->lock);
        receiver = claim_first(&chan->receivers);
        if (receiver) {
                copy(chan, receiver->item, item);
        } else {
                struct returned *returned = malloc(sizeof(struct returned) + chan->item_size);

                if (returned) {
                        copy(chan, returned->item, item);
                        STAILQ_INSERT_HEAD(&chan->returned, returned, entry);
                }
        }
        chan_update_fd(chan);
        lock_release(&chan->lock);
        waiter_done(receiver, false);
}

bool sleeper_cancelled(struct sleeper *sleeper)
{
        uint32_t state = SLEEPER_WAITING;

        if (atomic_compare_exchange_strong(&sleeper->state, &state, SLEEPER_GAVE_UP))
                return true;
        while (atomic_load_explicit(&sleeper->state, memory_order_acquire) == SLEEPER_CLAIMED)
                futex_wait(&sleeper->state, SLEEPER_CLAIMED);
        if (!sleeper->done->is_sender && !sleeper->closed)
                give_back(sleeper->done->chan, sleeper->done->item);
        return false;
}

int sleeper_result(const struct sleeper *sleeper)
{
        if (sleeper->done->is_sender)
                return sleeper->closed ? -EPIPE : 0;
        return !sleeper->closed;
}

void waiter_leave(struct waiter *waiter)
{
        lock_acquire(&waiter->chan->lock);
        chan_dequeue(waiter);
        chan_update_fd(waiter->chan);
        lock_release(&waiter->chan->lock);
}

static void wait_cancelled(void *userdata)
{
        struct waiter *waiter = userdata;

        if (sleeper_cancelled(waiter->sleeper))
                waiter_leave(waiter);
}

/* Called with the lock held; releases it. A waiter that was served does not come back to the channel, which
 * may be gone. */
static int wait_in(struct ctx *ctx, struct ctx_chan *chan, bool is_sender, void *item)
{
        struct sleeper sleeper = {};
        struct waiter waiter = {.sleeper = &sleeper, .chan = chan, .item = item, .is_sender = is_sender};
        int r;

        chan_enqueue(&waiter);
        chan_update_fd(chan);
        lock_release(&chan->lock);
        pthread_cleanup_push(wait_cancelled, &waiter);
        r = sleeper_wait(ctx, &sleeper);
        pthread_cleanup_pop(0);
        if (r == 0)
                return sleeper_result(&sleeper);
        waiter_leave(&waiter);
        return r;
}

/* Called with the lock held, after the operation was tried; releases it. */
static int finish(struct ctx_chan *chan, struct waiter *served, int r)
{
        chan_update_fd(chan);
        lock_release(&chan->lock);
        if (served)
                waiter_done(served, false);
        return r;
}

int ctx_chan_send(struct ctx *ctx, struct ctx_chan *chan, const void *item)
{
        struct waiter *served;
        int r;

        if (!ctx || !chan || (!item && chan->item_size > 0))
                return -EINVAL;
        r = ctx_futex_begin(ctx);
        if (r < 0)
                return r;
        lock_acquire(&chan->lock);
        r = send_now(chan, item, &served);
        if (r == -EAGAIN)
                return wait_in(ctx, chan, true, (void *) (uintptr_t) item);
        return finish(chan, served, r);
}

int ctx_chan_try_send(struct ctx_chan *chan, const void *item)
{
        struct waiter *served;
        int r;

        if (!chan || (!item && chan->item_size > 0))
                return -EINVAL;
        lock_acquire(&chan->lock);
        r = chan_try_send(chan, item, &served);
        return finish(chan, served, r);
}

int ctx_chan_recv(struct ctx *ctx, struct ctx_chan *chan, void *ret_item)
{
        struct waiter *served;
        int r;

        if (!ctx || !chan || (!ret_item && chan->item_size > 0))
                return -EINVAL;
        r = ctx_futex_begin(ctx);
        if (r < 0)
                return r;
        lock_acquire(&chan->lock);
        r = recv_now(chan, ret_item, &served);
        if (r == -EAGAIN)
                return wait_in(ctx, chan, false, ret_item);
        return finish(chan, served, r);
}

int ctx_chan_try_recv(struct ctx_chan *chan, void *ret_item)
{
        struct waiter *served;
        int r;

        if (!chan || (!ret_item && chan->item_size > 0))
                return -EINVAL;
        lock_acquire(&chan->lock);
        r = chan_try_recv(chan, ret_item, &served);
        return finish(chan, served, r);
}

int ctx_chan_close(struct ctx_chan *chan)
{
        struct waiters served = TAILQ_HEAD_INITIALIZER(served);
        struct waiter *waiter;
        int r = 0;

        if (!chan)
                return -EINVAL;
        lock_acquire(&chan->lock);
        if (chan->closed)
                r = -EPIPE;
        chan->closed = true;
        while ((waiter = claim_first(&chan->senders)) || (waiter = claim_first(&chan->receivers)))
                TAILQ_INSERT_TAIL(&served, waiter, entry);
        chan_update_fd(chan);
        lock_release(&chan->lock);
        while ((waiter = TAILQ_FIRST(&served))) {
                TAILQ_REMOVE(&served, waiter, entry);
                waiter_done(waiter, true);
        }
        return r;
}
