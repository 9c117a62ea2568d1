/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include "lib/blocking/channel.h"

/* The first of several operations that can happen, as Go's select. The locks of all channels are taken, in
 * the order of their addresses. If no operation can happen now, the thread enters the queues of all before
 * the locks are released. So it misses nothing, and its own sends and receives do not meet each other. */

struct selection {
        struct sleeper sleeper;
        size_t n, n_chans;
        struct waiter *waiters;  /* one for each case; chan is NULL in those that never happen */
        struct ctx_chan **chans; /* each channel once, by address */
        void *memory;
};

#define ON_STACK 8

struct place {
        struct waiter waiter;
        struct ctx_chan *chan;
};

static int by_address(const void *a, const void *b)
{
        uintptr_t x = (uintptr_t) * (struct ctx_chan *const *) a,
                  y = (uintptr_t) * (struct ctx_chan *const *) b;

        return (x > y) - (x < y);
}

static int check_case(const struct ctx_chan_case *c)
{
        const void *item = c->op == CTX_CHAN_SEND ? c->send_item : c->ret_item;

        if (c->op != CTX_CHAN_SEND && c->op != CTX_CHAN_RECV)
                return -EINVAL;
        return c->chan && !item && c->chan->item_size > 0 ? -EINVAL : 0;
}

/* places: room for ON_STACK cases. */
static int selection_init(
                struct selection *s, const struct ctx_chan_case *cases, size_t n, struct place *places)
{
        *s = (struct selection){.n = n};
        if (n > INT_MAX || (n > 0 && !cases))
                return -EINVAL;
        if (n > ON_STACK) {
                places = s->memory = calloc(n, sizeof(struct place));
                if (!places)
                        return -ENOMEM;
        }
        s->waiters = (struct waiter *) places;
        s->chans = (struct ctx_chan **) (s->waiters + n);
        for (size_t i = 0; i < n; i++) {
                bool is_sender = cases[i].op == CTX_CHAN_SEND;

                if (check_case(&cases[i]) < 0) {
                        free(s->memory);
                        return -EINVAL;
                }
                s->waiters[i] = (struct waiter){
                                .sleeper = &s->sleeper,
                                .chan = cases[i].chan,
                                .item = is_sender ? (void *) (uintptr_t) cases[i].send_item
                                                  : cases[i].ret_item,
                                .is_sender = is_sender,
                };
                if (cases[i].chan)
                        s->chans[s->n_chans++] = cases[i].chan;
        }
        if (s->n_chans > 1) {
                size_t n_all = s->n_chans;

                qsort(s->chans, n_all, sizeof(struct ctx_chan *), by_address);
                s->n_chans = 1;
                for (size_t i = 1; i < n_all; i++)
                        if (s->chans[i] != s->chans[s->n_chans - 1])
                                s->chans[s->n_chans++] = s->chans[i];
        }
        return 0;
}

/* They all have one rank, which is taken once. A fork, and a cancel in a handler, wait as for one lock. */
static void lock_all(struct selection *s)
{
        nest_deeper();
        lock_order_take(LOCK_CHANNEL);
        for (size_t i = 0; i < s->n_chans; i++)
                lock_word_acquire(&s->chans[i]->lock.word);
}

static void unlock_all(struct selection *s)
{
        for (size_t i = 0; i < s->n_chans; i++) {
                chan_update_fd(s->chans[i]);
                lock_word_release(&s->chans[i]->lock.word);
        }
        lock_order_drop(LOCK_CHANNEL);
        nest_less_deep();
}

/* Where to begin, so that no case is preferred to another. */
static size_t random_below(size_t n)
{
        static __thread uint32_t x __attribute__((tls_model("initial-exec")));

        if (x == 0)
                x = (uint32_t) now_monotonic_usec() ^ (uint32_t) ((uintptr_t) &x >> 4) ^ 1;
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        return x % n;
}

/* The index of the case that has happened, or -EAGAIN. */
static int try_all(struct selection *s, struct ctx_chan_case *cases, struct waiter **ret_served)
{
        size_t start = s->n > 1 ? random_below(s->n) : 0;

        *ret_served = NULL;
        for (size_t k = 0; k < s->n; k++) {
                size_t i = start + k < s->n ? start + k : start + k - s->n;
                const struct waiter *waiter = &s->waiters[i];
                int r;

                if (!waiter->chan)
                        continue;
                r = waiter->is_sender ? chan_try_send(waiter->chan, waiter->item, ret_served)
                                      : chan_try_recv(waiter->chan, waiter->item, ret_served);
                if (r == -EAGAIN)
                        continue;
                cases[i].result = r;
                return (int) i;
        }
        return -EAGAIN;
}

/* The channel of the waiter that was served may be gone. */
static void leave_all(struct selection *s)
{
        for (size_t i = 0; i < s->n; i++)
                if (s->waiters[i].chan && &s->waiters[i] != s->sleeper.done)
                        waiter_leave(&s->waiters[i]);
}

static void select_cancelled(void *userdata)
{
        struct selection *s = userdata;

        sleeper_cancelled(&s->sleeper);
        leave_all(s);
        free(s->memory);
}

/* Called with the locks held; releases them. */
static int wait_in_all(struct ctx *ctx, struct selection *s, struct ctx_chan_case *cases)
{
        int r;

        for (size_t i = 0; i < s->n; i++)
                if (s->waiters[i].chan)
                        chan_enqueue(&s->waiters[i]);
        unlock_all(s);
        pthread_cleanup_push(select_cancelled, s);
        r = sleeper_wait(ctx, &s->sleeper);
        pthread_cleanup_pop(0);
        leave_all(s);
        if (r < 0)
                return r;
        r = (int) (s->sleeper.done - s->waiters);
        cases[r].result = sleeper_result(&s->sleeper);
        return r;
}

int ctx_chan_select(struct ctx *ctx, struct ctx_chan_case *cases, size_t n)
{
        struct place places[ON_STACK];
        struct waiter *served = NULL;
        struct selection s;
        int r;

        if (!ctx)
                return -EINVAL;
        r = selection_init(&s, cases, n, places);
        if (r < 0)
                return r;
        r = ctx_futex_begin(ctx);
        if (r == 0 && s.n_chans == 0 && ctx_never_done(ctx->source))
                r = -EDEADLK;
        if (r == 0) {
                lock_all(&s);
                r = try_all(&s, cases, &served);
                if (r == -EAGAIN)
                        r = wait_in_all(ctx, &s, cases);
                else
                        unlock_all(&s);
                waiter_done(served, false);
        }
        free(s.memory);
        return r;
}

int ctx_chan_try_select(struct ctx_chan_case *cases, size_t n)
{
        struct place places[ON_STACK];
        struct waiter *served;
        struct selection s;
        int r;

        r = selection_init(&s, cases, n, places);
        if (r < 0)
                return r;
        lock_all(&s);
        r = try_all(&s, cases, &served);
        unlock_all(&s);
        waiter_done(served, false);
        free(s.memory);
        return r;
}
