/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What a thread is in the middle of. A signal handler that has interrupted it asks for that (handler.c), and
 * so does another thread that forks (inside.c). */
struct inside {
        _Alignas(64) _Atomic bool locked; /* the thread holds the lock of a nest, or waits for one */
        _Atomic unsigned walks;           /* cancels that it is in, and other locks that a fork waits for */
        _Atomic unsigned depth;           /* other locks, for the handler alone */
        struct postponed *_Atomic postponed;
        _Atomic uint64_t owner;     /* the process and its thread; 0: nobody yet */
        void *_Atomic last_failure; /* remote/client-call.c; the next thread in this place uses its memory */
};

extern __thread struct inside *inside_mine __attribute__((tls_model("initial-exec"), visibility("hidden")));
/* A futex. 1: a thread forks, and no other one goes inside. */
extern _Atomic uint32_t inside_gate __attribute__((visibility("hidden")));

struct inside *inside_new(void);
/* The caller has said in *me that it is inside, but the gate was closed. Waits until it is open. */
void inside_wait(struct inside *me);
/* Before a fork: waits until no other thread is inside, and closes the gate. The locks of all parts are held,
 * so no other thread does the same. */
void inside_close(void);
/* The caller stays inside, and leaves with nest_less_deep() when it has released those locks. */
void inside_open(void);
/* In the child, while the gate is closed. */
void inside_forget_others(void);

/* Does what handlers have left to do, unless the thread is still inside. */
void nest_settle(void);

static inline struct inside *inside_me(void)
{
        struct inside *me = inside_mine;

        return __builtin_expect(me != NULL, 1) ? me : inside_new();
}

/* A handler asks. */
static inline bool nest_is_inside(void)
{
        struct inside *me = inside_mine;

        return me && (atomic_load_explicit(&me->locked, memory_order_relaxed) ||
                                     atomic_load_explicit(&me->walks, memory_order_relaxed) > 0 ||
                                     atomic_load_explicit(&me->depth, memory_order_relaxed) > 0);
}

static inline void inside_settle(const struct inside *me)
{
        if (__builtin_expect(atomic_load_explicit(&me->postponed, memory_order_relaxed) != NULL, 0))
                nest_settle();
}

/* Only the thread itself writes these, and its handlers, which leave them as they were. So a change needs no
 * atomic step. The other side's barrier is in inside_close(). */
static inline void inside_lock(void)
{
        struct inside *me = inside_me();

        atomic_store_explicit(&me->locked, true, memory_order_relaxed);
        atomic_signal_fence(memory_order_seq_cst);
        if (__builtin_expect(atomic_load_explicit(&inside_gate, memory_order_relaxed), 0))
                inside_wait(me);
}

static inline void inside_unlock(void)
{
        struct inside *me = inside_mine;

        atomic_store_explicit(&me->locked, false, memory_order_release);
        inside_settle(me);
}

static inline void inside_add(_Atomic unsigned *n, unsigned change)
{
        atomic_store_explicit(
                        n, atomic_load_explicit(n, memory_order_relaxed) + change, memory_order_release);
        atomic_signal_fence(memory_order_seq_cst);
}

static inline void nest_deeper(void)
{
        struct inside *me = inside_me();

        inside_add(&me->walks, 1);
        if (__builtin_expect(atomic_load_explicit(&inside_gate, memory_order_relaxed), 0))
                inside_wait(me);
}

/* The caller settles. */
static inline void inside_less_deep(void)
{
        atomic_signal_fence(memory_order_seq_cst);
        inside_add(&inside_mine->walks, -1U);
}

static inline void nest_less_deep(void)
{
        inside_less_deep();
        inside_settle(inside_mine);
}

/* Around a lock that a cancel takes, but for which a fork does not wait here. */
static inline void inside_put_off(void)
{
        inside_add(&inside_me()->depth, 1);
}

static inline void inside_put_off_no_more(void)
{
        struct inside *me = inside_mine;

        atomic_signal_fence(memory_order_seq_cst);
        inside_add(&me->depth, -1U);
        inside_settle(me);
}
