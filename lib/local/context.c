/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include "lib/local/shared.h"

/* How contexts are allocated, linked and freed. */

#define STATIC_CONTEXT(name, the_kind)                                                 \
        static struct ctx name = {                                                     \
                        .source = &name,                                               \
                        .child = {.kind = the_kind, .flags = CHILD_STATIC, .refs = 1}, \
                        .deadline_usec = CTX_NEVER,                                    \
        }

STATIC_CONTEXT(background, CTX_KIND_BACKGROUND);
STATIC_CONTEXT(todo, CTX_KIND_TODO);

struct ctx *ctx_background(void)
{
        return &background;
}

struct ctx *ctx_todo(void)
{
        return &todo;
}

struct ctx *ctx_ref(struct ctx *ctx)
{
        if (ctx && !(ctx->child.flags & CHILD_STATIC))
                atomic_fetch_add_explicit(&ctx->child.refs, 1, memory_order_relaxed);
        return ctx;
}

bool ctx_ref_if_alive(struct ctx *ctx)
{
        return refs_take_if_alive(&ctx->child.refs);
}

struct ctx *ctx_alloc(size_t size, enum ctx_kind kind, struct ctx *parent)
{
        bool wide = size > sizeof(struct ctx) || parent->child.flags & CHILD_WIDE;
        struct ctx *ctx;

        if (size < sizeof(struct ctx_wide) && wide)
                size = sizeof(struct ctx_wide);
        ctx = malloc(size);
        if (__builtin_expect(!ctx, 0))
                return NULL;

        *ctx = (struct ctx){
                        .source = ctx,
                        .child = {.refs = 1, .kind = (uint8_t) kind, .flags = wide ? CHILD_WIDE : 0},
                        .deadline_usec = CTX_NEVER,
                        .values = parent->values,
        };
        if (__builtin_expect(wide, 0)) {
                struct ctx_wide *w = (struct ctx_wide *) ctx;

                w->shared = (struct ctx *) ctx_shared_above(parent);
                w->done = (struct ctx *) ctx_shared_done(parent);
                w->deadline_cause = NULL;
        }
        return ctx;
}

/* The place in the tree does not keep alive what is above. So the context holds references. */
static void hold_above(struct ctx *ctx)
{
        struct ctx_shared *shared = ctx_shared_above(ctx);

        if (ctx->values && !(ctx->child.flags & CHILD_VALUES_REF)) {
                ctx_ref(ctx->values);
                ctx->child.flags |= CHILD_VALUES_REF;
        }
        if (shared) {
                ctx_ref(&shared->wide.ctx);
                ctx->child.flags |= CHILD_SHARED_REF;
        }
        if (ctx->child.flags & CHILD_WIDE && ((struct ctx_wide *) ctx)->done &&
                        !(ctx->child.flags & CHILD_DONE_REF)) {
                ctx_ref(((struct ctx_wide *) ctx)->done);
                ctx->child.flags |= CHILD_DONE_REF;
        }
}

/* Inherits the parent's deadline and its cause, unless the context's own deadline is earlier. */
static void inherit_deadline(struct ctx *ctx, struct ctx *source)
{
        struct cause *cause;

        if (source->deadline_usec == CTX_NEVER || source->deadline_usec > ctx->deadline_usec)
                return;
        ctx->deadline_usec = source->deadline_usec;
        if (!(ctx->child.flags & CHILD_WIDE))
                return;
        cause = source->child.flags & CHILD_WIDE ? ((struct ctx_wide *) source)->deadline_cause : NULL;
        cause_drop(((struct ctx_wide *) ctx)->deadline_cause, 1);
        ((struct ctx_wide *) ctx)->deadline_cause = cause_ref(cause);
}

void ctx_link(struct ctx *ctx, struct ctx *parent)
{
        struct ctx *source = parent->source;
        uint32_t word = 0, state;

        if (__builtin_expect(source->deadline_usec != CTX_NEVER, 0))
                inherit_deadline(ctx, source);
        if (ctx->deadline_usec != CTX_NEVER)
                word |= CTX_DEADLINE;
        if (ctx->child.flags & CHILD_WIDE && ((struct ctx_wide *) ctx)->done)
                word |= CTX_SHARED;
        atomic_store_explicit(&ctx->nest.word, word, memory_order_relaxed);

        if (ctx_never_done(source)) {
                hold_above(ctx);
                return;
        }
        if (__builtin_expect(ctx->values != source->values, 0)) {
                ctx_ref(ctx->values);
                ctx->child.flags |= CHILD_VALUES_REF;
        }

        state = child_link(&ctx->child, source);
        if (__builtin_expect(state != 0, 0)) {
                hold_above(ctx);
                ctx->cause = cause_ref(source->cause);
                atomic_store_explicit(&ctx->nest.word, word | state, memory_order_relaxed);
        }
}

static bool is_source(const struct ctx *ctx)
{
        return ctx->source == ctx;
}

/* Returns true if no child holds this context and none is leaving its nest. The caller has the only
 * reference, so that no new child can come. */
static bool has_no_kids(struct ctx *ctx)
{
        return atomic_load_explicit(&ctx->nest.kids, memory_order_acquire) == 0 &&
               !(atomic_load_explicit(&ctx->nest.word, memory_order_acquire) & (CTX_LOCK | CTX_STRIPED));
}

/* The last reference of the program goes, and there are children. From now on each nest with children counts
 * as one reference, which its last child gives up. Returns true if there was no such nest. */
static bool orphan(struct ctx *ctx)
{
        struct stripe *stripes = ctx->extra ? atomic_load(&ctx->extra->stripes) : NULL;
        unsigned n = 1 + (stripes ? n_stripes : 0);
        uint32_t surplus = 1;

        atomic_fetch_add_explicit(&ctx->child.refs, n, memory_order_relaxed);
        for (unsigned i = 0; i < n; i++) {
                struct nest *nest = i ? &stripes[i - 1].nest : &ctx->nest;
                uint32_t word = nest_lock(nest);

                if (atomic_load_explicit(&nest->kids, memory_order_relaxed) > 0)
                        word |= CTX_ORPHAN;
                else
                        surplus++;
                nest_unlock(nest, word);
        }
        return atomic_fetch_sub_explicit(&ctx->child.refs, surplus, memory_order_acq_rel) == surplus;
}

/* Gives a reference up. Returns true if the caller has to free the context. */
static bool release(struct ctx *ctx)
{
        for (;;) {
                /* The order of these two loads matters: a walk takes its reference before it writes that the
                 * context is not linked any more. */
                uint8_t place = atomic_load_explicit(&ctx->child.place, memory_order_acquire);
                uint32_t refs = atomic_load_explicit(&ctx->child.refs, memory_order_acquire);

                if (refs > 1) {
                        if (atomic_compare_exchange_weak_explicit(&ctx->child.refs, &refs, refs - 1,
                                            memory_order_acq_rel, memory_order_relaxed))
                                return false;
                        continue;
                }
                if (__builtin_expect(is_source(ctx) && !has_no_kids(ctx), 0))
                        return orphan(ctx);
                /* If no other thread can find it, the count may stay as it is. A shared context is found in
                 * its client's list and by its done handle until it is freed. */
                if (place != PLACE_LINKED && ctx->child.kind != CTX_KIND_MERGE &&
                                ctx->child.kind != CTX_KIND_SHARED)
                        return true;
                return atomic_fetch_sub_explicit(&ctx->child.refs, 1, memory_order_acq_rel) == 1;
        }
}

void ctx_dead_add(struct ctx *ctx, struct ctx **dead)
{
        /* A walk may still find it in its parent's list. It looks at the word then, but not at this field. */
        ctx->source = *dead;
        *dead = ctx;
}

void ctx_drop(struct ctx *ctx, struct ctx **dead)
{
        if (!(ctx->child.flags & CHILD_STATIC) && release(ctx))
                ctx_dead_add(ctx, dead);
}

static void leave_tree(struct child *child, struct ctx **dead)
{
        if (child->parent && atomic_load_explicit(&child->place, memory_order_acquire) != PLACE_RELEASED &&
                        child_unlink(child, true))
                ctx_dead_add(child->parent, dead);
}

static void destroy_source(struct ctx *ctx, struct ctx **dead)
{
        if (ctx->child.kind == CTX_KIND_MERGE) {
                struct ctx_merge *merge = (struct ctx_merge *) ctx;

                for (size_t i = 0; i < merge->n_arms; i++)
                        leave_tree(&merge->arms[i].child, dead);
        }
        leave_tree(&ctx->child, dead);
        if (ctx->child.flags & CHILD_VALUES_REF)
                ctx_drop(ctx->values, dead);
        if (ctx->child.flags & CHILD_SHARED_REF)
                ctx_drop(((struct ctx_wide *) ctx)->shared, dead);
        if (ctx->child.flags & CHILD_DONE_REF)
                ctx_drop(((struct ctx_wide *) ctx)->done, dead);
        if (ctx->child.flags & CHILD_WIDE)
                cause_drop(((struct ctx_wide *) ctx)->deadline_cause, 1);
        cause_drop(ctx->cause, 1);
        if (ctx->extra)
                extra_free(ctx->extra);
}

void ctx_dead_free(struct ctx *dead)
{
        while (dead) {
                struct ctx *ctx = dead;

                dead = ctx->source;
                switch ((enum ctx_kind) ctx->child.kind) {
                case CTX_KIND_VALUE:
                        lock_order_none();
                        if (((struct ctx_value *) ctx)->destroy)
                                ((struct ctx_value *) ctx)->destroy(((struct ctx_value *) ctx)->value);
                        ctx_drop(ctx->child.parent, &dead);
                        break;
                case CTX_KIND_READONLY:
                        ctx_drop(ctx->child.parent, &dead);
                        break;
                default:
                        destroy_source(ctx, &dead);
                        break;
                }
                if (ctx->child.kind == CTX_KIND_SHARED)
                        ((struct ctx_shared *) ctx)->ops->free((struct ctx_shared *) ctx);
                else
                        free(ctx);
        }
}

struct ctx *ctx_unref(struct ctx *ctx)
{
        struct ctx *dead = NULL;

        if (!ctx)
                return NULL;
        ctx_drop(ctx, &dead);
        if (dead)
                ctx_dead_free(dead);
        return NULL;
}
