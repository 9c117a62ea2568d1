/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lib/local/callback-thread.h"
#include "lib/local/ctx.h"
#include "lib/local/timer.h"

/* The deadlines at which something has to be done without being asked: those of contexts that have callbacks,
 * and those that were moved (extend.c). They are in a heap, and one timerfd stands for the earliest. */

struct entry {
        uint64_t deadline_usec;
        struct ctx_timer *timer;
};

static struct lock lock = LOCK_INIT(LOCK_TIMERS);
static struct entry *heap;
static size_t n_heap, n_allocated;
static int timer_fd = -1;
static uint64_t armed_usec = CTX_NEVER;
/* The kernel has refused to set the timer for the next deadline. So look at the deadlines again at this time,
 * on CLOCK_MONOTONIC. */
static uint64_t retry_usec = CTX_NEVER;

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

/* The lock is held. */
static int arm(struct ctx_timer *timer, uint64_t deadline_usec)
{
        int r = 0;

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
        return r;
}

int timer_arm(struct ctx_timer *timer, uint64_t deadline_usec)
{
        int r;

        lock_acquire(&lock);
        r = arm(timer, deadline_usec);
        lock_release(&lock);
        return r;
}

int timer_set(struct ctx_timer *timer, uint64_t deadline_usec)
{
        int r = 0;

        lock_acquire(&lock);
        if (timer->index == 0) {
                r = arm(timer, deadline_usec);
        } else if (heap[timer->index - 1].deadline_usec > deadline_usec) {
                sift_up(timer->index - 1, (struct entry){.deadline_usec = deadline_usec, .timer = timer});
                r = arm_timer();
        }
        lock_release(&lock);
        return r;
}

void timer_move(struct ctx_timer *timer, uint64_t deadline_usec)
{
        lock_acquire(&lock);
        if (timer->index > 0) {
                heap_remove(timer->index - 1);
                n_heap++;
                sift_up(n_heap - 1, (struct entry){.deadline_usec = deadline_usec, .timer = timer});
                if (arm_timer() < 0)
                        callback_thread_wake(); /* it arms the timer again */
        }
        lock_release(&lock);
}

void timer_disarm(struct ctx_timer *timer)
{
        lock_acquire(&lock);
        if (timer->index > 0)
                heap_remove(timer->index - 1);
        lock_release(&lock);
}

/* A timer that is due, after hold(); NULL: there is none. */
static struct ctx_timer *take_due(void)
{
        struct ctx_timer *timer = NULL;
        uint64_t now = now_boottime_usec(), deadline;

        lock_acquire(&lock);
        while (n_heap > 0 && !timer && heap[0].deadline_usec <= now) {
                deadline = heap[0].timer->hold(heap[0].timer, now);
                if (deadline > now) {
                        sift_down(0, (struct entry){.deadline_usec = deadline, .timer = heap[0].timer});
                } else {
                        timer = heap[0].timer;
                        heap_remove(0);
                }
        }
        if (!timer) {
                armed_usec = CTX_NEVER;
                retry_usec = arm_timer() < 0 ? now_monotonic_usec() + TIMER_RETRY_MSEC * 1000 : CTX_NEVER;
        }
        lock_release(&lock);
        return timer;
}

bool timer_drain(void)
{
        uint64_t count;

        (void) !read(timer_fd, &count, sizeof(count));
        return false;
}

bool timer_fire_due(void)
{
        struct ctx_timer *timer;
        bool any = false;

        while ((timer = take_due())) {
                timer->fire(timer);
                any = true;
        }
        return any;
}

uint64_t timer_retry_usec(void)
{
        uint64_t usec;

        lock_acquire(&lock);
        usec = retry_usec;
        lock_release(&lock);
        return usec;
}

int timer_open(void)
{
        timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
        return timer_fd < 0 ? -errno : timer_fd;
}

void timer_close(void)
{
        if (timer_fd >= 0)
                close(timer_fd);
        timer_fd = -1;
}

/* The callbacks are those of the parent process. */
static void after_fork_in_child(void)
{
        for (size_t i = 0; i < n_heap; i++)
                heap[i].timer->index = 0;
        n_heap = 0;
        armed_usec = retry_usec = CTX_NEVER;
        timer_close();
}

FORK_PART(.lock = &lock, .in_child = after_fork_in_child)
