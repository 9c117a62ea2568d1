/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include "lib/local/callback-thread.h"
#include "lib/local/extend.h"
#include "lib/local/timer.h"

/* Deadlines that are moved, and timers (extend.c). */

uint64_t deadline_settled(struct ctx *source)
{
        uint64_t usec = atomic_load_explicit(&source->deadline_usec, memory_order_acquire);
        uint32_t word;

        if (!atomic_load(&deadline_moves))
                return usec;
        word = nest_lock(&source->nest);
        usec = ctx_local_deadline(source);
        nest_unlock(&source->nest, word);
        return usec;
}

/* Makes the context done at its deadline, since nothing below it may have a timer for that. */
struct mover {
        struct ctx_timer timer;
        struct ctx *ctx;
};

static struct mover *of_timer(struct ctx_timer *timer)
{
        return (struct mover *) ((char *) timer - offsetof(struct mover, timer));
}

static uint64_t hold_mover(struct ctx_timer *timer, uint64_t now_usec)
{
        struct ctx *ctx = of_timer(timer)->ctx;
        uint64_t deadline = deadline_settled(ctx);

        if (deadline > now_usec)
                return deadline;
        return ctx_ref_if_alive(ctx) ? deadline : CTX_NEVER;
}

static void fire_mover(struct ctx_timer *timer)
{
        struct ctx *ctx = of_timer(timer)->ctx;

        if (ctx_state(ctx))
                ctx_end(ctx, STATE_WORD_DEADLINE_EXCEEDED, NULL);
        ctx_unref(ctx);
}

/* Does the deadline become an earlier one, which is still to come? */
static bool needs_timer(const struct ctx *source, uint64_t usec)
{
        return usec < ctx_local_deadline(source) && usec > now_boottime_usec();
}

/* Before the deadline is moved, since it may fail. */
static int set_timer(struct ctx *source, struct extra *extra, uint64_t usec)
{
        struct mover *mover = atomic_load_explicit(&extra->mover, memory_order_acquire), *none = NULL;
        int r = service_thread_start();

        if (r < 0)
                return r;
        if (!mover) {
                mover = malloc(sizeof(struct mover));
                if (!mover)
                        return -ENOMEM;
                *mover = (struct mover){
                                .timer = {.hold = hold_mover, .fire = fire_mover},
                                .ctx = source,
                };
                if (!atomic_compare_exchange_strong(&extra->mover, &none, mover)) {
                        free(mover);
                        mover = none;
                }
        }
        return timer_set(&mover->timer, usec);
}

/* Another thread may have moved the deadline meanwhile, or the timer may have fired before
 * it found the new one. */
void mover_correct(const struct ctx *source, struct extra *extra)
{
        struct mover *mover = atomic_load_explicit(&extra->mover, memory_order_acquire);
        uint64_t usec = ctx_local_deadline(source);

        if (mover && usec != CTX_NEVER)
                (void) timer_set(&mover->timer, usec);
}

int mover_lock(struct ctx *source, struct extra *extra, uint64_t usec)
{
        for (;;) {
                int r = needs_timer(source, usec) ? set_timer(source, extra, usec) : 0;
                uint32_t word;
                bool is_set;

                if (r < 0)
                        return r;
                is_set = atomic_load_explicit(&extra->mover, memory_order_acquire);
                word = nest_lock(&source->nest);
                if (is_set || !needs_timer(source, usec))
                        return 0;
                nest_unlock(&source->nest, word); /* it was moved to a later time */
        }
}

void mover_free(struct mover *mover)
{
        if (!mover)
                return;
        timer_disarm(&mover->timer);
        free(mover);
}
