/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lib/local/after.h"
#include "lib/local/thread.h"

/* The thread that runs callbacks. The first callback starts it, and it stays. It sleeps on an eventfd
 * (callbacks are queued) and a timerfd (the earliest deadline of a context that has a callback). If a
 * deadline matters to a callback of the library's own, there is a second thread, which serves the timers and
 * runs no callbacks. A program with its own event loop does all that in its loop, without these threads
 * (remote/event-loop.c).
 *
 * A walk of a cancel adds to the queue with a compare-and-swap, while it holds locks of nests. So this file
 * takes no lock for the queue. Its one lock guards the heap of timers. */

#define RETRY_MSEC 100

struct entry {
        uint64_t deadline_usec;
        struct ctx_timer *timer;
};

static struct lock lock = LOCK_INIT(LOCK_CALLBACKS);
static struct entry *heap;
static size_t n_heap, n_allocated;

static struct ctx_after *_Atomic queue; /* in reverse order */

static _Atomic bool started;
static int wake_fd = -1, timer_fd = -1, epoll_fd = -1;
static uint64_t armed_usec = CTX_NEVER;
/* The kernel has refused to set the timer for the next deadline. So look at the deadlines again at this time,
 * on CLOCK_MONOTONIC. */
static uint64_t retry_usec = CTX_NEVER;
static bool taken_over;
static bool has_timer_thread;

static void put(size_t i, struct entry entry)
{
        heap[i] = entry;
        entry.timer->index = (uint32_t) i + 1;
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

        heap[i].timer->index = 0;
        if (i == n_heap)
                return;
        if (i > 0 && heap[(i - 1) / 2].deadline_usec > last.deadline_usec)
                sift_up(i, last);
        else
                sift_down(i, last);
}

int timer_set_fd(int fd, uint64_t usec)
{
        /* The kernel's clock does not go further, which is as good as never. */
        uint64_t at_most = usec < INT64_MAX / 1000 ? usec : INT64_MAX / 1000;
        struct itimerspec spec = {.it_value = timespec_of_usec(at_most)};

        if (usec == 0)
                spec.it_value.tv_nsec = 1; /* zero would disarm it */
        return timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL) < 0 ? -errno : 0;
}

/* The lock is held. It does no harm if the kernel's timer is early: the heap says what is due. */
static int arm_timer(void)
{
        uint64_t usec = n_heap > 0 ? heap[0].deadline_usec : CTX_NEVER;
        int r;

        if (usec >= armed_usec)
                return 0;
        r = timer_set_fd(timer_fd, usec);
        if (r == 0)
                armed_usec = usec;
        return r;
}

int timer_arm(struct ctx_timer *timer, uint64_t deadline_usec)
{
        int r = 0;

        lock_acquire(&lock);
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
                sift_up(n_heap - 1, (struct entry){.deadline_usec = deadline_usec, .timer = timer});
                r = arm_timer();
                if (r < 0)
                        heap_remove(timer->index - 1);
        }
        lock_release(&lock);
        return r;
}

void timer_disarm(struct ctx_timer *timer)
{
        lock_acquire(&lock);
        if (timer->index > 0)
                heap_remove(timer->index - 1);
        lock_release(&lock);
}

/* A timer that is due, after a successful hold(); NULL: there is none. */
static struct ctx_timer *take_due(void)
{
        struct ctx_timer *timer = NULL;

        lock_acquire(&lock);
        while (n_heap > 0 && !timer && heap[0].deadline_usec <= now_boottime_usec()) {
                struct ctx_timer *due = heap[0].timer;

                heap_remove(0);
                if (due->hold(due))
                        timer = due;
        }
        if (!timer) {
                armed_usec = CTX_NEVER;
                retry_usec = arm_timer() < 0 ? now_monotonic_usec() + RETRY_MSEC * 1000 : CTX_NEVER;
        }
        lock_release(&lock);
        return timer;
}

void callback_thread_push(struct ctx_after *after)
{
        struct ctx_after *first = atomic_load_explicit(&queue, memory_order_relaxed);

        do
                after->queued = first;
        while (!atomic_compare_exchange_weak_explicit(
                        &queue, &first, after, memory_order_release, memory_order_relaxed));
}

void callback_thread_wake(void)
{
        eventfd_write(wake_fd, 1);
}

static bool run_queue(void)
{
        struct ctx_after *after = atomic_exchange_explicit(&queue, NULL, memory_order_acquire),
                         *in_order = NULL;
        bool any = after;

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
        return any;
}

static bool fire_due(void)
{
        struct ctx_timer *timer;
        bool any = false;

        while ((timer = take_due())) {
                timer->fire(timer);
                any = true;
        }
        return any;
}

static void drain(int fd)
{
        uint64_t count;

        while (read(fd, &count, sizeof(count)) > 0)
                ;
}

uint64_t callback_thread_retry_usec(void)
{
        uint64_t usec;

        lock_acquire(&lock);
        usec = retry_usec;
        lock_release(&lock);
        return usec;
}

bool callback_thread_dispatch(int timeout)
{
        struct epoll_event events[3];
        bool fired;

        if (timeout != 0 && callback_thread_retry_usec() != CTX_NEVER)
                timeout = RETRY_MSEC;
        if (epoll_wait(epoll_fd, events, 3, timeout) > 0) {
                drain(wake_fd);
                drain(timer_fd);
        }
        fired = fire_due();
        return run_queue() || fired;
}

static void *run_callback_thread(void *unused)
{
        for (;;)
                callback_thread_dispatch(-1);
        return NULL;
}

/* The callback thread serves the timers too, but may be in a callback for a long time. */
static void *run_timer_thread(void *userdata)
{
        struct pollfd pollfd = {.fd = (int) (intptr_t) userdata, .events = POLLIN};

        for (;;) {
                if (poll(&pollfd, 1, callback_thread_retry_usec() == CTX_NEVER ? -1 : RETRY_MSEC) > 0)
                        drain(pollfd.fd);
                fire_due();
        }
        return NULL;
}

static int start_detached(void *(*fn)(void *), void *userdata, const char *name)
{
        pthread_t thread;
        int r = thread_start(fn, userdata, name, &thread);

        if (r == 0)
                pthread_detach(thread);
        return r;
}

static void close_fds(void)
{
        int *fds[] = {&wake_fd, &timer_fd, &epoll_fd};

        for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
                if (*fds[i] >= 0)
                        close(*fds[i]);
                *fds[i] = -1;
        }
}

static int open_fds(void)
{
        struct epoll_event event = {.events = EPOLLIN};

        wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
        epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (wake_fd < 0 || timer_fd < 0 || epoll_fd < 0)
                return -errno;
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake_fd, &event) < 0 ||
                        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &event) < 0)
                return -errno;
        return 0;
}

static int open_thread(void)
{
        int r = open_fds();

        if (r == 0)
                r = start_detached(run_callback_thread, NULL, "ctx-callbacks");
        if (r < 0)
                close_fds();
        return r;
}

int callback_thread_start(void)
{
        int r = 0;

        if (atomic_load_explicit(&started, memory_order_acquire))
                return 0;
        lock_acquire(&lock);
        if (!atomic_load_explicit(&started, memory_order_relaxed))
                r = open_thread();
        if (r == 0)
                atomic_store_explicit(&started, true, memory_order_release);
        lock_release(&lock);
        return r;
}

int timer_thread_start(void)
{
        int r = callback_thread_start();

        if (r < 0)
                return r;
        lock_acquire(&lock);
        if (!taken_over && !has_timer_thread) {
                r = start_detached(run_timer_thread, (void *) (intptr_t) timer_fd, "ctx-timers");
                has_timer_thread = r >= 0;
        }
        lock_release(&lock);
        return r;
}

int callback_thread_take_over(int other)
{
        struct epoll_event event = {.events = EPOLLIN};
        int r = 0;

        lock_acquire(&lock);
        if (!atomic_load_explicit(&started, memory_order_relaxed)) {
                r = open_fds();
                if (r == 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, other, &event) < 0)
                        r = -errno;
                if (r == 0) {
                        taken_over = true;
                        atomic_store_explicit(&started, true, memory_order_release);
                } else {
                        close_fds();
                }
        }
        if (r == 0)
                r = taken_over ? epoll_fd : -EBUSY;
        lock_release(&lock);
        return r;
}

/* In a child there is no callback thread, and the callbacks are the parent's. */
static void after_fork_in_child(void)
{
        for (size_t i = 0; i < n_heap; i++)
                heap[i].timer->index = 0;
        n_heap = 0;
        atomic_store(&queue, NULL);
        close_fds();
        armed_usec = retry_usec = CTX_NEVER;
        taken_over = has_timer_thread = false;
        atomic_store(&started, false);
}

FORK_PART(.lock = &lock, .in_child = after_fork_in_child)
