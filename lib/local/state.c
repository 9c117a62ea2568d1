/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "lib/local/deadline.h"
#include "lib/local/later.h"
#include "lib/local/overdue.h"
#include "lib/local/shared.h"

/* What a context says of itself. The first thread that sees that a deadline has passed, or that a shared
 * ancestor is done, writes that into `end`. Nothing that comes later can change it. */

static inline bool is_kept(const struct ctx_shared *shared)
{
        return !(atomic_load_explicit(shared->keeper, memory_order_relaxed) & STATE_KEEPER_DIED);
}

/* By the page alone; STATE_WORD_ACTIVE also if it has to be settled by other means. */
static uint32_t slot_state(struct ctx_shared *shared)
{
        uint64_t word, deadline, again;

        word = atomic_load_explicit(shared->word, memory_order_acquire);
        if (__builtin_expect(word != shared->given, 0))
                return (uint32_t) shared->ops->settle(shared, word) & STATE_WORD_MASK;
        for (deadline = atomic_load_explicit(shared->deadline_usec, memory_order_acquire);
                        __builtin_expect(deadline != CTX_NEVER, 0) && deadline_has_passed(deadline);
                        deadline = again) {
                /* If this thread has slept before it has looked at the clock, there may have been a cancel or
                 * an Extend in time. */
                again = atomic_load_explicit(shared->deadline_usec, memory_order_acquire);
                word = atomic_load_explicit(shared->word, memory_order_acquire);
                if (word != shared->given)
                        return (uint32_t) shared->ops->settle(shared, word) & STATE_WORD_MASK;
                if (again == deadline)
                        return STATE_WORD_DEADLINE_EXCEEDED;
        }
        if (__builtin_expect(!is_kept(shared), 0))
                return (uint32_t) shared->ops->settle(shared, word) & STATE_WORD_MASK;
        return STATE_WORD_ACTIVE;
}

uint32_t ctx_shared_state(struct ctx_shared *shared)
{
        if (__builtin_expect(!shared->word, 0))
                return (uint32_t) shared->ops->settle(shared, 0) & STATE_WORD_MASK;
        return slot_state(shared);
}

/* What an active context has to be done for by now: its new `end`, with a reference on the cause. 0:
 * nothing. */
static uintptr_t due_end(struct ctx *source, uintptr_t end)
{
        if (end & END_SHARED) {
                uint32_t state = ctx_shared_state((struct ctx_shared *) ((struct ctx_wide *) source)->done);

                if (state)
                        return (uintptr_t) CAUSE_SHARED | state;
        }
        if (end & END_DEADLINE && deadline_has_passed(ctx_local_deadline(source)))
                return deadline_end(source);
        return 0;
}

uint32_t ctx_state(struct ctx *source)
{
        uintptr_t end = ctx_end_word(source), due;

        while (!(end & END_STATE)) {
                due = due_end(source, end);
                if (due == 0)
                        return STATE_WORD_ACTIVE;
                /* If there was a cancel meanwhile, that counts. If the deadline was moved, it is looked at
                 * again. */
                if (atomic_compare_exchange_strong(&source->end, &end, due))
                        end = due;
                else
                        later_cause_drop(cause_of(due), 1);
        }
        return end & END_STATE;
}

/* The word of the slot is unchanged, and there is no deadline. Most calls under a shared context find
 * that. */
static inline bool slot_is_quiet(const struct ctx *source)
{
        const struct ctx_shared *shared =
                        (const struct ctx_shared *) ((const struct ctx_wide *) source)->done;

        return shared->word && atomic_load_explicit(shared->word, memory_order_acquire) == shared->given &&
               atomic_load_explicit(shared->deadline_usec, memory_order_relaxed) == CTX_NEVER &&
               is_kept(shared);
}

/* These two are not inline, so that the usual way of ctx_err() saves no registers. */
__attribute__((noinline)) static int err_slow(struct ctx *source)
{
        return state_to_errno(ctx_state(source));
}

__attribute__((noinline)) static int err_timed(struct ctx *source)
{
        return deadline_has_passed(ctx_local_deadline(source)) ? err_slow(source) : 0;
}

/* Programs call this most often. Its usual way lies in one cache line, whatever is linked before it. */
__attribute__((aligned(64))) int ctx_err(struct ctx *ctx)
{
        struct ctx *source;
        uintptr_t end;

        if (__builtin_expect(!ctx, 0))
                return -EINVAL;
        source = ctx->source;
        end = ctx_end_word(source);
        if (__builtin_expect(!end, 1))
                return 0;
        if (end == END_SHARED && slot_is_quiet(source))
                return 0;
        return end & (END_STATE | END_SHARED) ? err_slow(source) : err_timed(source);
}

int ctx_cause(struct ctx *ctx, int *ret_error, const char **ret_message)
{
        struct cause *cause;
        uint32_t state;

        if (!ctx)
                return -EINVAL;
        state = ctx_state(ctx->source);
        if (!state)
                return 0;
        cause = cause_of(ctx_end_word(ctx->source));
        if (cause == CAUSE_SHARED) {
                struct ctx_shared *shared = (struct ctx_shared *) ((struct ctx_wide *) ctx->source)->done;

                return shared->ops->cause(shared, ret_error, ret_message);
        }
        cause_read(cause, state, ret_error, ret_message);
        return 1;
}

uint64_t ctx_shared_deadline(struct ctx_shared *shared)
{
        if (shared->deadline_usec)
                return atomic_load_explicit(shared->deadline_usec, memory_order_relaxed);
        return shared->ops->deadline ? shared->ops->deadline(shared) : CTX_NEVER;
}

uint64_t ctx_deadline_usec(struct ctx *ctx)
{
        struct ctx_shared *shared = ctx_shared_done(ctx);
        uint64_t deadline = ctx_local_deadline(ctx->source),
                 above = shared ? ctx_shared_deadline(shared) : CTX_NEVER;

        return above < deadline ? above : deadline;
}

int ctx_deadline(struct ctx *ctx, uint64_t *ret_boottime_usec)
{
        uint64_t deadline;

        if (!ctx)
                return -EINVAL;
        deadline = ctx_deadline_usec(ctx);
        if (deadline == CTX_NEVER)
                return 0;
        if (ret_boottime_usec)
                *ret_boottime_usec = deadline;
        return 1;
}

uint64_t ctx_remaining(struct ctx *ctx)
{
        uint64_t deadline, now;

        if (!ctx)
                return CTX_NEVER;
        deadline = ctx_deadline_usec(ctx);
        if (deadline == CTX_NEVER)
                return CTX_NEVER;
        now = now_boottime_usec();
        return deadline > now ? deadline - now : 0;
}
