/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include "lib/local/after.h"
#include "lib/local/callback-pool.h"
#include "lib/local/callback-thread.h"
#include "lib/local/extend.h"
#include "lib/local/later.h"
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

/* The registration leaves the list, and gives up its hold on the context. Its reference remains. */
static void leave(struct ctx_after *after, struct ctx **dead)
{
        struct ctx *parent = after->child.parent;

        if (parent && child_unlink(&after->child, true))
                ctx_dead_add(parent, dead);
        if (after->held)
                ctx_drop(after->held, dead);
}

void after_end(struct ctx_after *after, struct ctx **dead)
{
        /* In a child of a fork no timer of the parent fires. */
        if (after->timed && after->fork_generation == fork_generation &&
                        atomic_fetch_sub_explicit(&after->holds, 1, memory_order_acq_rel) != 1)
                return;
        leave(after, dead);
        ctx_after_unref(after);
}

static void after_release(struct ctx_after *after)
{
        struct ctx *dead = NULL;

        after_end(after, &dead);
        ctx_dead_free(dead);
}

enum after_queued after_queue(struct ctx_after *after, struct ctx_after **direct)
{
        /* A callback that was registered before a fork runs in the parent process only. */
        bool is_inherited = after->fork_generation != fork_generation;

        if (!change(after, AFTER_PENDING, is_inherited ? AFTER_STOPPED : AFTER_QUEUED))
                return AFTER_NOT;
        if (!after->direct && !is_inherited) {
                pool_push(after);
                return AFTER_FOR_THREAD;
        }
        after->queued = *direct;
        *direct = after;
        return AFTER_DIRECT;
}

static struct ctx_after *of_timer(struct ctx_timer *timer)
{
        return (struct ctx_after *) ((char *) timer - offsetof(struct ctx_after, timer));
}

/* As long as the timer is in the heap, the registration has not ended. */
static uint64_t hold_timer(struct ctx_timer *timer, uint64_t now_usec)
{
        struct ctx_after *after = of_timer(timer);
        uint64_t deadline = deadline_settled(after->ctx);

        if (deadline <= now_usec)
                atomic_fetch_add_explicit(&after->holds, 1, memory_order_relaxed);
        return deadline;
}

/* The deadline was moved at the last moment. Whoever stops the callback after this disarms the timer. */
static void arm_again(struct ctx_after *after)
{
        (void) timer_arm(&after->timer, deadline_settled(after->ctx));
        if (atomic_load(&after->state) != AFTER_PENDING)
                timer_disarm(&after->timer);
}

static void fire_timer(struct ctx_timer *timer)
{
        struct ctx_after *after = of_timer(timer);

        if (ctx_state(after->ctx))
                ctx_end(after->ctx, STATE_WORD_DEADLINE_EXCEEDED, NULL);
        else
                arm_again(after);
        after_release(after);
}

static void disarm(struct ctx_after *after)
{
        if (after->timed)
                timer_disarm(&after->timer);
}

/* The callback has returned; or an exception of C++, or the end of its thread, has left it. */
static void end_run(struct ctx_after **guard)
{
        struct ctx_after *after = *guard;

        running = after->queued;
        if (atomic_exchange(&after->state, AFTER_FINISHED) == AFTER_RUNNING_AWAITED)
                futex_wake_all(&after->state);
}

static void run(struct ctx_after *after)
{
        disarm(after);
        if (after->fork_generation == fork_generation && change(after, AFTER_QUEUED, AFTER_RUNNING)) {
                __attribute__((cleanup(end_run))) struct ctx_after *guard = after;

                /* A direct callback may run inside another callback, which cancels. */
                guard->queued = running;
                running = guard;
                lock_order_none();
                after->fn(after->userdata);
        }
}

static void release_guarded(struct ctx_after **guard)
{
        after_release(*guard);
}

void after_run(struct ctx_after *after)
{
        __attribute__((cleanup(release_guarded))) struct ctx_after *guard = after;

        run(guard);
}

/* The library's own callbacks return. */
void after_run_list(struct ctx_after *direct)
{
        while (direct) {
                struct ctx_after *after = direct;

                direct = after->queued;
                run(after);
                later_callback(after);
        }
}

static bool runs_here(const struct ctx_after *after)
{
        for (const struct ctx_after *here = running; here; here = here->queued)
                if (here == after)
                        return true;
        return false;
}

/* The callbacks that the forking thread is in go on in the child. */
static void after_fork_in_child(void)
{
        for (struct ctx_after *here = running; here; here = here->queued)
                here->fork_generation = fork_generation;
}

FORK_PART(.in_child = after_fork_in_child)

/* Starts what calls back later, before the callback is linked. */
static int prepare(struct ctx_after *after, struct ctx *source)
{
        struct ctx_shared *shared = ctx_shared_done(source);
        int r = 0;

        after->timed = ctx_local_deadline(source) != CTX_NEVER;
        if (!after->direct)
                r = callback_thread_start();
        else if (after->timed)
                r = service_thread_start();
        if (r >= 0 && shared)
                r = shared->ops->watch(shared);
        if (r >= 0 && after->timed) {
                after->timer = (struct ctx_timer){.hold = hold_timer, .fire = fire_timer};
                r = timer_arm(&after->timer, ctx_local_deadline(source));
        }
        return r;
}

/* The context is done already. */
static void run_soon(struct ctx_after *after, struct ctx *source)
{
        struct ctx_after *direct = NULL;

        disarm(after);
        if (!after->held)
                after->held = ctx_ref(source);
        if (after_queue(after, &direct) == AFTER_FOR_THREAD)
                callback_thread_wake();
        after_run_list(direct);
}

struct ctx_after *after_new(struct ctx *ctx, void (*fn)(void *userdata), void *userdata, bool direct)
{
        struct ctx_after *after;
        struct ctx *source;
        int r;

        if (!ctx || !fn) {
                errno = EINVAL;
                return NULL;
        }
        after = malloc(sizeof(struct ctx_after));
        if (!after)
                return NULL;
        /* The timer is left out. */
        after->child = (struct child){.refs = 2, .flags = CHILD_AFTER};
        atomic_init(&after->state, AFTER_PENDING);
        after->ctx = after->held = NULL;
        after->timed = false;
        atomic_init(&after->holds, 1);
        after->direct = direct;
        after->fn = fn;
        after->userdata = userdata;
        after->fork_generation = fork_generation;

        source = ctx->source;
        if (ctx_never_done(source)) {
                atomic_store_explicit(&after->child.refs, 1, memory_order_relaxed);
                return after;
        }
        /* Until the callback is linked, the program's reference on ctx keeps the source alive. */
        after->ctx = source;
        r = prepare(after, source);
        if (__builtin_expect(r < 0, 0)) {
                free(after);
                errno = -r;
                return NULL;
        }

        /* The callback may use the value or view that it was registered with. Holding the source alone would
         * not keep that alive. */
        if (ctx != source)
                after->held = ctx_ref(ctx);
        /* If a deadline has passed, or a shared ancestor is done, that is written down first. */
        if (ctx_end_word(source) & (END_DEADLINE | END_SHARED))
                ctx_state(source);
        if (__builtin_expect(child_link(&after->child, source) != 0, 0))
                run_soon(after, source);
        return after;
}

struct ctx_after *ctx_after_func(struct ctx *ctx, void (*fn)(void *userdata), void *userdata)
{
        return after_new(ctx, fn, userdata, false);
}

static void end_stopped(struct ctx_after *after)
{
        struct ctx *dead = NULL;

        if (!after->ctx)
                return; /* it is never done, and the registration has no reference */
        if (after->timed) {
                timer_disarm(&after->timer);
                after_release(after);
        } else {
                leave(after, &dead);
                /* Nobody else knows it now; the caller has the handle. */
                atomic_store_explicit(&after->child.refs, 1, memory_order_relaxed);
                if (__builtin_expect(dead != NULL, 0))
                        ctx_dead_free(dead);
        }
}

/* 1: stopped; 0: too late. */
static int stop(struct ctx_after *after)
{
        uint32_t state = atomic_load_explicit(&after->state, memory_order_relaxed);

        while (state <= AFTER_QUEUED) {
                if (!atomic_compare_exchange_weak(&after->state, &state, AFTER_STOPPED))
                        continue;
                if (state == AFTER_PENDING)
                        end_stopped(after);
                else if (after->fork_generation != fork_generation)
                        after_release(after); /* otherwise a thread finds it in the queue */
                return 1;
        }
        return 0;
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
                if (runs_here(after))
                        return -EDEADLK;
                /* It runs in the parent process. */
                if (after->fork_generation != fork_generation)
                        return 0;
                if (state == AFTER_RUNNING_AWAITED || change(after, AFTER_RUNNING, AFTER_RUNNING_AWAITED))
                        futex_wait(&after->state, AFTER_RUNNING_AWAITED);
        }
}
