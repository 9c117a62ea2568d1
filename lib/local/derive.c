/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "lib/local/ctx.h"

/* The functions that make one context from another. */

struct ctx *ctx_with_cancel(struct ctx *parent)
{
        struct ctx *ctx;

        if (!parent) {
                errno = EINVAL;
                return NULL;
        }
        ctx = ctx_alloc(sizeof(struct ctx), CTX_KIND_CANCEL, parent);
        if (ctx)
                ctx_link(ctx, parent);
        return ctx;
}

uint64_t deadline_after(uint64_t usec)
{
        struct timespec ts;
        uint64_t now, deadline;

        if (usec == CTX_NEVER)
                return CTX_NEVER;
        clock_gettime(CLOCK_BOOTTIME, &ts);
        now = (uint64_t) ts.tv_sec * 1000000 + ((uint64_t) ts.tv_nsec + 999) / 1000;
        return __builtin_add_overflow(now, usec, &deadline) ? CTX_NEVER : deadline;
}

/* With its own deadline, and not linked yet. */
static struct ctx *timed_alloc(size_t size, struct ctx *parent, uint64_t usec)
{
        /* If it is not the earliest one, it may become that. */
        bool keep = usec != CTX_NEVER && usec >= ctx_local_deadline(parent->source);
        struct ctx *ctx;

        ctx = ctx_alloc(size + (keep ? sizeof(uint64_t) : 0),
                        usec == CTX_NEVER ? CTX_KIND_CANCEL : CTX_KIND_TIMED, parent);
        if (!ctx)
                return NULL;
        atomic_store_explicit(&ctx->deadline_usec, usec, memory_order_relaxed);
        if (keep) {
                ctx->child.flags |= CHILD_OWN;
                *ctx_own_deadline(ctx) = usec;
        }
        return ctx;
}

struct ctx *ctx_with_deadline(struct ctx *parent, uint64_t boottime_usec)
{
        struct ctx *ctx;

        if (!parent) {
                errno = EINVAL;
                return NULL;
        }
        ctx = timed_alloc(sizeof(struct ctx), parent, boottime_usec);
        if (ctx)
                ctx_link(ctx, parent);
        return ctx;
}

struct ctx *ctx_with_timeout(struct ctx *parent, uint64_t usec)
{
        return ctx_with_deadline(parent, usec == 0 ? 0 : deadline_after(usec));
}

struct ctx *ctx_with_deadline_cause(
                struct ctx *parent, uint64_t boottime_usec, int error, const char *message)
{
        struct ctx_wide *wide;
        struct cause *cause;

        if (!parent || error < 0) {
                errno = EINVAL;
                return NULL;
        }
        cause = cause_new(error, message);
        if (cause_has_text(message) && !cause_is_object(cause)) {
                errno = ENOMEM;
                return NULL;
        }
        wide = (struct ctx_wide *) timed_alloc(sizeof(struct ctx_wide), parent, boottime_usec);
        if (!wide) {
                cause_drop(cause, 1);
                return NULL;
        }
        wide->own_cause = cause;
        wide->deadline_cause = cause_ref(cause);
        ctx_link(&wide->ctx, parent);
        return &wide->ctx;
}

struct ctx *ctx_with_timeout_cause(struct ctx *parent, uint64_t usec, int error, const char *message)
{
        return ctx_with_deadline_cause(parent, usec == 0 ? 0 : deadline_after(usec), error, message);
}

struct ctx *ctx_without_cancel(struct ctx *parent)
{
        struct ctx *ctx;

        if (!parent) {
                errno = EINVAL;
                return NULL;
        }
        ctx = ctx_alloc(sizeof(struct ctx), CTX_KIND_WITHOUT_CANCEL, parent);
        if (!ctx)
                return NULL;
        if (ctx->child.flags & CHILD_WIDE)
                ((struct ctx_wide *) ctx)->done = NULL;
        ctx_link(ctx, ctx_background());
        return ctx;
}

/* Makes ctx a view of parent: it has the state, deadline and cause of parent's source, and holds parent. */
static void view(struct ctx *ctx, struct ctx *parent)
{
        ctx->source = parent->source;
        ctx->child.parent = ctx_ref(parent);
}

struct ctx *ctx_readonly(struct ctx *parent)
{
        struct ctx *ctx;

        if (!parent) {
                errno = EINVAL;
                return NULL;
        }
        ctx = ctx_alloc(sizeof(struct ctx), CTX_KIND_READONLY, parent);
        if (ctx)
                view(ctx, parent);
        return ctx;
}

struct ctx *ctx_with_value(
                struct ctx *parent, const struct ctx_key *key, void *value, void (*destroy)(void *value))
{
        struct ctx_value *ctx;

        if (!parent || !key) {
                errno = EINVAL;
                return NULL;
        }
        ctx = (struct ctx_value *) ctx_alloc(sizeof(struct ctx_value), CTX_KIND_VALUE, parent);
        if (!ctx)
                return NULL;

        view(&ctx->wide.ctx, parent);
        ctx->key = key;
        ctx->value = value;
        ctx->destroy = destroy;
        ctx->above = parent->values;
        ctx->wide.ctx.values = &ctx->wide.ctx;
        return &ctx->wide.ctx;
}

/* Its loop lies in one cache line, whatever is linked before it. */
__attribute__((aligned(64))) void *ctx_value(struct ctx *ctx, const struct ctx_key *key)
{
        const struct ctx_value *v;

        if (!ctx || !key)
                return NULL;
        for (v = (const struct ctx_value *) ctx->values; v; v = (const struct ctx_value *) v->above)
                if (v->key == key)
                        return v->value;
        return NULL;
}
