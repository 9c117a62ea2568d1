/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "lib/local/extend.h"
#include "lib/local/shared.h"

/* A context with several parents. It is a child of the first one, as any other context is. In the list of
 * each other parent there is an arm, which leads to the merge: a cancel that finds an arm goes on at the
 * merge. A context is made after its parents, so there is no cycle. */

static uintptr_t arm_link(struct ctx_merge *merge, struct arm *arm, struct ctx *other)
{
        struct ctx *source = other->source;

        *arm = (struct arm){.child = {.kind = CTX_KIND_MERGE, .flags = CHILD_ARM}, .merge = &merge->wide.ctx};
        return ctx_never_done(source) ? 0 : child_link(&arm->child, source);
}

static void earliest_deadline(struct ctx_merge *merge, struct ctx *const *others, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                struct ctx *source = others[i]->source;

                uint64_t deadline = ctx_local_deadline(source);

                if (deadline >= ctx_local_deadline(&merge->wide.ctx))
                        continue;
                atomic_store_explicit(&merge->wide.ctx.deadline_usec, deadline, memory_order_relaxed);
                cause_drop(merge->wide.deadline_cause, 1);
                merge->wide.deadline_cause = cause_ref(deadline_cause(source));
        }
}

/* Finds the shared contexts that can make the merge done. If there are several, one is made that stands for
 * all. The merge gets a reference of its own. */
static int any_shared(struct ctx_merge *merge, struct ctx *const *others, size_t n)
{
        struct ctx *first = merge->wide.done, *same = first;
        struct ctx_shared **parts, *shared;
        size_t n_parts = 0;

        for (size_t i = 0; i < n; i++) {
                struct ctx *done = (struct ctx *) ctx_shared_done(others[i]);

                if (done && !same)
                        same = done;
                if (done && done != same)
                        n_parts = 1; /* there are several */
        }
        if (n_parts == 0) {
                if (same && same != first) {
                        merge->wide.done = ctx_ref(same);
                        merge->wide.ctx.child.flags |= CHILD_DONE_REF;
                }
                return 0;
        }

        parts = calloc(n + 1, sizeof(struct ctx_shared *));
        if (!parts)
                return -ENOMEM;
        n_parts = 0;
        if (first)
                parts[n_parts++] = (struct ctx_shared *) first;
        for (size_t i = 0; i < n; i++) {
                shared = ctx_shared_done(others[i]);
                if (shared)
                        parts[n_parts++] = shared;
        }
        shared = ctx_shared_any_of(parts, n_parts);
        free(parts);
        if (!shared)
                return -ENOMEM;
        merge->wide.done = &shared->wide.ctx;
        merge->wide.ctx.child.flags |= CHILD_DONE_REF;
        return 0;
}

struct ctx *ctx_merge(struct ctx *parent, struct ctx *const *others, size_t n)
{
        struct ctx_merge *merge;
        struct ctx *ctx;
        size_t size;

        if (!parent || (n > 0 && !others) || n > INT_MAX)
                goto invalid;
        for (size_t i = 0; i < n; i++)
                if (!others[i])
                        goto invalid;
        if (__builtin_mul_overflow(n, sizeof(struct arm), &size) ||
                        __builtin_add_overflow(size, sizeof(struct ctx_merge), &size)) {
                errno = ENOMEM;
                return NULL;
        }
        merge = (struct ctx_merge *) ctx_alloc(size, CTX_KIND_MERGE, parent);
        if (!merge)
                return NULL;
        ctx = &merge->wide.ctx;
        merge->n_arms = 0;
        if (any_shared(merge, others, n) < 0) {
                free(merge);
                errno = ENOMEM;
                return NULL;
        }
        earliest_deadline(merge, others, n);
        ctx_link(ctx, parent);

        /* From here on a cancel may come from above at any time. */
        for (size_t i = 0; i < n; i++) {
                uintptr_t end = arm_link(merge, &merge->arms[i], others[i]);

                atomic_store_explicit(&merge->n_arms, i + 1, memory_order_release);
                if (__builtin_expect(end != 0, 0)) {
                        end = ctx_shared_pass_end(ctx, others[i]->source, end);
                        ctx_end(ctx, end & END_STATE, cause_ref(cause_of(end)));
                }
        }
        if (atomic_load(&deadline_moves))
                deadline_recheck(ctx);
        return ctx;

invalid:
        errno = EINVAL;
        return NULL;
}
