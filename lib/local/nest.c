/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/local/ctx.h"
#include "lib/local/raw.h"

/* Lists of children, their locks, and the stripes that a parent gets when threads meet at it. */

unsigned n_stripes;

static _Atomic unsigned n_threads;
static __thread _Atomic unsigned thread_number __attribute__((tls_model("initial-exec")));

__attribute__((constructor)) static void start(void)
{
        long n = sysconf(_SC_NPROCESSORS_CONF);

        /* Twice as many stripes as processors: threads are given stripes in turn, and some threads do
         * little. */
        for (n_stripes = 2; n_stripes < STRIPES_MAX && (long) n_stripes < 2 * n; n_stripes *= 2)
                ;
}

unsigned nest_thread_stripe(void)
{
        unsigned number = atomic_load_explicit(&thread_number, memory_order_relaxed), none = 0;

        if (__builtin_expect(number == 0, 0)) {
                number = 1 +
                         (atomic_fetch_add_explicit(&n_threads, 1, memory_order_relaxed) & (n_stripes - 1));
                /* A signal handler may have been faster. */
                if (!atomic_compare_exchange_strong(&thread_number, &none, number))
                        number = none;
        }
        return number;
}

#if defined(__x86_64__) || defined(__i386__)
#define cpu_relax() __builtin_ia32_pause()
#else
#define cpu_relax() atomic_signal_fence(memory_order_seq_cst)
#endif

/* The holder needs the lock for a few stores only. It may have lost the processor meanwhile: then this thread
 * yields. The holder may have a lower priority: then this thread sleeps. */
uint32_t nest_lock_slow(struct nest *nest)
{
        for (unsigned spins = 0;; spins++) {
                uint32_t word = atomic_load_explicit(&nest->word, memory_order_relaxed);
                bool stale = word & CTX_LOCK && (word & CTX_LOCK_MARK) != fork_lock_mark;
                uint32_t value = word & ~(CTX_LOCK | CTX_LOCK_MARK);

                if ((!(word & CTX_LOCK) || stale) &&
                                atomic_compare_exchange_weak_explicit(&nest->word, &word,
                                                value | CTX_LOCK | fork_lock_mark, memory_order_seq_cst,
                                                memory_order_relaxed))
                        return value;
                if (spins < 64) {
                        cpu_relax();
                } else if (spins < 256) {
                        sched_yield();
                } else {
                        raw_sleep(50000);
                }
        }
}

struct nest *nest_of_stripe(struct ctx *parent, unsigned stripe)
{
        struct stripe *stripes;

        if (stripe == 0)
                return &parent->nest;
        stripes = atomic_load_explicit(&ctx_known_extra(parent)->stripes, memory_order_acquire);
        return &stripes[stripe - 1].nest;
}

void nest_split(struct ctx *parent)
{
        struct stripe *stripes;
        struct extra *extra;
        uint32_t word;

        extra = ctx_extra(parent);
        if (!extra)
                return;
        stripes = aligned_alloc(_Alignof(struct stripe), n_stripes * sizeof(struct stripe));
        if (!stripes)
                return;
        for (unsigned i = 0; i < n_stripes; i++)
                stripes[i] = (struct stripe){};

        word = nest_lock(&parent->nest);
        if (!(word & CTX_STRIPED) && !ctx_is_done(parent)) {
                atomic_store_explicit(&extra->stripes, stripes, memory_order_release);
                word |= CTX_STRIPED | CTX_KIDS;
                stripes = NULL;
        }
        nest_unlock(&parent->nest, word);
        free(stripes);
}

/* Locks the parent's own nest and returns true. Returns false if there are stripes, which have to be used. */
static bool lock_own(struct ctx *parent, uint32_t *ret_word)
{
        struct nest *nest = &parent->nest;
        uint32_t word = atomic_load_explicit(&nest->word, memory_order_acquire);

        if (word & CTX_STRIPED)
                return false;
        if (__builtin_expect(!nest_trylock(nest, &word, LOCK_NEST), 0)) {
                /* Another thread is at this parent right now. */
                nest_split(parent);
                word = nest_lock(nest);
                if (word & CTX_STRIPED) {
                        nest_unlock(nest, word);
                        return false;
                }
        }
        *ret_word = word;
        return true;
}

uintptr_t child_link(struct child *child, struct ctx *parent)
{
        struct nest *nest = &parent->nest;
        uint32_t word, kids;
        uintptr_t end;

        if (__builtin_expect(!lock_own(parent, &word), 0)) {
                child->stripe = (uint8_t) nest_thread_stripe();
                nest = nest_of_stripe(parent, child->stripe);
                word = nest_lock(nest);
        }
        /* A cancel first writes the end, and then locks what has or may get children. */
        end = atomic_load_explicit(&parent->end, memory_order_seq_cst);
        if (__builtin_expect(end & END_STATE, 0)) {
                nest_unlock(nest, word);
                return end;
        }

        child->parent = parent;
        child->next = nest->first;
        if (child->next)
                child->next->prev = child;
        nest->first = child;
        kids = atomic_load_explicit(&nest->kids, memory_order_relaxed) + 1;
        atomic_store_explicit(&nest->kids, kids, memory_order_relaxed);
        atomic_store_explicit(&child->place, PLACE_LINKED, memory_order_relaxed);
        nest_unlock(nest, word | CTX_KIDS);
        return 0;
}

bool child_unlink(struct child *child, bool release)
{
        struct ctx *parent = child->parent;
        struct nest *nest = nest_of_stripe(parent, child->stripe);
        uint32_t word = nest_lock(nest), kids;
        bool last = false;

        /* `prev` of the first child means nothing, because a walk takes children from the front and does not
         * touch the next one. */
        if (atomic_load_explicit(&child->place, memory_order_relaxed) == PLACE_LINKED) {
                if (child->next)
                        child->next->prev = child->prev;
                if (nest->first == child)
                        nest->first = child->next;
                else
                        child->prev->next = child->next;
                if (!nest->first && !(word & CTX_STRIPED))
                        word &= ~CTX_KIDS;
        }
        atomic_store_explicit(&child->place, release ? PLACE_RELEASED : PLACE_NONE, memory_order_release);
        if (release) {
                kids = atomic_load_explicit(&nest->kids, memory_order_relaxed) - 1;
                atomic_store_explicit(&nest->kids, kids, memory_order_relaxed);
                if (kids == 0 && word & CTX_ORPHAN) {
                        word &= ~CTX_ORPHAN;
                        last = true;
                }
        }
        nest_unlock(nest, word);

        return last && atomic_fetch_sub_explicit(&parent->child.refs, 1, memory_order_acq_rel) == 1;
}
