/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "lib/local/extend.h"
#include "lib/local/handler.h"
#include "lib/local/later.h"
#include "lib/local/overdue.h"
#include "lib/local/shared.h"
#include "lib/local/walk.h"

/* How contexts become done. */

/* A context that has nothing below it is only made done: that takes no lock, and most are so. */
static inline bool is_leaf(const struct ctx *source)
{
        return !(atomic_load_explicit(&source->nest.word, memory_order_seq_cst) &
                        (CTX_LOCK | CTX_WALKING | NEST_TO_WALK));
}

/* Writes the new `end` of a source. Returns false if that is done already. */
static inline bool end_source(struct ctx *source, uintptr_t done)
{
        uintptr_t end = ctx_end_word(source);

        while (!(end & END_STATE))
                if (atomic_compare_exchange_weak(&source->end, &end, done))
                        return true;
        return false;
}

/* The source is done, and its lock is held. Makes all below it done, or waits until another thread has. */
static void walk_below(struct ctx *source, uint32_t word, uint64_t began, struct ctx_after **direct)
{
        if (!(word & CTX_WALKED) && word & NEST_TO_WALK) {
                walk_tree(source, word, began, direct);
        } else {
                nest_unlock(&source->nest, word | CTX_WALKED);
                if (word & CTX_WALKING)
                        walk_wait(source);
        }
}

/* Its child, if that is the only one, and a leaf without a deadline; with its lock, and its word in *ret. */
static struct ctx *lock_only_child(struct ctx *source, uint32_t word, uint32_t *ret)
{
        struct child *child = source->nest.first;
        struct ctx *ctx;

        if ((word & (CTX_WALKED | NEST_TO_WALK | CTX_STRIPED)) != CTX_KIDS || child->next ||
                        child->flags & (CHILD_AFTER | CHILD_ARM))
                return NULL;
        ctx = ctx_of_child(child);
        *ret = nest_lock_at(&ctx->nest, LOCK_NEST_BELOW);
        if (!(*ret & (CTX_WALKING | NEST_TO_WALK)) && ctx_end_word(ctx) == 0)
                return ctx;
        nest_unlock_at(&ctx->nest, *ret, LOCK_NEST_BELOW);
        return NULL;
}

/* No time is needed for that child, and no walk: the locks are held while both become done, so nothing with a
 * deadline is linked below it meanwhile. */
static bool end_with_child(struct ctx *source, uint32_t word, uintptr_t done, struct ctx *ctx, uint32_t below)
{
        bool first = end_source(source, done);

        done = ctx_end_word(source);
        cause_ref(cause_of(done));
        /* It may be cancelled itself at this moment: that needs no lock. */
        if (!end_source(ctx, done))
                later_cause_drop(cause_of(done), 1);
        nest_unlock_at(&ctx->nest, below, LOCK_NEST_BELOW);
        source->nest.first = NULL;
        /* This is the last access: its owner may free it from now on. */
        atomic_store_explicit(&ctx->child.place, PLACE_NONE, memory_order_release);
        nest_unlock(&source->nest, (word & ~CTX_KIDS) | CTX_WALKED);
        return first;
}

/* The thread is inside, so a handler does not wait here for the walk that it has interrupted, and a child of
 * a fork finds no walk. The caller has called nest_deeper() and leaves the rest to this function. late: this
 * call has made the source done before. */
__attribute__((noinline)) static bool end_and_below(struct ctx *source, uintptr_t done, bool late)
{
        struct ctx_after *direct = NULL;
        struct ctx *child;
        uint32_t word, below;
        uint64_t began;
        bool first;

        word = nest_lock(&source->nest);
        child = lock_only_child(source, word, &below);
        if (child) {
                first = end_with_child(source, word, done, child, below);
        } else {
                began = late ? 0 : walk_begin();
                first = end_source(source, done);
                walk_below(source, word, began, &direct);
                walk_over(began);
        }
        nest_less_deep();
        after_run_list(direct);
        return first;
}

int ctx_end(struct ctx *source, uint32_t state, struct cause *cause)
{
        uintptr_t done = (uintptr_t) cause | state;
        bool first = false, leaf;

        /* A fork leaves the end and what follows from it together. */
        inside_lock();
        leaf = is_leaf(source);
        if (__builtin_expect(leaf, 1))
                first = end_source(source, done);
        /* A child may have been linked meanwhile. */
        if (__builtin_expect(!leaf || !is_leaf(source), 0)) {
                nest_deeper();
                inside_unlock();
                first |= end_and_below(source, done, leaf);
        } else {
                inside_unlock();
        }
        if (!first)
                later_cause_drop(cause, 1);
        return first;
}

void ctx_finish(struct ctx *ctx, uint32_t state, struct cause *cause)
{
        if (__builtin_expect(nest_is_inside(), 0))
                handler_finish(ctx->source, (uintptr_t) cause | state);
        else
                ctx_end(ctx->source, state, cause);
}

__attribute__((noinline)) static void detach_arms(struct ctx_merge *merge)
{
        for (size_t i = 0; i < merge->n_arms; i++)
                if (merge->arms[i].child.parent)
                        child_unlink(&merge->arms[i].child, false);
}

/* A cancelled context leaves its parent's list. If it needs nothing else of the parent, it releases the
 * parent too: then its last unref takes no lock. The caller has a reference, and only one caller is the first
 * to cancel, so no other thread looks at these flags now. */
__attribute__((always_inline)) static inline void detach(struct ctx *ctx)
{
        bool alone = !(ctx->child.flags & CHILD_WIDE) &&
                     (!ctx->values || ctx->child.flags & CHILD_VALUES_REF);
        struct ctx *parent = ctx->child.parent;

        if (__builtin_expect(ctx->child.kind == CTX_KIND_MERGE, 0))
                detach_arms((struct ctx_merge *) ctx);
        if (parent && child_unlink(&ctx->child, alone)) {
                parent->source = NULL;
                later_contexts(parent);
        }
}

void ctx_end_postponed(struct ctx *ctx, uint64_t began, unsigned stripe, struct ctx_after **direct)
{
        struct ctx *dead = NULL;

        if (!is_leaf(ctx))
                walk_below(ctx, nest_lock(&ctx->nest), began, direct);
        walk_over_for(stripe, began);
        detach(ctx);
        ctx_drop(ctx, &dead);
        later_contexts(dead);
}

/* 0: it can be cancelled itself; -EPERM or -EINVAL. */
static int check_cancel(struct ctx *ctx)
{
        if (!ctx)
                return -EINVAL;
        switch ((enum ctx_kind) ctx->child.kind) {
        case CTX_KIND_CANCEL:
        case CTX_KIND_TIMED:
        case CTX_KIND_FOUND:
        case CTX_KIND_MERGE:
        case CTX_KIND_SHARED:
                return 0;
        case CTX_KIND_READONLY:
                return -EPERM;
        default:
                return -EINVAL;
        }
}

/* ctx is a local one. */
static inline int cancel_local(struct ctx *ctx, int error, const char *message)
{
        int r;

        /* If a deadline has passed, or a shared ancestor is done, that was first. */
        if (ctx_end_word(ctx) & (END_DEADLINE | END_SHARED))
                ctx_state(ctx);
        if (__builtin_expect(nest_is_inside(), 0))
                return handler_end(ctx, (uintptr_t) cause_without_text(error) | STATE_WORD_CANCELED);
        r = ctx_end(ctx, STATE_WORD_CANCELED,
                        message ? cause_new(error, message) : cause_without_text(error));
        if (r > 0)
                detach(ctx);
        return r;
}

int ctx_cancel_cause(struct ctx *ctx, int error, const char *message)
{
        int r = check_cancel(ctx);

        if (r < 0)
                return r;
        if (error < 0)
                return -EINVAL;
        if (ctx->child.kind == CTX_KIND_SHARED)
                return ((struct ctx_shared *) ctx)->ops->cancel((struct ctx_shared *) ctx, error, message);
        return cancel_local(ctx, error, message);
}

int ctx_cancel(struct ctx *ctx)
{
        /* What programs cancel most often. */
        if (__builtin_expect(ctx && (ctx->child.kind == CTX_KIND_CANCEL || ctx->child.kind == CTX_KIND_TIMED),
                            1))
                return cancel_local(ctx, 0, NULL);
        return ctx_cancel_cause(ctx, 0, NULL);
}
