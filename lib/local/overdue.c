/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lib/local/extend.h"
#include "lib/local/overdue.h"

/* A cancel needs time to get to all descendants, and meanwhile a deadline of one of them may pass. The cancel
 * was first then (law 9). So a walk judges deadlines by the time at which it has begun. A thread that itself
 * finds a deadline passed looks whether a walk is under way anywhere, which is rarely so. If one is, it looks
 * at the ancestors: one of them may be done, and the walk not yet here. */

_Atomic bool deadline_in_use;

/* The walks under way, by the stripe of their thread. */
static struct {
        _Alignas(64) _Atomic uint32_t n;
        _Atomic uint64_t since_usec; /* no later than the first of them has begun */
} walks[STRIPES_MAX];

uint64_t walk_begin(void)
{
        unsigned i = nest_thread_stripe() - 1;
        uint64_t now;
        bool first;

        if (!atomic_load_explicit(&deadline_in_use, memory_order_relaxed))
                return 0;
        /* In this order: whoever joins has begun after the first one has looked at the clock. */
        now = now_boottime_usec();
        first = atomic_fetch_add(&walks[i].n, 1) == 0;
        if (first)
                atomic_store_explicit(&walks[i].since_usec, now, memory_order_release);
        return first ? now : now_boottime_usec();
}

void walk_over_for(unsigned stripe, uint64_t began)
{
        if (began != 0)
                atomic_fetch_sub_explicit(&walks[stripe - 1].n, 1, memory_order_release);
}

void walk_over(uint64_t began)
{
        walk_over_for(nest_thread_stripe(), began);
}

/* CTX_NEVER: no walk is under way. */
static uint64_t earliest_walk(void)
{
        uint64_t earliest = CTX_NEVER;

        for (unsigned i = 0; i < n_stripes; i++) {
                uint64_t since = atomic_load_explicit(&walks[i].since_usec, memory_order_acquire);

                if (atomic_load(&walks[i].n) > 0 && since < earliest)
                        earliest = since;
        }
        return earliest;
}

/* The `end` of the nearest ancestor that was cancelled, with a reference on the cause; 0: there is none. The
 * lock of the source is held, and it is active: so no walk gets past it, and all ancestors stay. */
static uintptr_t canceled_above(const struct ctx *source)
{
        for (const struct ctx *up = source->child.parent; up; up = up->child.parent) {
                uintptr_t end = ctx_end_word(up);

                if (end & END_STATE) {
                        if ((end & END_STATE) == STATE_WORD_DEADLINE_EXCEEDED)
                                return 0; /* the deadline here is no later */
                        cause_ref(cause_of(end));
                        return end;
                }
        }
        return 0;
}

/* The lock is held. */
static uintptr_t locked_end(struct ctx *source)
{
        uintptr_t end = 0;

        if (ctx_is_done(source))
                return 0;
        if (ctx_local_deadline(source) > earliest_walk())
                end = canceled_above(source);
        if (end == 0 && atomic_load_explicit(&deadline_moves, memory_order_relaxed))
                end = (uintptr_t) cause_ref(deadline_cause_from(source)) | STATE_WORD_DEADLINE_EXCEEDED;
        return end;
}

uintptr_t deadline_end(struct ctx *source)
{
        uint32_t word = atomic_load_explicit(&source->nest.word, memory_order_relaxed);
        uintptr_t end = 0;

        if (__builtin_expect(ctx_local_deadline(source) > earliest_walk() ||
                                             atomic_load_explicit(&deadline_moves, memory_order_relaxed),
                            0)) {
                /* In a signal handler that has interrupted the library, the lock is taken only if it is
                 * free. */
                if (!nest_is_inside()) {
                        word = nest_lock(&source->nest);
                        end = locked_end(source);
                        nest_unlock(&source->nest, word);
                } else if (nest_try(&source->nest, &word)) {
                        end = locked_end(source);
                        atomic_store_explicit(&source->nest.word, word, memory_order_release);
                }
        }
        if (end == 0)
                end = (uintptr_t) cause_ref(deadline_cause(source)) | STATE_WORD_DEADLINE_EXCEEDED;
        return end;
}
