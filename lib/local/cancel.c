/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "lib/local/callback-thread.h"
#include "lib/local/shared.h"

/* A cancel writes the state into every descendant.
 *
 * The walk goes depth first, without recursion, and allocates nothing: the contexts between the root and the
 * current one are strung together by a field that they do not need meanwhile. Each of them is marked
 * CTX_WALKING until everything below it is done. A leaf is made done and unlinked at once, under the parent's
 * lock. A context with children, waiters, a descriptor or callbacks is referenced and unlinked, and then the
 * walk goes into it without holding a lock.
 *
 * A walk that comes upon a context in which another walk is waits for that one, because a cancel must not
 * return before everything below is done. One walk waits for another only at a context below all that it has
 * marked itself. So two walks never wait for each other. */

/* After so many leaves the parent's lock is released once, so that other threads get it. */
#define LEAVES_AT_ONCE 64
#define CAUSE_ADVANCE (INT64_C(1) << 40)

struct walk {
        struct cause *cause; /* references on it are taken many at a time */
        int64_t n_causes;
        uint64_t now_usec; /* the time when it was first needed; 0: not needed yet */
        bool wake;         /* the callback thread has something to run */
        struct ctx_after *direct;
        struct ctx *dead;
};

static struct cause *walk_cause(struct walk *walk, struct cause *cause)
{
        if (!cause_is_object(cause))
                return cause;
        if (cause != walk->cause) {
                cause_drop(walk->cause, CAUSE_ADVANCE - walk->n_causes);
                atomic_fetch_add_explicit(&cause->refs, CAUSE_ADVANCE, memory_order_relaxed);
                walk->cause = cause;
                walk->n_causes = 0;
        }
        walk->n_causes++;
        return cause;
}

static void walk_finish(struct walk *walk)
{
        cause_drop(walk->cause, CAUSE_ADVANCE - walk->n_causes);
        if (walk->wake)
                callback_thread_wake();
        after_run_list(walk->direct);
        ctx_dead_free(walk->dead);
}

static bool is_overdue(struct walk *walk, const struct ctx *ctx)
{
        if (walk->now_usec == 0)
                walk->now_usec = now_boottime_usec();
        return walk->now_usec >= ctx->deadline_usec;
}

static void wait_for_walk(struct ctx *source)
{
        for (unsigned n = 0;; n++) {
                uint32_t word = atomic_load_explicit(&source->nest.word, memory_order_acquire);

                /* After a fork the other walk may be one of a thread of the parent process, and never ends
                 * here. */
                if (!(word & CTX_WALKING) || (fork_generation > 0 && n > 100))
                        return;
                word = nest_lock(&source->nest);
                nest_unlock(&source->nest, word | CTX_WAITERS);
                if (word & CTX_WALKING)
                        futex_wait_for(&source->nest.word, word | CTX_WAITERS,
                                        fork_generation > 0 ? 10000 : CTX_NEVER);
        }
}

static void end_of_walk(struct ctx *source)
{
        uint32_t word = nest_lock(&source->nest);

        nest_unlock(&source->nest, word & ~CTX_WALKING);
        if (word & CTX_WAITERS)
                futex_wake_all(&source->nest.word);
}

static void notify(struct ctx *source)
{
        uint32_t word = atomic_load_explicit(&source->nest.word, memory_order_acquire);

        if (word & CTX_WAITERS)
                futex_wake_all(&source->nest.word);
        if (word & CTX_EXTRA)
                extra_fire(source, source->extra);
}

static struct ctx **way_up(struct ctx *ctx)
{
        return ctx->child.kind == CTX_KIND_MERGE ? &((struct ctx_merge *) ctx)->stack
                                                 : (struct ctx **) &ctx->child.next;
}

static struct ctx *child_ctx(struct child *child)
{
        if (child->flags & CHILD_ARM)
                return ((struct arm *) child)->merge;
        return (struct ctx *) ((char *) child - offsetof(struct ctx, child));
}

enum visit {
        VISIT_LEAF,  /* done and unlinked; there is nothing more to do */
        VISIT_ENTER, /* marked by this walk, and referenced */
        VISIT_WAIT,  /* another walk is in it; referenced */
};

/* Takes the child off the list and makes it done. The lock of the nest is held. */
static enum visit visit(struct walk *walk, struct ctx *parent, struct child *child)
{
        enum visit result = VISIT_LEAF;
        struct ctx *ctx;
        uint32_t word;

        if (__builtin_expect(child->flags & CHILD_AFTER, 0)) {
                atomic_store_explicit(&child->place, PLACE_NONE, memory_order_release);
                walk->wake |= after_queue((struct ctx_after *) child, &walk->direct) == AFTER_FOR_THREAD;
                return VISIT_LEAF;
        }

        ctx = child_ctx(child);
        word = nest_lock_at(&ctx->nest, LOCK_NEST_BELOW);
        if (!(word & CTX_STATE)) {
                if (__builtin_expect(word & CTX_DEADLINE, 0) && is_overdue(walk, ctx)) {
                        word |= STATE_WORD_DEADLINE_EXCEEDED;
                        if (ctx->child.flags & CHILD_WIDE)
                                ctx->cause = cause_ref(((struct ctx_wide *) ctx)->deadline_cause);
                } else {
                        word |= atomic_load_explicit(&parent->nest.word, memory_order_relaxed) & CTX_STATE;
                        ctx->cause = walk_cause(walk, parent->cause);
                }
                word |= CTX_UNWALKED;
        }
        if (__builtin_expect(word & CTX_WALKING, 0)) {
                if (ctx_ref_if_alive(ctx))
                        result = VISIT_WAIT;
        } else if (word & CTX_UNWALKED) {
                word &= ~CTX_UNWALKED;
                if (word & (CTX_KIDS | CTX_EXTRA | CTX_WAITERS) && ctx_ref_if_alive(ctx)) {
                        word |= CTX_WALKING;
                        result = VISIT_ENTER;
                }
        }
        nest_unlock_at(&ctx->nest, word, LOCK_NEST_BELOW);
        /* This is the last access: its owner may free it from now on. */
        atomic_store_explicit(&child->place, PLACE_NONE, memory_order_release);
        return result;
}

/* Empties a nest up to the next child that the walk has to go into. NULL: it is empty. */
static struct ctx *walk_nest(struct walk *walk, struct ctx *parent, struct nest *nest)
{
        uint32_t word = nest_lock(nest);
        struct child *child;

        for (unsigned n = 1; (child = nest->first); n++) {
                struct ctx *ctx = child->flags & CHILD_AFTER ? NULL : child_ctx(child);
                enum visit result;

                nest->first = child->next;
                __builtin_prefetch(child->next, 1);
                result = visit(walk, parent, child);
                if (__builtin_expect(result == VISIT_LEAF && n % LEAVES_AT_ONCE != 0, 1))
                        continue;

                nest_unlock(nest, word);
                if (result == VISIT_ENTER)
                        return ctx;
                if (result == VISIT_WAIT) {
                        wait_for_walk(ctx);
                        ctx_drop(ctx, &walk->dead);
                }
                word = nest_lock(nest);
        }
        nest_unlock(nest, word & CTX_STRIPED ? word : word & ~CTX_KIDS);
        return NULL;
}

static struct ctx *walk_children(struct walk *walk, struct ctx *parent)
{
        struct stripe *stripes;
        struct ctx *ctx = walk_nest(walk, parent, &parent->nest);

        if (ctx || !(atomic_load_explicit(&parent->nest.word, memory_order_acquire) & CTX_STRIPED))
                return ctx;
        stripes = atomic_load_explicit(&parent->extra->stripes, memory_order_acquire);
        for (unsigned i = 0; i < n_stripes && !ctx; i++)
                ctx = walk_nest(walk, parent, &stripes[i].nest);
        return ctx;
}

/* The caller has made root done and marked it CTX_WALKING. The mark is removed at the end. */
static void walk_tree(struct ctx *root)
{
        struct walk walk = {};
        struct ctx *top = root;

        notify(root);
        for (;;) {
                struct ctx *ctx = walk_children(&walk, top), *up;

                if (ctx) {
                        notify(ctx);
                        *way_up(ctx) = top;
                        top = ctx;
                        continue;
                }
                if (top == root)
                        break;
                up = *way_up(top);
                end_of_walk(top);
                ctx_drop(top, &walk.dead);
                top = up;
        }
        end_of_walk(root);
        walk_finish(&walk);
}

int ctx_end(struct ctx *source, uint32_t state, struct cause *cause)
{
        uint32_t word = nest_lock(&source->nest);
        int first = !(word & CTX_STATE);

        if (first) {
                source->cause = cause;
                word |= state | CTX_UNWALKED;
                cause = NULL;
        }
        if (word & CTX_UNWALKED) {
                word &= ~CTX_UNWALKED;
                if (word & (CTX_KIDS | CTX_EXTRA | CTX_WAITERS)) {
                        nest_unlock(&source->nest, word | CTX_WALKING);
                        walk_tree(source);
                } else {
                        nest_unlock(&source->nest, word);
                }
        } else {
                nest_unlock(&source->nest, word);
                if (word & CTX_WALKING)
                        wait_for_walk(source);
        }
        cause_drop(cause, 1);
        return first;
}

void ctx_finish(struct ctx *ctx, uint32_t state, struct cause *cause)
{
        ctx_end(ctx->source, state, cause);
}

/* A cancelled context leaves its parent's list. If it needs nothing else of the parent, it releases the
 * parent too: then its last unref takes no lock. The caller has a reference, and only one caller is the first
 * to cancel, so no other thread looks at these flags now. */
static void detach(struct ctx *ctx)
{
        bool alone = !(ctx->child.flags & CHILD_WIDE) &&
                     (!ctx->values || ctx->child.flags & CHILD_VALUES_REF);
        struct ctx *parent = ctx->child.parent, *dead = NULL;

        if (ctx->child.kind == CTX_KIND_MERGE) {
                struct ctx_merge *merge = (struct ctx_merge *) ctx;

                for (size_t i = 0; i < merge->n_arms; i++)
                        if (merge->arms[i].child.parent)
                                child_unlink(&merge->arms[i].child, false);
        }
        if (!parent)
                return;
        if (child_unlink(&ctx->child, alone))
                ctx_dead_add(parent, &dead);
        if (dead)
                ctx_dead_free(dead);
}

/* 0: it can be cancelled itself; -EPERM or -EINVAL. */
static int check_cancel(struct ctx *ctx)
{
        if (!ctx)
                return -EINVAL;
        switch ((enum ctx_kind) ctx->child.kind) {
        case CTX_KIND_CANCEL:
        case CTX_KIND_MERGE:
        case CTX_KIND_SHARED:
                return 0;
        case CTX_KIND_READONLY:
                return -EPERM;
        default:
                return -EINVAL;
        }
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

        /* If a deadline has passed, or a shared ancestor is done, that was first. */
        if (atomic_load_explicit(&ctx->nest.word, memory_order_relaxed) & (CTX_DEADLINE | CTX_SHARED))
                ctx_state(ctx);
        r = ctx_end(ctx, STATE_WORD_CANCELED, cause_new(error, message));
        if (r > 0)
                detach(ctx);
        return r;
}

int ctx_cancel(struct ctx *ctx)
{
        return ctx_cancel_cause(ctx, 0, NULL);
}
