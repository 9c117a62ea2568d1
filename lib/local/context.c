/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include "lib/local/extend.h"
#include "lib/local/found.h"
#include "lib/local/later.h"
#include "lib/local/overdue.h"
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
        bool wide = size >= sizeof(struct ctx_wide) || parent->child.flags & CHILD_WIDE;
        struct ctx *ctx;

        if (size < sizeof(struct ctx_wide) && wide)
                size += sizeof(struct ctx_wide) - sizeof(struct ctx);
        ctx = malloc(size);
        if (__builtin_expect(!ctx, 0))
                return NULL;

        /* Member by member: for all of it at once the compiler takes an instruction that is slow to begin. */
        atomic_init(&ctx->nest.word, 0);
        atomic_init(&ctx->nest.kids, 0);
        ctx->nest.first = NULL;
        atomic_init(&ctx->end, 0);
        ctx->source = ctx;
        ctx->child = (struct child){.refs = 1, .kind = (uint8_t) kind, .flags = wide ? CHILD_WIDE : 0};
        atomic_init(&ctx->deadline_usec, CTX_NEVER);
        ctx->values = parent->values;
        atomic_init(&ctx->extra, 0);
        if (__builtin_expect(wide, 0)) {
                struct ctx_wide *w = (struct ctx_wide *) ctx;

                w->shared = (struct ctx *) ctx_shared_above(parent);
                w->done = (struct ctx *) ctx_shared_done(parent);
                w->deadline_cause = w->own_cause = NULL;
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
static void inherit_deadline(struct ctx *ctx, struct ctx *source, uint64_t above)
{
        if (above > ctx_local_deadline(ctx))
                return;
        /* It was moved meanwhile. The own one is kept when it is looked at again. */
        if (ctx->child.kind == CTX_KIND_TIMED && !(ctx->child.flags & CHILD_OWN))
                return;
        atomic_store_explicit(&ctx->deadline_usec, above, memory_order_relaxed);
        if (!(ctx->child.flags & CHILD_WIDE))
                return;
        cause_drop(((struct ctx_wide *) ctx)->deadline_cause, 1);
        ((struct ctx_wide *) ctx)->deadline_cause = cause_ref(deadline_cause(source));
}

void ctx_link(struct ctx *ctx, struct ctx *parent)
{
        struct ctx *source = parent->source;
        uint64_t deadline_above = ctx_local_deadline(source);
        uintptr_t end = 0, above;

        if (__builtin_expect(deadline_above != CTX_NEVER, 0))
                inherit_deadline(ctx, source, deadline_above);
        if (ctx_local_deadline(ctx) != CTX_NEVER) {
                end |= END_DEADLINE;
                if (__builtin_expect(!atomic_load_explicit(&deadline_in_use, memory_order_relaxed), 0))
                        atomic_store(&deadline_in_use, true);
        }
        if (ctx->child.flags & CHILD_WIDE && ((struct ctx_wide *) ctx)->done) {
                atomic_store_explicit(&ctx->nest.word, CTX_SHARED, memory_order_relaxed);
                end |= END_SHARED;
        }
        atomic_store_explicit(&ctx->end, end, memory_order_relaxed);

        if (ctx_never_done(source)) {
                hold_above(ctx);
                return;
        }
        if (__builtin_expect(ctx->values != source->values, 0)) {
                ctx_ref(ctx->values);
                ctx->child.flags |= CHILD_VALUES_REF;
        }

        above = child_link(&ctx->child, source);
        if (__builtin_expect(above == 0, 1)) {
                if (__builtin_expect(ctx_local_deadline(source) != deadline_above ||
                                                     ctx_local_deadline(ctx) > deadline_above,
                                    0))
                        deadline_recheck(ctx);
        } else {
                hold_above(ctx);
                above = ctx_shared_pass_end(ctx, source, above);
                cause_ref(cause_of(above));
                atomic_store_explicit(&ctx->end, above, memory_order_relaxed);
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
__attribute__((cold, noinline)) static bool orphan(struct ctx *ctx)
{
        bool striped = atomic_load_explicit(&ctx->nest.word, memory_order_acquire) & CTX_STRIPED;
        struct stripe *stripes = striped ? atomic_load(&ctx_known_extra(ctx)->stripes) : NULL;
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
                 * its client's list and by its done handle until it is freed, and one whose deadline was
                 * moved by its timer. */
                if (place != PLACE_LINKED && !ctx_known_extra(ctx) && ctx->child.kind != CTX_KIND_MERGE &&
                                ctx->child.kind != CTX_KIND_SHARED && ctx->child.kind != CTX_KIND_FOUND)
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

/* Its parent may have been freed. */
static bool has_left(const struct child *child)
{
        return !child->parent || atomic_load_explicit(&child->place, memory_order_acquire) == PLACE_RELEASED;
}

static void leave_tree(struct child *child, struct ctx **dead)
{
        if (!has_left(child) && child_unlink(child, true))
                ctx_dead_add(child->parent, dead);
}

static void destroy_source(struct ctx *ctx, struct ctx **dead)
{
        if (ctx->child.kind == CTX_KIND_FOUND)
                ((struct ctx_found *) ctx)->leave((struct ctx_found *) ctx);
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
        if (ctx->child.flags & CHILD_WIDE) {
                cause_drop(((struct ctx_wide *) ctx)->deadline_cause, 1);
                cause_drop(((struct ctx_wide *) ctx)->own_cause, 1);
        }
        if (ctx_is_done(ctx))
                cause_drop(cause_of(ctx_end_word(ctx)), 1);
        extra_free(ctx);
}

void ctx_dead_free(struct ctx *dead)
{
        while (dead || (dead = later_take())) {
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

/* Most contexts need nothing of their parent. */
static bool is_plain(const struct ctx *ctx)
{
        return (ctx->child.kind == CTX_KIND_CANCEL || ctx->child.kind == CTX_KIND_TIMED) &&
               ctx->child.flags == 0 && !ctx->values;
}

/* Nothing but its memory and a descriptor is left of it: most contexts that were cancelled themselves are
 * so. */
static bool holds_nothing(const struct ctx *ctx)
{
        return has_left(&ctx->child) && !ctx_known_extra(ctx) &&
               !cause_is_object(cause_of(ctx_end_word(ctx)));
}

/* The program gives up the only reference. A context that leaves the tree first is found by nobody from then
 * on, and needs no atomic step to be given up. But a timer may find one with a struct extra. */
static void leave_first(struct ctx *ctx)
{
        struct ctx *parent = ctx->child.parent;

        if (atomic_load_explicit(&ctx->child.place, memory_order_relaxed) == PLACE_LINKED &&
                        atomic_load_explicit(&ctx->child.refs, memory_order_relaxed) == 1 &&
                        !ctx_known_extra(ctx) && has_no_kids(ctx) && child_unlink(&ctx->child, true)) {
                parent->source = NULL;
                ctx_dead_free(parent);
        }
}

struct ctx *ctx_unref(struct ctx *ctx)
{
        bool plain;

        if (!ctx || ctx->child.flags & CHILD_STATIC)
                return NULL;
        plain = is_plain(ctx);
        if (plain)
                leave_first(ctx);
        if (!release(ctx)) {
                ctx = NULL;
        } else if (plain && holds_nothing(ctx)) {
                if (atomic_load_explicit(&ctx->extra, memory_order_relaxed) != 0)
                        extra_free(ctx);
                free(ctx);
                ctx = NULL;
        } else {
                ctx->source = NULL;
        }
        if (__builtin_expect(ctx || atomic_load_explicit(&later_any, memory_order_relaxed), 0))
                ctx_dead_free(ctx);
        return NULL;
}
