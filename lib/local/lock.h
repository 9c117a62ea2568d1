/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The locks inside the library, and the order in which a thread takes them.
 *
 * There are two kinds. A struct lock is a mutex of one word, on which the kernel is asked only if two threads
 * meet. The lock of a list of children is one bit of its word (lib/local/ctx.h, struct nest). Each has a
 * rank: a thread that holds a lock takes only locks of a higher rank. So no two threads can wait for each
 * other. A thread that runs code of the program (a callback, a destructor) holds none.
 *
 * With -DCHECK_LOCK_ORDER the library aborts where this is not kept; tests/lib runs a library that was built
 * so. */

enum lock_rank {
        LOCK_FROM_ENV = 1, /* remote/from-env.c: the process's own client */
        LOCK_EVENT_LOOP,   /* remote/event-loop.c: held while the threads' work is taken over */
        LOCK_CLIENT,       /* remote/client.h: never held while an answer is awaited */
        LOCK_CONTEXT_LIST, /* remote/client.h: the list of a client's contexts */
        LOCK_CLIENT_LIST,  /* remote/client-list.c */
        LOCK_DONE_HANDLES, /* remote/done-handle.c */
        LOCK_WATCH,        /* remote/watch.c */
        LOCK_HANGUPS,      /* local/hangup.c */
        LOCK_SIGNALS,      /* local/signals.c */
        LOCK_CALLBACKS,    /* local/callback-thread.c: held while the thread is started */
        LOCK_TIMERS,       /* local/timer.c */
        LOCK_POOL,         /* local/callback-pool.c: the callbacks that wait */
        LOCK_TASK,         /* blocking/spawn.c */
        LOCK_GROUP,        /* blocking/thread-group.c */
        LOCK_CHANNEL,      /* blocking/channel.c; those of a select together, in the order of addresses */
        LOCK_NEST,         /* local/ctx.h: the list of children of a context, or a part of it */
        LOCK_NEST_BELOW,   /* the same of one of these children */
};

struct lock {
        _Atomic uint32_t word;
        uint32_t rank;
};

#define LOCK_INIT(the_rank)      \
        {                        \
                .rank = the_rank \
        }

void lock_acquire(struct lock *lock);
bool lock_try_acquire(struct lock *lock);
void lock_release(struct lock *lock);

/* The word of a lock. That of a ctx_mutex is the same. */
enum lock_word {
        LOCK_WORD_FREE,
        LOCK_WORD_HELD,
        LOCK_WORD_CONTENDED, /* held, and another thread may sleep until it is free */
};

static inline bool lock_word_try(_Atomic uint32_t *word)
{
        uint32_t expected = LOCK_WORD_FREE;

        return atomic_compare_exchange_strong_explicit(
                        word, &expected, LOCK_WORD_HELD, memory_order_acquire, memory_order_relaxed);
}

/* Before and after a sleep. It leaves CONTENDED in the word, so that whoever releases the lock wakes the
 * next. */
static inline bool lock_word_try_contended(_Atomic uint32_t *word)
{
        return atomic_exchange_explicit(word, LOCK_WORD_CONTENDED, memory_order_acquire) == LOCK_WORD_FREE;
}

void lock_word_acquire(_Atomic uint32_t *word);
void lock_word_release(_Atomic uint32_t *word);

#ifdef CHECK_LOCK_ORDER
void lock_order_take(enum lock_rank rank);
void lock_order_drop(enum lock_rank rank);
/* The program's code is about to run. */
void lock_order_none(void);
#else
static inline void lock_order_take(enum lock_rank rank) {}

static inline void lock_order_drop(enum lock_rank rank) {}

static inline void lock_order_none(void) {}
#endif
