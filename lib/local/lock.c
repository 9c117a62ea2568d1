/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>

#include "lib/local/futex.h"
#include "lib/local/lock.h"
#include "lib/local/nest.h"

/* A cancel, which may come from a signal handler, takes locks of nests, and of these ranks for what it does
 * besides. So a thread that has one of them puts off what its handlers cancel (handler.c). For a lock that
 * belongs to one object, and not to a part of the library, a fork waits as for that of a nest. */
static void lock_enter(const struct lock *lock)
{
        if (lock->rank == LOCK_TASK || lock->rank == LOCK_CHANNEL)
                nest_deeper();
        else if (lock->rank >= LOCK_CALLBACKS)
                inside_put_off();
        else
                inside_me(); /* so that a fork waits for it */
}

static void lock_leave(const struct lock *lock)
{
        if (lock->rank == LOCK_TASK || lock->rank == LOCK_CHANNEL)
                nest_less_deep();
        else if (lock->rank >= LOCK_CALLBACKS)
                inside_put_off_no_more();
}

void lock_word_acquire(_Atomic uint32_t *word)
{
        if (lock_word_try(word))
                return;
        while (!lock_word_try_contended(word))
                futex_wait(word, LOCK_WORD_CONTENDED);
}

void lock_word_release(_Atomic uint32_t *word)
{
        if (atomic_exchange_explicit(word, LOCK_WORD_FREE, memory_order_release) == LOCK_WORD_CONTENDED)
                futex_wake_one(word);
}

void lock_acquire(struct lock *lock)
{
        lock_enter(lock);
        lock_order_take(lock->rank);
        lock_word_acquire(&lock->word);
}

bool lock_try_acquire(struct lock *lock)
{
        lock_enter(lock);
        if (!lock_word_try(&lock->word)) {
                lock_leave(lock);
                return false;
        }
        lock_order_take(lock->rank);
        return true;
}

void lock_release(struct lock *lock)
{
        lock_order_drop(lock->rank);
        lock_word_release(&lock->word);
        lock_leave(lock);
}

#ifdef CHECK_LOCK_ORDER
static __thread uint32_t held; /* a bit for each rank */

static _Noreturn void complain(const char *what, unsigned rank)
{
        fprintf(stderr, "lock order: %s %u, held: 0x%x\n", what, rank, held);
        abort();
}

void lock_order_take(enum lock_rank rank)
{
        if (rank == 0 || held >> rank || (rank == LOCK_NEST_BELOW && !(held >> LOCK_NEST)))
                complain("takes", rank);
        held |= UINT32_C(1) << rank;
}

void lock_order_drop(enum lock_rank rank)
{
        if (!(held >> rank & 1))
                complain("releases", rank);
        held &= ~(UINT32_C(1) << rank);
}

void lock_order_none(void)
{
        if (held)
                complain("runs the program's code", 0);
}
#endif
