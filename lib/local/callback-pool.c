/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <pthread.h>

#include "lib/local/after.h"
#include "lib/local/callback-pool.h"
#include "lib/local/callback-thread.h"
#include "lib/local/thread.h"

/* A callback may take as long as it likes, and must not delay another. So callbacks run on several threads.
 * One more is started when a callback waits and all threads have been in theirs for a moment. Many short
 * callbacks are run by few threads. A thread that has had nothing to do for some time ends; one stays. With
 * THREADS_MAX callbacks that do not return, the next has to wait. If the system refuses a thread, it is asked
 * again, and the callback waits for one of those that there are.
 *
 * A walk of a cancel adds callbacks with a compare-and-swap, while it holds locks of nests. They are put in
 * order by whoever takes the next one. */

#define THREADS_MAX 1000
#define MOMENT_MSEC 1
#define REFUSED_MSEC 100
#define IDLE_USEC UINT64_C(5000000)

static struct ctx_after *_Atomic incoming; /* in reverse order */

static struct lock lock = LOCK_INIT(LOCK_POOL);
static struct ctx_after *first, **end = &first; /* in order */
static unsigned n_threads, n_taken;
static unsigned n_taken_before; /* when pool_tend() looked last */
static bool is_tended;          /* it will look again soon */

static _Atomic uint32_t n_idle;
/* A futex, on which threads sleep that have nothing to do. It changes with each wake. */
static _Atomic uint32_t turn;

void pool_push(struct ctx_after *after)
{
        struct ctx_after *last = atomic_load_explicit(&incoming, memory_order_relaxed);

        do
                after->queued = last;
        while (!atomic_compare_exchange_weak_explicit(
                        &incoming, &last, after, memory_order_release, memory_order_relaxed));
}

/* The lock is held. */
static bool has_waiting(void)
{
        return first || atomic_load(&incoming);
}

static void put_in_order(void)
{
        struct ctx_after *after = atomic_exchange_explicit(&incoming, NULL, memory_order_acquire),
                         *in_order = NULL, **new_end;

        if (!after)
                return;
        new_end = &after->queued;
        while (after) {
                struct ctx_after *next = after->queued;

                after->queued = in_order;
                in_order = after;
                after = next;
        }
        *end = in_order;
        end = new_end;
}

struct ctx_after *pool_take(bool *ret_more)
{
        struct ctx_after *after;

        lock_acquire(&lock);
        put_in_order();
        after = first;
        if (after) {
                first = after->queued;
                if (!first)
                        end = &first;
                n_taken++;
        }
        *ret_more = has_waiting() && !is_tended;
        lock_release(&lock);
        return after;
}

unsigned pool_waiting(void)
{
        unsigned n = 0;

        lock_acquire(&lock);
        put_in_order();
        for (const struct ctx_after *after = first; after; after = after->queued)
                n++;
        lock_release(&lock);
        return n;
}

bool pool_wake(void)
{
        /* A thread adds itself to n_idle before it looks at the turn for the last time. */
        atomic_fetch_add(&turn, 1);
        if (atomic_load(&n_idle) == 0)
                return false;
        futex_wake_one(&turn);
        return true;
}

struct worker {
        unsigned generation;
        bool is_counted; /* in n_threads */
};

/* Sleeps until there is something to do, or leaves if there was nothing for a long time and others are
 * left. */
static void rest(struct worker *worker, uint32_t turn_before)
{
        uint64_t begin = now_monotonic_usec();
        bool stays;

        lock_acquire(&lock);
        stays = n_threads == 1;
        lock_release(&lock);
        atomic_fetch_add(&n_idle, 1);
        futex_wait_for(&turn, turn_before, stays ? CTX_NEVER : IDLE_USEC);
        atomic_fetch_sub(&n_idle, 1);
        if (stays || now_monotonic_usec() - begin < IDLE_USEC)
                return;
        lock_acquire(&lock);
        if (n_threads > 1 && !has_waiting()) {
                n_threads--;
                worker->is_counted = false;
        }
        lock_release(&lock);
}

/* A callback may also end its thread. If it forks, its thread goes on in the child, and ends there when the
 * callback has returned. */
static void worker_end(struct worker *worker)
{
        if (!worker->is_counted || worker->generation != fork_generation)
                return;
        lock_acquire(&lock);
        n_threads--;
        lock_release(&lock);
        callback_thread_wake();
}

static void *work(void *unused)
{
        __attribute__((cleanup(worker_end))) struct worker worker = {fork_generation, true};

        while (worker.is_counted && worker.generation == fork_generation) {
                uint32_t turn_before = atomic_load(&turn);
                bool more;
                struct ctx_after *after = pool_take(&more);

                if (after && more)
                        callback_thread_wake();
                if (after)
                        after_run(after);
                else
                        rest(&worker, turn_before);
        }
        return NULL;
}

/* One more thread. 1: there are as many as limit. */
static int start_thread(unsigned limit)
{
        pthread_t thread;
        int r = 1;

        lock_acquire(&lock);
        if (n_threads < limit) {
                r = thread_start(work, NULL, "ctx-callback", &thread);
                if (r == 0) {
                        n_threads++;
                        pthread_detach(thread);
                }
        }
        lock_release(&lock);
        return r;
}

int pool_start(void)
{
        int r = start_thread(1);

        return r < 0 ? r : 0;
}

int pool_tend(void)
{
        bool waits, moves;

        lock_acquire(&lock);
        waits = is_tended = has_waiting();
        moves = n_taken != n_taken_before;
        n_taken_before = n_taken;
        lock_release(&lock);
        if (!waits)
                return -1;
        if (pool_wake() || moves)
                return MOMENT_MSEC;
        return start_thread(THREADS_MAX) == 0 ? MOMENT_MSEC : REFUSED_MSEC;
}

/* The threads and the callbacks are those of the parent process. */
static void after_fork_in_child(void)
{
        atomic_store(&incoming, NULL);
        first = NULL;
        end = &first;
        n_threads = 0;
        is_tended = false;
        atomic_store(&n_idle, 0);
}

FORK_PART(.lock = &lock, .in_child = after_fork_in_child)
