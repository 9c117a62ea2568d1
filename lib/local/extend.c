/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include "lib/local/extend.h"
#include "lib/local/overdue.h"
#include "lib/local/shared.h"

/* A deadline is moved.
 *
 * Each context has the earliest deadline from itself up as a number. So a new deadline is carried to all
 * descendants, as far as it changes theirs. That goes depth first, without recursion, and nothing leaves the
 * tree: the locks of all contexts on the way down are held. Every thread that holds several locks of nests
 * takes them from above to below, so no two wait for each other.
 *
 * Who waits learns of it: a thread on the context's word is woken and looks again, a timerfd is set, and a
 * timer of a callback looks again when it fires. A deadline that is earlier than before, or new, has a timer
 * of its own: it makes the context done, and with it all below. */

_Atomic bool deadline_moves;

uint64_t deadline_own(const struct ctx *source)
{
        if (atomic_load_explicit(&source->nest.word, memory_order_acquire) & CTX_OWN_KEPT)
                return atomic_load_explicit(&ctx_known_extra(source)->own_usec, memory_order_relaxed);
        if (source->child.flags & CHILD_OWN)
                return *ctx_own_deadline((struct ctx *) source);
        return source->child.kind == CTX_KIND_TIMED ? ctx_local_deadline(source) : CTX_NEVER;
}

/* Calls fn for each parent, with the deadline of that one, until it returns something. */
static const struct ctx *parent_until(
                const struct ctx *source, bool (*fn)(uint64_t usec, uint64_t *arg), uint64_t *arg)
{
        const struct ctx_merge *merge = (const struct ctx_merge *) source;
        const struct ctx *up = source->child.parent;

        if (up && fn(ctx_local_deadline(up), arg))
                return up;
        if (source->child.kind != CTX_KIND_MERGE)
                return NULL;
        for (size_t i = 0, n = atomic_load_explicit(&merge->n_arms, memory_order_acquire); i < n; i++) {
                up = merge->arms[i].child.parent;
                if (up && fn(ctx_local_deadline(up), arg))
                        return up;
        }
        return NULL;
}

static bool is_earlier(uint64_t usec, uint64_t *earliest)
{
        if (usec < *earliest)
                *earliest = usec;
        return false;
}

static bool is_the_same(uint64_t usec, uint64_t *wanted)
{
        return usec == *wanted;
}

static uint64_t deadline_above(const struct ctx *source)
{
        uint64_t earliest = CTX_NEVER;

        parent_until(source, is_earlier, &earliest);
        return earliest;
}

struct cause *deadline_cause_from(const struct ctx *source)
{
        uint64_t usec = ctx_local_deadline(source);

        for (;;) {
                const struct ctx *up = parent_until(source, is_the_same, &usec);

                if (!(source->child.flags & CHILD_WIDE))
                        return CAUSE_DEFAULT;
                if (!up)
                        return ((const struct ctx_wide *) source)->own_cause;
                source = up;
        }
}

/* The lock of the source is held, and its word is in memory. */
static void add_flags(struct ctx *source, uint32_t flags)
{
        uint32_t word = atomic_load_explicit(&source->nest.word, memory_order_relaxed);

        atomic_store_explicit(&source->nest.word, word | flags, memory_order_release);
}

/* Its own deadline is another number than the one that counts from now on. If there is no memory for it, it
 * is forgotten, and the context ends at the earlier one for good. */
static void keep_own(struct ctx *source, uint64_t usec)
{
        struct extra *extra = ctx_known_extra(source);

        if (!extra && (extra = calloc(1, sizeof(struct extra))))
                extra_put(source, extra);
        if (!extra)
                return;
        atomic_store_explicit(&extra->own_usec, usec, memory_order_relaxed);
        add_flags(source, CTX_EXTRA | CTX_OWN_KEPT);
}

/* The lock is held. Returns true if the deadline that counts is another one now. */
static bool update(struct ctx *source)
{
        uint64_t own, above, usec, before = ctx_local_deadline(source);
        uintptr_t end = atomic_load_explicit(&source->end, memory_order_seq_cst);
        uint32_t word;
        bool moved;

        /* If it is active under the lock, it does not give up what is above. */
        if (end & END_STATE)
                return false;
        own = deadline_own(source);
        above = deadline_above(source);
        usec = own < above ? own : above;
        if (usec == before)
                return false;
        if (source->child.kind == CTX_KIND_TIMED && !(source->child.flags & CHILD_OWN) && above <= own)
                keep_own(source, own);
        atomic_store_explicit(&source->deadline_usec, usec, memory_order_relaxed);
        /* Whoever has looked at the old one looks again. */
        while (!(end & END_STATE))
                if (atomic_compare_exchange_weak(&source->end, &end, (end | END_DEADLINE) + END_CHANGE))
                        break;
        moved = !(end & END_STATE);
        if (!moved)
                atomic_store_explicit(&source->deadline_usec, before, memory_order_relaxed);

        /* Also if it is taken back: a thread may have seen it. */
        word = atomic_load_explicit(&source->nest.word, memory_order_relaxed);
        if (moved && word & CTX_EXTRA)
                extra_move_timer(source);
        atomic_store_explicit(&source->nest.word, word ^ CTX_MOVED, memory_order_release);
        if (word & CTX_WAITERS)
                futex_wake_all(&source->nest.word);
        return moved;
}

static void lock_deep(struct nest *nest)
{
        uint32_t word = atomic_load_explicit(&nest->word, memory_order_relaxed);

        if (!nest_try(nest, &word))
                nest_lock_slow(nest);
}

static void unlock_deep(struct nest *nest)
{
        uint32_t word = atomic_load_explicit(&nest->word, memory_order_relaxed);

        atomic_store_explicit(&nest->word, word & ~(CTX_LOCK | CTX_LOCK_MARK), memory_order_release);
}

/* The first child in a stripe from this one on. The lock of the stripe is kept, except that of number 0,
 * which is the parent's own and is held anyway. */
static struct child *first_from(struct ctx *parent, unsigned stripe)
{
        bool striped = atomic_load_explicit(&parent->nest.word, memory_order_relaxed) & CTX_STRIPED;

        for (; stripe == 0 || (striped && stripe <= n_stripes); stripe++) {
                struct nest *nest = nest_of_stripe(parent, stripe);

                if (stripe > 0)
                        lock_deep(nest);
                if (nest->first)
                        return nest->first;
                if (stripe > 0)
                        unlock_deep(nest);
        }
        return NULL;
}

static struct child *next_child(struct ctx *parent, struct child *child)
{
        unsigned stripe = child->stripe;

        if (child->next)
                return child->next;
        /* Without that lock the child may be freed. */
        if (stripe > 0)
                unlock_deep(nest_of_stripe(parent, stripe));
        return first_from(parent, stripe + 1);
}

/* A merge on its way to be freed has given up its other parents: it is not looked at. */
static bool enter_child(struct ctx *ctx, struct child *child)
{
        struct ctx_merge *merge = (struct ctx_merge *) ctx;

        if (ctx->child.kind == CTX_KIND_MERGE && !ctx_ref_if_alive(ctx))
                return false;
        lock_deep(&ctx->nest);
        if (ctx->child.kind == CTX_KIND_MERGE)
                merge->entry = child;
        return true;
}

static void leave_child(struct ctx *ctx, struct ctx **dead)
{
        unlock_deep(&ctx->nest);
        if (ctx->child.kind == CTX_KIND_MERGE)
                ctx_drop(ctx, dead);
}

/* The lock of top is held, and its deadline is a new one. */
static void carry_down(struct ctx *top, struct ctx **dead)
{
        struct child *child = first_from(top, 0);
        struct ctx *parent = top;

        for (;;) {
                while (child) {
                        struct ctx *ctx = child->flags & CHILD_AFTER ? NULL : ctx_of_child(child);

                        if (ctx && enter_child(ctx, child)) {
                                if (update(ctx)) {
                                        parent = ctx;
                                        child = first_from(parent, 0);
                                        continue;
                                }
                                leave_child(ctx, dead);
                        }
                        child = next_child(parent, child);
                }
                if (parent == top)
                        return;
                child = parent->child.kind == CTX_KIND_MERGE ? ((struct ctx_merge *) parent)->entry
                                                             : &parent->child;
                leave_child(parent, dead);
                parent = child->parent;
                child = next_child(parent, child);
        }
}

void deadline_recheck(struct ctx *source)
{
        nest_lock(&source->nest);
        update(source);
        nest_unlock(&source->nest, atomic_load_explicit(&source->nest.word, memory_order_relaxed) &
                                                   ~(CTX_LOCK | CTX_LOCK_MARK));
}

static int check(struct ctx *ctx, uint64_t usec)
{
        struct ctx_shared *shared = ctx_shared_done(ctx);
        uint32_t word;
        int r = 0;

        if (ctx_state(ctx))
                return -EALREADY;
        if (shared && usec > ctx_shared_deadline(shared))
                return -EINVAL;
        word = nest_lock(&ctx->nest);
        if (ctx_is_done(ctx))
                r = -EALREADY;
        else if (usec > deadline_above(ctx))
                r = -EINVAL;
        nest_unlock(&ctx->nest, word);
        return r;
}

static int extend_local(struct ctx *ctx, uint64_t usec)
{
        struct ctx *dead = NULL;
        struct extra *extra;
        int r = check(ctx, usec);

        if (r < 0)
                return r;
        atomic_store(&deadline_moves, true);
        atomic_store(&deadline_in_use, true);
        extra = ctx_extra(ctx);
        if (!extra)
                return -ENOMEM;
        r = mover_lock(ctx, extra, usec);
        if (r < 0)
                return r;

        /* What is dropped on the way may take locks below the one that is held. */
        nest_deeper();
        keep_own(ctx, usec);
        if (update(ctx))
                carry_down(ctx, &dead);
        if (ctx_is_done(ctx))
                r = -EALREADY;
        nest_unlock(&ctx->nest, atomic_load_explicit(&ctx->nest.word, memory_order_relaxed) &
                                                ~(CTX_LOCK | CTX_LOCK_MARK));
        nest_less_deep();
        ctx_dead_free(dead);
        mover_correct(ctx, extra);
        if (r == 0 && ctx_state(ctx))
                ctx_end(ctx, STATE_WORD_DEADLINE_EXCEEDED, NULL); /* the new one has passed */
        return r;
}

int ctx_extend(struct ctx *ctx, uint64_t boottime_usec)
{
        struct ctx_shared *shared;

        if (!ctx || ctx_never_done(ctx->source))
                return -EINVAL;
        if (ctx->child.kind == CTX_KIND_READONLY)
                return -EPERM;
        if (ctx->source->child.kind == CTX_KIND_SHARED) {
                shared = (struct ctx_shared *) ctx->source;
                return shared->ops->extend(shared, boottime_usec);
        }
        return ctx->source == ctx ? extend_local(ctx, boottime_usec) : -EINVAL;
}
