/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lib/local/walk.h"
#include "lib/local/callback-thread.h"
#include "lib/local/extend.h"
#include "lib/local/later.h"
#include "lib/local/shared.h"

/* A cancel writes the state and the cause into every descendant.
 *
 * The walk goes depth first, without recursion, and allocates nothing: the contexts between the root and the
 * current one are strung together by a field that they do not need meanwhile. Each of them is marked
 * CTX_WALKING until everything below it is done. A leaf is made done and unlinked at once, under the parent's
 * lock, and its own lock is not needed. A context with children, waiters, a descriptor or callbacks is
 * referenced and unlinked, and then the walk goes into it without holding a lock.
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
        uint64_t began; /* a deadline that has passed by then was first */
        bool wake;      /* the callback thread has something to run */
        struct ctx_after **direct;
        struct ctx *dead;
};

static void walk_cause(struct walk *walk, struct cause *cause)
{
        if (!cause_is_object(cause))
                return;
        if (cause != walk->cause) {
                later_cause_drop(walk->cause, CAUSE_ADVANCE - walk->n_causes);
                atomic_fetch_add_explicit(&cause->refs, CAUSE_ADVANCE, memory_order_relaxed);
                walk->cause = cause;
                walk->n_causes = 0;
        }
        walk->n_causes++;
}

static void walk_cause_back(struct walk *walk, struct cause *cause)
{
        if (cause_is_object(cause))
                walk->n_causes--;
}

static void walk_finish(struct walk *walk)
{
        later_cause_drop(walk->cause, CAUSE_ADVANCE - walk->n_causes);
        if (walk->wake)
                callback_thread_wake();
        later_contexts(walk->dead);
}

void walk_wait(struct ctx *source)
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

/* The lock is held, and is released. */
static void end_of_walk(struct ctx *source, uint32_t word)
{
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
                extra_fire(source);
}

static struct ctx **way_up(struct ctx *ctx)
{
        return ctx->child.kind == CTX_KIND_MERGE ? &((struct ctx_merge *) ctx)->stack
                                                 : (struct ctx **) &ctx->child.next;
}

/* The child may be on its way to be freed: so only the parent is asked. */
static struct cause *overdue_cause(const struct ctx *parent, const struct ctx *ctx)
{
        if (__builtin_expect(!atomic_load_explicit(&deadline_moves, memory_order_relaxed), 1) ||
                        !(ctx->child.flags & CHILD_WIDE))
                return deadline_cause(ctx);
        return ctx_local_deadline(parent) == ctx_local_deadline(ctx) ? deadline_cause_from(parent)
                                                                     : ((struct ctx_wide *) ctx)->own_cause;
}

/* The parent is done. */
static void child_end(struct walk *walk, const struct ctx *parent, struct ctx *ctx)
{
        uintptr_t end = ctx_end_word(ctx), done;

        while (!(end & END_STATE)) {
                if (__builtin_expect(end & END_DEADLINE, 0) && ctx_local_deadline(ctx) <= walk->began)
                        done = (uintptr_t) overdue_cause(parent, ctx) | STATE_WORD_DEADLINE_EXCEEDED;
                else if (__builtin_expect(end & END_SHARED, 0))
                        done = ctx_shared_pass_end(ctx, parent, ctx_end_word(parent));
                else
                        done = ctx_end_word(parent);
                walk_cause(walk, cause_of(done));
                if (atomic_compare_exchange_weak_explicit(
                                    &ctx->end, &end, done, memory_order_seq_cst, memory_order_acquire))
                        return;
                walk_cause_back(walk, cause_of(done));
        }
}

/* Most children have no deadline, and most cancels no message. */
static inline bool child_end_simple(const struct ctx *parent, struct ctx *ctx)
{
        uintptr_t end = ctx_end_word(ctx), above = ctx_end_word(parent);

        return end == 0 && !cause_is_object(cause_of(above)) &&
               atomic_compare_exchange_strong_explicit(
                               &ctx->end, &end, above, memory_order_seq_cst, memory_order_relaxed);
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
                walk->wake |= after_queue((struct ctx_after *) child, walk->direct) == AFTER_FOR_THREAD;
                return VISIT_LEAF;
        }

        ctx = ctx_of_child(child);
        if (__builtin_expect(!child_end_simple(parent, ctx), 0))
                child_end(walk, parent, ctx);
        word = atomic_load_explicit(&ctx->nest.word, memory_order_seq_cst);
        if (word & (CTX_LOCK | CTX_WALKING | NEST_TO_WALK)) {
                word = nest_lock_at(&ctx->nest, LOCK_NEST_BELOW);
                if (word & CTX_WALKING) {
                        if (ctx_ref_if_alive(ctx))
                                result = VISIT_WAIT;
                } else if (!(word & CTX_WALKED) && word & NEST_TO_WALK && ctx_ref_if_alive(ctx)) {
                        word |= CTX_WALKED | CTX_WALKING;
                        result = VISIT_ENTER;
                }
                nest_unlock_at(&ctx->nest, word, LOCK_NEST_BELOW);
        }
        /* This is the last access: its owner may free it from now on. */
        atomic_store_explicit(&child->place, PLACE_NONE, memory_order_release);
        return result;
}

/* Empties a nest up to the next child that the walk has to go into. NULL: it is empty. The lock is held, and
 * is released; word is the nest's without it. */
static struct ctx *walk_nest(struct walk *walk, struct ctx *parent, struct nest *nest, uint32_t word)
{
        struct child *child;

        for (unsigned n = 1; (child = nest->first); n++) {
                struct ctx *ctx = child->flags & CHILD_AFTER ? NULL : ctx_of_child(child);
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
                        walk_wait(ctx);
                        ctx_drop(ctx, &walk->dead);
                }
                word = nest_lock(nest);
        }
        if (nest == &parent->nest && !(word & CTX_STRIPED))
                end_of_walk(parent, word & ~CTX_KIDS);
        else
                nest_unlock(nest, word);
        return NULL;
}

/* The same for the whole context. When it is empty, the walk has ended here. */
static struct ctx *walk_children(struct walk *walk, struct ctx *parent, uint32_t word)
{
        struct stripe *stripes;
        struct ctx *ctx = walk_nest(walk, parent, &parent->nest, word);

        if (ctx || !(word & CTX_STRIPED))
                return ctx;
        stripes = atomic_load_explicit(&ctx_known_extra(parent)->stripes, memory_order_acquire);
        for (unsigned i = 0; i < n_stripes && !ctx; i++)
                ctx = walk_nest(walk, parent, &stripes[i].nest, nest_lock(&stripes[i].nest));
        if (!ctx)
                end_of_walk(parent, nest_lock(&parent->nest));
        return ctx;
}

void walk_tree(struct ctx *root, uint32_t word, uint64_t began, struct ctx_after **direct)
{
        struct walk walk = {.began = began, .direct = direct};
        struct ctx *top = root;

        word |= CTX_WALKED | CTX_WALKING;
        if (word & (CTX_WAITERS | CTX_EXTRA)) {
                nest_unlock(&root->nest, word);
                notify(root);
                word = nest_lock(&root->nest);
        }
        for (;;) {
                struct ctx *ctx = walk_children(&walk, top, word), *up;

                if (ctx) {
                        notify(ctx);
                        *way_up(ctx) = top;
                        top = ctx;
                } else if (top == root) {
                        break;
                } else {
                        up = *way_up(top);
                        ctx_drop(top, &walk.dead);
                        top = up;
                }
                word = nest_lock(&top->nest);
        }
        walk_finish(&walk);
}
