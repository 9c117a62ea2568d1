/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lib/blocking/ctx-futex.h"
#include "lib/local/patience.h"
#include "lib/local/shared.h"

/* Sleeps until a word changes or a context is done, whichever comes first. */

static int watch(struct ctx *ctx, struct ctx_shared *shared)
{
        uint64_t before = patience_begin_ctx(ctx);
        int r = shared->ops->watch(shared);

        patience_end(before);
        return r;
}

int ctx_futex_begin(struct ctx *ctx)
{
        struct ctx_shared *shared = ctx_shared_done(ctx);
        uint32_t state = ctx_state(ctx->source);
        uint64_t usec;
        int fd, r;

        if (state)
                return state_to_errno(state);
        if (!shared || (shared->ops->before_sleep && !shared->ops->before_sleep(shared, &fd, &usec)))
                return 0;
        r = watch(ctx, shared);
        /* If there is no daemon to ask, ctx_futex_wait() tries again. */
        return r < 0 && shared->ops->has_no_daemon && shared->ops->has_no_daemon(shared) ? 0 : r;
}

#define WATCH_AGAIN_USEC 50000

/* For how long to sleep at most. Without limit, if the library makes the context done in time. */
static uint64_t look_usec(struct ctx *ctx, struct ctx_shared *shared)
{
        uint64_t usec;
        int fd;

        if (shared->ops->before_sleep && !shared->ops->before_sleep(shared, &fd, &usec))
                return usec;
        return watch(ctx, shared) < 0 ? WATCH_AGAIN_USEC : CTX_NEVER;
}

int ctx_futex_wait(struct ctx *ctx, _Atomic uint32_t *word, uint32_t value, enum futex_cancel cancel)
{
        struct futex_pair pair = {.word = word, .value = value};
        struct ctx_shared *shared = ctx_shared_done(ctx);
        struct ctx *source = ctx->source;
        uint64_t left = CTX_NEVER;
        uint32_t state;

        if (ctx_never_done(source)) {
                futex_wait_pair(&pair, CTX_NEVER, cancel);
                return 0;
        }
        pair.other = &source->nest.word;
        pair.other_value = ctx_announce_wait(source);
        state = ctx_state(source);
        if (state)
                return state_to_errno(state);
        if (ctx_deadline_usec(source) != CTX_NEVER)
                left = ctx_remaining(source);
        if (shared) {
                uint64_t usec = look_usec(ctx, shared);

                left = usec < left ? usec : left;
        }
        futex_wait_pair(&pair, left, cancel);
        return state_to_errno(ctx_state(source));
}
