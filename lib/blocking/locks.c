/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <pthread.h>

#include "lib/blocking/ctx-futex.h"

/* A mutex, a condition and a semaphore. Waiting for one ends when a context is done. A thread that gives up
 * looks once more before it returns (law 26): a wake-up that it got is meant for one thread only, and must
 * not be lost. So does a thread that is cancelled (pthread_cancel(3)).
 *
 * Who unlocks, posts or signals changes one word, and that is the last access: from then on another thread
 * may free the memory. Only the address is used after that, to wake whoever sleeps there (law 22). */

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
                r = ctx_futex_wait(ctx, word, LOCK_WORD_CONTENDED, FUTEX_NOT_CANCELLABLE);
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

struct cond_wait {
        _Atomic uint32_t *sequence, *mutex;
        uint32_t seen;
};

/* A signal that has woken this thread may have been meant for another one, which is not known. */
static void cond_cancelled(void *userdata)
{
        struct cond_wait *wait = userdata;

        if (atomic_load(wait->sequence) != wait->seen)
                futex_wake_all(wait->sequence);
        lock_word_acquire(wait->mutex);
}

static int cond_sleep(struct ctx *ctx, struct cond_wait *wait)
{
        int r;

        pthread_cleanup_push(cond_cancelled, wait);
        do
                r = ctx_futex_wait(ctx, wait->sequence, wait->seen, FUTEX_CANCELLABLE);
        while (r == 0 && atomic_load(wait->sequence) == wait->seen);
        pthread_cleanup_pop(0);
        return r;
}

int ctx_cond_wait(struct ctx *ctx, struct ctx_cond *cond, struct ctx_mutex *mutex)
{
        struct cond_wait wait;
        int r;

        if (!ctx || !cond || !mutex)
                return -EINVAL;
        r = ctx_futex_begin(ctx);
        if (r < 0)
                return r;

        wait = (struct cond_wait){.sequence = word_of(&cond->sequence), .mutex = word_of(&mutex->word)};
        wait.seen = atomic_load(wait.sequence);
        lock_word_release(wait.mutex);
        r = cond_sleep(ctx, &wait);
        lock_word_acquire(wait.mutex);
        /* If there was a signal as well, it may have been meant for this thread. So it counts. */
        return atomic_load(wait.sequence) != wait.seen ? 0 : r;
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

/* The value of a semaphore, and beside it, in the same word, whether a thread may sleep. So a post learns
 * that in the one step that makes its value seen. */
#define SEM_COUNT UINT32_C(0x7fffffff)
#define SEM_SLEEPERS UINT32_C(0x80000000)
_Static_assert(SEM_COUNT == CTX_SEM_VALUE_MAX, "the header says so");

static bool sem_take(_Atomic uint32_t *value)
{
        uint32_t n = atomic_load_explicit(value, memory_order_relaxed);

        while (n & SEM_COUNT)
                if (atomic_compare_exchange_weak_explicit(
                                    value, &n, n - 1, memory_order_acquire, memory_order_relaxed))
                        return true;
        return false;
}

/* The post that has woken this thread is left to another one. */
static void sem_cancelled(void *userdata)
{
        struct ctx_sem *sem = userdata;

        atomic_fetch_sub(word_of(&sem->waiters), 1);
        if (atomic_load(word_of(&sem->value)) & SEM_COUNT)
                futex_wake_one(word_of(&sem->value));
}

static int sem_take_or_sleep(struct ctx *ctx, _Atomic uint32_t *value)
{
        int r = 0;

        while (!sem_take(value)) {
                uint32_t none = 0;

                if (r < 0)
                        return r;
                atomic_compare_exchange_strong(value, &none, SEM_SLEEPERS);
                r = ctx_futex_wait(ctx, value, SEM_SLEEPERS, FUTEX_CANCELLABLE);
        }
        return 0; /* even if the context is done by now */
}

static int sem_wait_slow(struct ctx *ctx, struct ctx_sem *sem)
{
        int r;

        atomic_fetch_add(word_of(&sem->waiters), 1);
        pthread_cleanup_push(sem_cancelled, sem);
        r = sem_take_or_sleep(ctx, word_of(&sem->value));
        pthread_cleanup_pop(0);
        atomic_fetch_sub(word_of(&sem->waiters), 1);
        return r;
}

int ctx_sem_wait(struct ctx *ctx, struct ctx_sem *sem)
{
        uint32_t state;
        int r;

        if (!ctx || !sem)
                return -EINVAL;
        state = ctx_state(ctx->source);
        if (state)
                return state_to_errno(state);
        if (sem_take(word_of(&sem->value)))
                return 0;

        r = ctx_futex_begin(ctx);
        return r < 0 ? r : sem_wait_slow(ctx, sem);
}

int ctx_sem_trywait(struct ctx_sem *sem)
{
        if (!sem)
                return -EINVAL;
        return sem_take(word_of(&sem->value)) ? 0 : -EAGAIN;
}

int ctx_sem_post(struct ctx_sem *sem)
{
        _Atomic uint32_t *value;
        uint32_t n, next;

        if (!sem)
                return -EINVAL;
        value = word_of(&sem->value);
        n = atomic_load_explicit(value, memory_order_relaxed);
        do {
                if ((n & SEM_COUNT) == SEM_COUNT)
                        return -EOVERFLOW;
                next = n + 1;
                /* The flag goes with the last waiter. If another one has come meanwhile, it is woken as well,
                 * and sets the flag again. */
                if (n & SEM_SLEEPERS &&
                                atomic_load_explicit(word_of(&sem->waiters), memory_order_relaxed) <= 1)
                        next &= ~SEM_SLEEPERS;
        } while (!atomic_compare_exchange_weak(value, &n, next));
        /* The semaphore may be gone by now. */
        if (__builtin_expect(!(n & SEM_SLEEPERS), 1))
                return 0;
        if (next & SEM_SLEEPERS)
                futex_wake_one(value);
        else
                futex_wake_all(value);
        return 0;
}
