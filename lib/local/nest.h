/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/local/fork.h"
#include "lib/local/inside.h"
#include "lib/local/lock.h"

/* The children of a context: the list, its lock, and flags.
 *
 * The word is 32 bits: the lock of the list, and flags. Only the thread that holds CTX_LOCK may change it. So
 * to lock is one compare-and-swap, and to unlock is one plain store. A thread holds the lock for a few
 * stores, or while a cancel goes over a limited number of children.
 *
 * When two threads meet at the lock of one parent, the parent gets stripes: 2 to STRIPES_MAX more lists, each
 * with a lock of its own. From then on a thread puts new children into its stripe, and no thread writes to
 * the cache line of the parent itself. */

#define CTX_LOCK UINT32_C(4)
/* The context is done, and a thread is still making its descendants done. */
#define CTX_WALKING UINT32_C(8)
/* The context is done, and a thread has begun to make its descendants done. Not so if a thread that only
 * looked found a deadline passed or a shared ancestor done: such a thread does not walk over the
 * descendants. */
#define CTX_WALKED UINT32_C(16)
/* A thread may wait on this word with a futex. */
#define CTX_WAITERS UINT32_C(32)
/* The context's own list is not empty, or there are stripes. */
#define CTX_KIDS UINT32_C(64)
/* There is a struct extra. */
#define CTX_EXTRA UINT32_C(128)
/* A context with one of these is more than a leaf: somebody has to be told that it is done. */
#define NEST_TO_WALK (CTX_KIDS | CTX_EXTRA | CTX_WAITERS)
/* New children go to stripes. */
#define CTX_STRIPED UINT32_C(256)
/* The context has no reference left. The last child of the nest frees the context. */
#define CTX_ORPHAN UINT32_C(512)
/* `own_usec` of the struct extra counts. */
#define CTX_OWN_KEPT UINT32_C(1024)
/* Changes each time the deadline is moved, so that nobody falls asleep on the word until the old one. */
#define CTX_MOVED UINT32_C(4096)
/* Set when the context is made, and never changed: it is a shared context or has one above it. */
#define CTX_SHARED UINT32_C(2048)
/* Together with CTX_LOCK only: the holder's fork_lock_mark. */
#define CTX_LOCK_MARK UINT32_C(0xff000000)

struct ctx;
struct child;

struct nest {
        _Atomic uint32_t word;
        _Atomic uint32_t kids; /* the children that hold the context; written under the lock */
        struct child *first;
};

/* A place in a nest. It belongs to a context, to an arm of a merge (which leads to the merge), or to a
 * callback. */
struct child {
        struct child *next, *prev;
        /* The source in whose nest this is; NULL: in none. For a value or a view: the context it was made
         * of. */
        struct ctx *parent;
        _Atomic uint32_t refs;
        _Atomic uint8_t place; /* enum child_place; written under the nest's lock */
        uint8_t stripe;        /* 0: the parent's own nest */
        uint8_t kind;
        uint8_t flags;
};

enum child_place {
        PLACE_NONE,     /* in no list; if there is a parent, it is held all the same */
        PLACE_LINKED,   /* in the parent's list */
        PLACE_RELEASED, /* neither in the list nor in the count: the parent may have been freed */
};

#define CHILD_ARM 1u         /* it is a struct arm */
#define CHILD_STATIC 2u      /* it is never freed */
#define CHILD_DONE_REF 4u    /* it holds a reference on `done` */
#define CHILD_VALUES_REF 8u  /* it holds a reference on `values` */
#define CHILD_WIDE 16u       /* it is a struct ctx_wide */
#define CHILD_SHARED_REF 32u /* it holds a reference on `shared` (a without_cancel does) */
#define CHILD_AFTER 64u      /* it is a struct ctx_after */
#define CHILD_OWN 128u       /* see ctx_own_deadline() */

struct stripe {
        _Alignas(64) struct nest nest;
};

#define STRIPES_MAX 16
extern unsigned n_stripes; /* a power of two */

/* Adds a child to the tree under a source. Returns 0; or the `end` of the parent if that is done, and then
 * nothing was changed. */
uintptr_t child_link(struct child *child, struct ctx *parent);
/* Takes the child out of the list and, with release, out of the count. Returns true if the parent has to be
 * freed now: see ctx_dead_add(). */
bool child_unlink(struct child *child, bool release);
/* Gives the parent stripes. It does no harm if that fails. */
void nest_split(struct ctx *parent);

uint32_t nest_lock_slow(struct nest *nest);
/* The nest that has the children of this stripe; 0: the parent's own. */
struct nest *nest_of_stripe(struct ctx *parent, unsigned stripe);
/* From 1 to n_stripes, always the same for one thread. */
unsigned nest_thread_stripe(void);

static inline void nest_enter(enum lock_rank rank)
{
        if (rank == LOCK_NEST)
                inside_lock();
}

static inline void nest_leave(enum lock_rank rank)
{
        if (rank == LOCK_NEST)
                inside_unlock();
}

static inline bool nest_try(struct nest *nest, uint32_t *word)
{
        /* In one order with all changes of `end`: a thread that locks and sees a context active is seen by
         * the one that makes it done. */
        return !(*word & CTX_LOCK) &&
               atomic_compare_exchange_strong_explicit(&nest->word, word, *word | CTX_LOCK | fork_lock_mark,
                               memory_order_seq_cst, memory_order_relaxed);
}

/* Locks if nobody holds the lock and the word is still as the caller has read it. Only this and
 * nest_lock_slow() take the lock, because both write the mark: after a fork a lock without the right mark
 * counts as free. */
static inline bool nest_trylock(struct nest *nest, uint32_t *word, enum lock_rank rank)
{
        nest_enter(rank);
        if (!nest_try(nest, word)) {
                nest_leave(rank);
                return false;
        }
        lock_order_take(rank);
        return true;
}

/* Returns the word without the lock. rank is LOCK_NEST; for a child, while its parent's nest is locked, it is
 * LOCK_NEST_BELOW. */
static inline uint32_t nest_lock_at(struct nest *nest, enum lock_rank rank)
{
        uint32_t word = atomic_load_explicit(&nest->word, memory_order_relaxed);

        nest_enter(rank);
        lock_order_take(rank);
        return __builtin_expect(nest_try(nest, &word), 1) ? word : nest_lock_slow(nest);
}

static inline uint32_t nest_lock(struct nest *nest)
{
        return nest_lock_at(nest, LOCK_NEST);
}

static inline void nest_unlock_at(struct nest *nest, uint32_t word, enum lock_rank rank)
{
        lock_order_drop(rank);
        atomic_store_explicit(&nest->word, word, memory_order_release);
        nest_leave(rank);
}

static inline void nest_unlock(struct nest *nest, uint32_t word)
{
        nest_unlock_at(nest, word, LOCK_NEST);
}
