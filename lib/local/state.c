/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "lib/local/shared.h"

/* What a context says of itself. The first thread that sees that a deadline has passed, or that a shared
 * ancestor is done, writes that into the word. Nothing that comes later can change it. */

static uint32_t latch(struct ctx *source, uint32_t state, struct cause *cause)
{
        uint32_t word = nest_lock(&source->nest);

        if (word & CTX_STATE) {
                nest_unlock(&source->nest, word);
                cause_drop(cause, 1);
                return word & CTX_STATE;
        }
        source->cause = cause;
        if (word & (CTX_KIDS | CTX_EXTRA | CTX_WAITERS))
                word |= CTX_UNWALKED;
        nest_unlock(&source->nest, word | state);
        return state;
}

static inline bool is_kept(const struct ctx_shared *shared)
{
        return !(atomic_load_explicit(shared->keeper, memory_order_relaxed) & STATE_KEEPER_DIED);
}

uint32_t ctx_shared_state(struct ctx_shared *shared)
{
        uint64_t word, deadline;

        if (__builtin_expect(!shared->word, 0))
                return (uint32_t) shared->ops->settle(shared, 0) & CTX_STATE;
        word = atomic_load_explicit(shared->word, memory_order_acquire);
        if (__builtin_expect(word != shared->given, 0))
                return (uint32_t) shared->ops->settle(shared, word) & CTX_STATE;
        deadline = atomic_load_explicit(shared->deadline_usec, memory_order_relaxed);
        if (__builtin_expect(deadline != CTX_NEVER, 0) && now_boottime_usec() >= deadline)
                return STATE_WORD_DEADLINE_EXCEEDED;
        if (__builtin_expect(!is_kept(shared), 0))
                return (uint32_t) shared->ops->settle(shared, word) & CTX_STATE;
        return STATE_WORD_ACTIVE;
}

static struct cause *deadline_cause(struct ctx *source)
{
        return source->child.flags & CHILD_WIDE ? cause_ref(((struct ctx_wide *) source)->deadline_cause)
                                                : CAUSE_DEFAULT;
}

uint32_t ctx_state(struct ctx *source)
{
        uint32_t word = atomic_load_explicit(&source->nest.word, memory_order_acquire), state;

        if (word & CTX_STATE)
                return word & CTX_STATE;
        if (word & CTX_SHARED) {
                state = ctx_shared_state((struct ctx_shared *) ((struct ctx_wide *) source)->done);
                if (state)
                        return latch(source, state, CAUSE_SHARED);
        }
        if (word & CTX_DEADLINE && now_boottime_usec() >= source->deadline_usec)
                return latch(source, STATE_WORD_DEADLINE_EXCEEDED, deadline_cause(source));
        return STATE_WORD_ACTIVE;
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

/* Programs call this most often. Its usual way lies in one cache line, whatever is linked before it. */
__attribute__((aligned(64))) int ctx_err(struct ctx *ctx)
{
        struct ctx *source;
        uint32_t word;

        if (__builtin_expect(!ctx, 0))
                return -EINVAL;
        source = ctx->source;
        word = atomic_load_explicit(&source->nest.word, memory_order_acquire);
        word &= CTX_STATE | CTX_DEADLINE | CTX_SHARED;
        if (__builtin_expect(!word, 1))
                return 0;
        if (word == CTX_SHARED && slot_is_quiet(source))
                return 0;
        return state_to_errno(ctx_state(source));
}

int ctx_cause(struct ctx *ctx, int *ret_error, const char **ret_message)
{
        uint32_t state;

        if (!ctx)
                return -EINVAL;
        state = ctx_state(ctx->source);
        if (!state)
                return 0;
        if (ctx->source->cause == CAUSE_SHARED) {
                struct ctx_shared *shared = (struct ctx_shared *) ((struct ctx_wide *) ctx->source)->done;

                return shared->ops->cause(shared, ret_error, ret_message);
        }
        cause_read(ctx->source->cause, state, ret_error, ret_message);
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
        uint64_t deadline = ctx->source->deadline_usec,
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
