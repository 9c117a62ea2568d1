/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lib/after.h"

/* The one thread that runs callbacks. It is started by the first of them, sleeps on an eventfd (callbacks are
 * queued) and a timerfd (the earliest deadline of a context with a callback), and stays.
 *
 * A walk queues with a compare-and-swap, under locks that this file never takes. The heap of deadlines has a
 * lock of its own, under which nothing else is locked. */

struct entry {
        uint64_t deadline_usec; /* of ctx, which the callback holds */
        struct ctx_after *after;
        struct ctx *ctx;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry *heap;
static size_t n_heap, n_allocated;

static struct ctx_after *_Atomic queue; /* the last one first */

static _Atomic bool started;
static int wake_fd = -1, timer_fd = -1;
static uint64_t armed_usec = CTX_NEVER;
static void (*loop_wake)(void *userdata);
static void *loop_userdata;

static void put(size_t i, struct entry entry)
{
        heap[i] = entry;
        entry.after->heap_index = (uint32_t) i + 1;
}

static void sift_up(size_t i, struct entry entry)
{
        for (; i > 0 && heap[(i - 1) / 2].deadline_usec > entry.deadline_usec; i = (i - 1) / 2)
                put(i, heap[(i - 1) / 2]);
        put(i, entry);
}

static void sift_down(size_t i, struct entry entry)
{
        for (;;) {
                size_t next = 2 * i + 1;

                if (next + 1 < n_heap && heap[next + 1].deadline_usec < heap[next].deadline_usec)
                        next++;
                if (next >= n_heap || heap[next].deadline_usec >= entry.deadline_usec)
                        break;
                put(i, heap[next]);
                i = next;
        }
        put(i, entry);
}

static void heap_remove(size_t i)
{
        struct entry last = heap[--n_heap];

        heap[i].after->heap_index = 0;
        if (i == n_heap)
                return;
        if (i > 0 && heap[(i - 1) / 2].deadline_usec > last.deadline_usec)
                sift_up(i, last);
        else
                sift_down(i, last);
}

/* The lock is held. A timer that is set too early does no harm: what is due is asked of the heap. */
static void arm_timer(void)
{
        uint64_t usec = n_heap > 0 ? heap[0].deadline_usec : CTX_NEVER;
        struct itimerspec spec = {};

        if (usec >= armed_usec)
                return;
        armed_usec = usec;
        if (timer_fd < 0)
                return;
        if (usec > INT64_MAX / 1000)
                usec = INT64_MAX / 1000;
        spec.it_value.tv_sec = (time_t) (usec / 1000000);
        spec.it_value.tv_nsec = usec == 0 ? 1 : (long) (usec % 1000000) * 1000;
        timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

int helper_arm(struct ctx_after *after, struct ctx *ctx)
{
        uint64_t deadline_usec = ctx->deadline_usec;
        bool sooner = false;
        int r = 0;

        pthread_mutex_lock(&lock);
        if (n_heap == n_allocated) {
                size_t n = n_allocated ? 2 * n_allocated : 16;
                struct entry *grown = reallocarray(heap, n, sizeof(struct entry));

                if (grown) {
                        heap = grown;
                        n_allocated = n;
                } else {
                        r = -ENOMEM;
                }
        }
        if (r == 0) {
                n_heap++;
                sift_up(n_heap - 1,
                                (struct entry){.deadline_usec = deadline_usec, .after = after, .ctx = ctx});
                sooner = timer_fd < 0 && deadline_usec < armed_usec;
                arm_timer();
        }
        pthread_mutex_unlock(&lock);
        if (sooner)
                loop_wake(loop_userdata);
        return r;
}

void helper_disarm(struct ctx_after *after)
{
        /* No deadline, never armed: known without the lock, since only its registration arms it. */
        if (!after->child.parent || after->child.parent->deadline_usec == CTX_NEVER)
                return;
        pthread_mutex_lock(&lock);
        if (after->heap_index > 0)
                heap_remove(after->heap_index - 1);
        pthread_mutex_unlock(&lock);
}

/* A context with a callback whose deadline has passed, referenced; NULL: none is due. Whoever is in the heap
 * has not let go of its context yet. */
static struct ctx *take_due(void)
{
        struct ctx *ctx = NULL;

        pthread_mutex_lock(&lock);
        while (n_heap > 0 && !ctx && heap[0].deadline_usec <= now_usec()) {
                struct ctx *parent = heap[0].ctx;

                heap_remove(0);
                if (ctx_ref_if_alive(parent))
                        ctx = parent;
        }
        if (!ctx) {
                armed_usec = CTX_NEVER;
                arm_timer();
        }
        pthread_mutex_unlock(&lock);
        return ctx;
}

void helper_push(struct ctx_after *after)
{
        struct ctx_after *first = atomic_load_explicit(&queue, memory_order_relaxed);

        do
                after->queued = first;
        while (!atomic_compare_exchange_weak_explicit(
                        &queue, &first, after, memory_order_release, memory_order_relaxed));
}

void helper_wake(void)
{
        if (loop_wake)
                loop_wake(loop_userdata);
        else
                eventfd_write(wake_fd, 1);
}

static void run_queue(void)
{
        struct ctx_after *after = atomic_exchange_explicit(&queue, NULL, memory_order_acquire),
                         *in_order = NULL;

        while (after) {
                struct ctx_after *next = after->queued;

                after->queued = in_order;
                in_order = after;
                after = next;
        }
        while (in_order) {
                after = in_order;
                in_order = after->queued;
                after_run(after);
        }
}

static void end_due(void)
{
        struct ctx *ctx;

        while ((ctx = take_due())) {
                if (ctx_state(ctx))
                        ctx_end(ctx, STATE_WORD_DEADLINE_EXCEEDED, NULL);
                ctx_unref(ctx);
        }
}

int helper_dispatch(uint64_t *ret_deadline_usec)
{
        end_due();
        run_queue();
        pthread_mutex_lock(&lock);
        if (ret_deadline_usec)
                *ret_deadline_usec = n_heap > 0 ? heap[0].deadline_usec : CTX_NEVER;
        pthread_mutex_unlock(&lock);
        return 0;
}

static void *helper_thread(void *unused)
{
        struct pollfd fds[2] = {{.fd = wake_fd, .events = POLLIN}, {.fd = timer_fd, .events = POLLIN}};
        uint64_t count;

        for (;;) {
                if (poll(fds, 2, -1) < 0)
                        continue;
                if (fds[0].revents && read(wake_fd, &count, sizeof(count)) < 0)
                        fds[0].revents = 0;
                if (fds[1].revents && read(timer_fd, &count, sizeof(count)) < 0)
                        fds[1].revents = 0;
                helper_dispatch(NULL);
        }
        return NULL;
}

static int start_thread(void)
{
        pthread_attr_t attr;
        sigset_t all, old;
        pthread_t thread;
        int r;

        r = pthread_attr_init(&attr);
        if (r != 0)
                return -r;
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        /* The program's signals are the program's threads'. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(&thread, &attr, helper_thread, NULL);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        pthread_attr_destroy(&attr);
        if (r == 0)
                pthread_setname_np(thread, "ctx-callbacks");
        return -r;
}

static int open_helper(void)
{
        int r;

        wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (wake_fd < 0)
                return -errno;
        timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
        if (timer_fd < 0) {
                r = -errno;
        } else {
                r = start_thread();
                if (r == 0)
                        return 0;
                close(timer_fd);
        }
        close(wake_fd);
        wake_fd = timer_fd = -1;
        return r;
}

int helper_start(void)
{
        int r = 0;

        if (atomic_load_explicit(&started, memory_order_acquire))
                return 0;
        pthread_mutex_lock(&lock);
        if (!atomic_load_explicit(&started, memory_order_relaxed))
                r = open_helper();
        if (r == 0)
                atomic_store_explicit(&started, true, memory_order_release);
        pthread_mutex_unlock(&lock);
        return r;
}

int helper_take_over(void (*wake)(void *userdata), void *userdata)
{
        int r = 0;

        pthread_mutex_lock(&lock);
        if (atomic_load_explicit(&started, memory_order_relaxed)) {
                r = -EBUSY;
        } else {
                loop_wake = wake;
                loop_userdata = userdata;
                atomic_store_explicit(&started, true, memory_order_release);
        }
        pthread_mutex_unlock(&lock);
        return r;
}

/* The child of a fork has no helper, and none of the parent's callbacks. */
static void before_fork(void)
{
        pthread_mutex_lock(&lock);
}

static void after_fork_in_parent(void)
{
        pthread_mutex_unlock(&lock);
}

static void after_fork_in_child(void)
{
        for (size_t i = 0; i < n_heap; i++)
                heap[i].after->heap_index = 0;
        n_heap = 0;
        atomic_store(&queue, NULL);
        if (wake_fd >= 0)
                close(wake_fd);
        if (timer_fd >= 0)
                close(timer_fd);
        wake_fd = timer_fd = -1;
        armed_usec = CTX_NEVER;
        loop_wake = NULL;
        atomic_store(&started, false);
        pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void watch_forks(void)
{
        pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}
