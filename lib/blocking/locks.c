/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "lib/blocking/ctx-futex.h"

/* A mutex, a condition and a semaphore. Waiting for one ends when a context is done. A thread that gives up
 * looks once more before it returns (law 26): a wake-up that it got is meant for one thread only, and must
 * not be lost. */

int ctx_mutex_lock(struct ctx *ctx, struct ctx_mutex *mutex)
{
        _Atomic uint32_t *word;
        uint32_t state;
        int r;

        if (!ctx || !mutex)
                return -EINVAL;
        state = ctx_state(ctx->source);
        if (state)
                return state_to_errno(state);
        word = word_of(&mutex->word);
        if (lock_word_try(word))
                return 0;

        r = ctx_futex_begin(ctx);
        while (r == 0) {
                if (lock_word_try_contended(word))
                        return 0;
                r = ctx_futex_wait(ctx, word, LOCK_WORD_CONTENDED);
        }
        return lock_word_try_contended(word) ? 0 : r;
}

int ctx_mutex_trylock(struct ctx_mutex *mutex)
{
        if (!mutex)
                return -EINVAL;
        return lock_word_try(word_of(&mutex->word)) ? 0 : -EBUSY;
}

int ctx_mutex_unlock(struct ctx_mutex *mutex)
{
        if (!mutex)
                return -EINVAL;
        if (atomic_load_explicit(word_of(&mutex->word), memory_order_relaxed) == LOCK_WORD_FREE)
                return -EPERM;
        lock_word_release(word_of(&mutex->word));
        return 0;
}

int ctx_cond_wait(struct ctx *ctx, struct ctx_cond *cond, struct ctx_mutex *mutex)
{
        _Atomic uint32_t *sequence;
        uint32_t seen;
        int r;

        if (!ctx || !cond || !mutex)
                return -EINVAL;
        r = ctx_futex_begin(ctx);
        if (r < 0)
                return r;

        sequence = word_of(&cond->sequence);
        seen = atomic_load(sequence);
        lock_word_release(word_of(&mutex->word));
        do
                r = ctx_futex_wait(ctx, sequence, seen);
        while (r == 0 && atomic_load(sequence) == seen);
        lock_word_acquire(word_of(&mutex->word));
        /* If there was a signal as well, it may have been meant for this thread. So it counts. */
        return atomic_load(sequence) != seen ? 0 : r;
}

int ctx_cond_signal(struct ctx_cond *cond)
{
        if (!cond)
                return -EINVAL;
        atomic_fetch_add(word_of(&cond->sequence), 1);
        futex_wake_one(word_of(&cond->sequence));
        return 0;
}

int ctx_cond_broadcast(struct ctx_cond *cond)
{
        if (!cond)
                return -EINVAL;
        atomic_fetch_add(word_of(&cond->sequence), 1);
        futex_wake_all(word_of(&cond->sequence));
        return 0;
}

static bool sem_take(_Atomic uint32_t *value)
{
        uint32_t n = atomic_load_explicit(value, memory_order_relaxed);

        while (n > 0)
                if (atomic_compare_exchange_weak_explicit(
                                    value, &n, n - 1, memory_order_acquire, memory_order_relaxed))
                        return true;
        return false;
}

int ctx_sem_wait(struct ctx *ctx, struct ctx_sem *sem)
{
        _Atomic uint32_t *value;
        uint32_t state;
        int r;

        if (!ctx || !sem)
                return -EINVAL;
        state = ctx_state(ctx->source);
        if (state)
                return state_to_errno(state);
        value = word_of(&sem->value);
        if (sem_take(value))
                return 0;

        r = ctx_futex_begin(ctx);
        if (r < 0)
                return r;
        atomic_fetch_add(word_of(&sem->waiters), 1);
        for (;;) {
                if (sem_take(value)) {
                        r = 0; /* even if the context is done by now */
                        break;
                }
                if (r < 0)
                        break;
                r = ctx_futex_wait(ctx, value, 0);
        }
        atomic_fetch_sub(word_of(&sem->waiters), 1);
        return r;
}

int ctx_sem_trywait(struct ctx_sem *sem)
{
        if (!sem)
                return -EINVAL;
        return sem_take(word_of(&sem->value)) ? 0 : -EAGAIN;
}

int ctx_sem_post(struct ctx_sem *sem)
{
        uint32_t n;

        if (!sem)
                return -EINVAL;
        n = atomic_load(word_of(&sem->value));
        do {
                if (n == UINT32_MAX)
                        return -EOVERFLOW;
        } while (!atomic_compare_exchange_weak(word_of(&sem->value), &n, n + 1));
        if (atomic_load(word_of(&sem->waiters)) > 0)
                futex_wake_one(word_of(&sem->value));
        return 0;
}
