/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include "lib/local/after.h"
#include "lib/local/shared.h"

static __thread struct ctx_after *running __attribute__((tls_model("initial-exec")));

static bool change(struct ctx_after *after, uint32_t from, uint32_t to)
{
        return atomic_compare_exchange_strong(&after->state, &from, to);
}

struct ctx_after *ctx_after_unref(struct ctx_after *after)
{
        if (after && (atomic_load_explicit(&after->child.refs, memory_order_acquire) == 1 ||
                                     atomic_fetch_sub_explicit(&after->child.refs, 1, memory_order_acq_rel) ==
                                                     1))
                free(after);
        return NULL;
}

/* The registration ends: it leaves the list, and gives up its hold on the context and its reference. */
static void after_release(struct ctx_after *after)
{
        struct ctx *parent = after->child.parent, *dead = NULL;

        if (parent && child_unlink(&after->child, true))
                ctx_dead_add(parent, &dead);
        if (dead)
                ctx_dead_free(dead);
        ctx_unref(after->held);
        ctx_after_unref(after);
}

enum after_queued after_queue(struct ctx_after *after, struct ctx_after **direct)
{
        /* A callback that was registered before a fork runs in the parent process only. */
        if (after->fork_generation != fork_generation || !change(after, AFTER_PENDING, AFTER_QUEUED))
                return AFTER_NOT;
        if (!after->direct) {
                callback_thread_push(after);
                return AFTER_FOR_THREAD;
        }
        after->queued = *direct;
        *direct = after;
        return AFTER_DIRECT;
}

void after_run_list(struct ctx_after *direct)
{
        while (direct) {
                struct ctx_after *after = direct;

                direct = after->queued;
                after_run(after);
        }
}

static struct ctx_after *of_timer(struct ctx_timer *timer)
{
        return (struct ctx_after *) ((char *) timer - offsetof(struct ctx_after, timer));
}

/* As long as the timer is in the heap, the registration holds its context. */
static bool hold_timer(struct ctx_timer *timer)
{
        struct ctx_after *after = of_timer(timer);

        if (!ctx_ref_if_alive(after->ctx))
                return false;
        atomic_fetch_add_explicit(&after->child.refs, 1, memory_order_relaxed);
        return true;
}

static void fire_timer(struct ctx_timer *timer)
{
        struct ctx_after *after = of_timer(timer);
        struct ctx *ctx = after->ctx;

        if (ctx_state(ctx))
                ctx_end(ctx, STATE_WORD_DEADLINE_EXCEEDED, NULL);
        ctx_unref(ctx);
        ctx_after_unref(after);
}

static void disarm(struct ctx_after *after)
{
        if (after->timed)
                timer_disarm(&after->timer);
}

void after_run(struct ctx_after *after)
{
        disarm(after);
        if (change(after, AFTER_QUEUED, AFTER_RUNNING)) {
                /* A direct callback may run inside another callback, which cancels. */
                struct ctx_after *outer = running;

                lock_order_none();
                running = after;
                after->fn(after->userdata);
                running = outer;
                if (atomic_exchange(&after->state, AFTER_FINISHED) == AFTER_RUNNING_AWAITED)
                        futex_wake_all(&after->state);
        }
        after_release(after);
}

struct ctx_after *after_new(struct ctx *ctx, void (*fn)(void *userdata), void *userdata, bool direct)
{
        struct ctx_shared *shared;
        struct ctx_after *after;
        struct ctx *source;
        int r = 0;

        if (!ctx || !fn) {
                errno = EINVAL;
                return NULL;
        }
        after = malloc(sizeof(struct ctx_after));
        if (!after)
                return NULL;
        *after = (struct ctx_after){
                        .child = {.refs = 2, .flags = CHILD_AFTER},
                        .fn = fn,
                        .userdata = userdata,
                        .direct = direct,
                        .timer = {.hold = hold_timer, .fire = fire_timer},
                        .fork_generation = fork_generation,
        };

        source = ctx->source;
        if (ctx_never_done(source)) {
                atomic_store_explicit(&after->child.refs, 1, memory_order_relaxed);
                return after;
        }
        shared = ctx_shared_done(source);
        if (!direct || source->deadline_usec != CTX_NEVER)
                r = direct ? timer_thread_start() : callback_thread_start();
        if (r >= 0 && shared)
                r = shared->ops->watch(shared);
        /* Until the callback is linked, the program's reference on ctx keeps the source alive. */
        after->ctx = source;
        after->timed = source->deadline_usec != CTX_NEVER;
        if (r >= 0 && after->timed)
                r = timer_arm(&after->timer, source->deadline_usec);
        if (r < 0) {
                free(after);
                errno = -r;
                return NULL;
        }

        /* The callback may use the value or view that it was registered with. Holding the source alone would
         * not keep that alive. */
        if (ctx != source)
                after->held = ctx_ref(ctx);
        /* If a deadline has passed, or a shared ancestor is done, that is written down first. */
        ctx_state(source);
        if (child_link(&after->child, source)) {
                struct ctx_after *now = NULL;

                disarm(after);
                if (!after->held)
                        after->held = ctx_ref(source);
                if (after_queue(after, &now) == AFTER_FOR_THREAD)
                        callback_thread_wake();
                after_run_list(now);
        }
        return after;
}

struct ctx_after *ctx_after_func(struct ctx *ctx, void (*fn)(void *userdata), void *userdata)
{
        return after_new(ctx, fn, userdata, false);
}

/* 1: stopped; 0: too late. */
static int stop(struct ctx_after *after)
{
        if (change(after, AFTER_QUEUED, AFTER_STOPPED))
                return 1; /* the callback thread finds it in its queue */
        if (!change(after, AFTER_PENDING, AFTER_STOPPED))
                return atomic_load(&after->state) == AFTER_QUEUED ? stop(after) : 0;

        /* If the context is never done, the registration has no reference. */
        if (after->ctx) {
                disarm(after);
                after_release(after);
        }
        return 1;
}

int ctx_after_stop(struct ctx_after *after)
{
        return after ? stop(after) : -EINVAL;
}

int ctx_after_stop_wait(struct ctx_after *after)
{
        int r;

        if (!after)
                return -EINVAL;
        r = stop(after);
        if (r > 0)
                return r;
        for (;;) {
                uint32_t state = atomic_load(&after->state);

                if (state != AFTER_RUNNING && state != AFTER_RUNNING_AWAITED)
                        return 0;
                if (running == after)
                        return -EDEADLK;
                if (state == AFTER_RUNNING_AWAITED || change(after, AFTER_RUNNING, AFTER_RUNNING_AWAITED))
                        futex_wait(&after->state, AFTER_RUNNING_AWAITED);
        }
}
