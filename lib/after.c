/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include "lib/after.h"

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

/* The registration is over: out of the list, the hold on the context, the reference. */
static void after_release(struct ctx_after *after)
{
        struct ctx *parent = after->child.parent, *dead = NULL;

        if (parent && child_unlink(&after->child, true))
                ctx_die(parent, &dead);
        if (dead)
                ctx_bury(dead);
        ctx_after_unref(after);
}

bool after_queue(struct ctx_after *after)
{
        /* What was registered before a fork is the parent process's to run. */
        if (after->fork_generation != fork_generation || !change(after, AFTER_PENDING, AFTER_QUEUED))
                return false;
        helper_push(after);
        return true;
}

void after_run(struct ctx_after *after)
{
        helper_disarm(after);
        if (change(after, AFTER_QUEUED, AFTER_RUNNING)) {
                running = after;
                after->fn(after->userdata);
                running = NULL;
                if (atomic_exchange(&after->state, AFTER_FINISHED) == AFTER_RUNNING_AWAITED)
                        futex_wake_all(&after->state);
        }
        after_release(after);
}

struct ctx_after *ctx_after_func(struct ctx *ctx, void (*fn)(void *userdata), void *userdata)
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
                        .fork_generation = fork_generation,
        };

        source = ctx->source;
        if (ctx_never_done(source)) {
                atomic_store_explicit(&after->child.refs, 1, memory_order_relaxed);
                return after;
        }
        shared = ctx_shared_done(source);
        r = helper_start();
        if (r >= 0 && shared)
                r = shared->ops->watch(shared);
        /* The program's reference on ctx covers this until the callback is linked. */
        after->child.parent = source;
        if (r >= 0 && source->deadline_usec != CTX_NEVER)
                r = helper_arm(after, source);
        if (r < 0) {
                free(after);
                errno = -r;
                return NULL;
        }

        /* What is done by the clock or by a shared ancestor is written down first. */
        ctx_state(source);
        if (child_link(&after->child, source)) {
                helper_disarm(after);
                after->child.parent = NULL;
                after_queue(after);
                helper_wake();
        }
        return after;
}

/* 1: stopped, 0: too late. */
static int stop(struct ctx_after *after)
{
        if (change(after, AFTER_QUEUED, AFTER_STOPPED))
                return 1; /* the helper finds it in its queue */
        if (!change(after, AFTER_PENDING, AFTER_STOPPED))
                return atomic_load(&after->state) == AFTER_QUEUED ? stop(after) : 0;

        /* A registration with a context that is never done has no reference. */
        if (after->child.parent) {
                helper_disarm(after);
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
