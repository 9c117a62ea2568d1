/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/local/after.h"
#include "lib/local/callback-pool.h"
#include "lib/local/callback-thread.h"
#include "lib/local/handler.h"
#include "lib/local/raw.h"
#include "lib/local/thread.h"

/* The service thread is started when something first needs it, and stays. It sleeps on an epoll set: a
 * timerfd (timer.c), an eventfd (callbacks wait, and no thread of the pool is free), and what else was
 * added. So nothing of the library's own waits for a callback. A program with its own event loop does all
 * that in its loop, and runs the callbacks there one by one, without any of these threads
 * (remote/event-loop.c). */

static struct lock lock = LOCK_INIT(LOCK_CALLBACKS);
static _Atomic bool started, runs_callbacks;
static bool taken_over, has_parents_wake_fd;
static int wake_fd = -1, epoll_fd = -1;

void callback_thread_wake(void)
{
        if (taken_over || !pool_wake())
                raw_eventfd_write(wake_fd, 1);
}

bool service_thread_is_there(void)
{
        return atomic_load_explicit(&started, memory_order_acquire) && !taken_over;
}

void service_thread_wake(void)
{
        raw_eventfd_write(wake_fd, 1);
}

static bool drain_wake_fd(void)
{
        uint64_t count;

        while (read(wake_fd, &count, sizeof(count)) > 0)
                ;
        return false;
}

static bool serve(int timeout)
{
        struct epoll_event events[8];
        int n = thread_epoll_wait(epoll_fd, events, 8, timeout);
        bool any = false;

        for (int i = 0; i < n; i++) {
                uint64_t data = events[i].data.u64;
                bool (*source)(void) = (bool (*)(void))(uintptr_t) data;

                if (data & HANGUP_MARK) {
                        hangup_serve(data, events[i].events);
                        any = true;
                } else if (source && source()) {
                        any = true;
                }
        }
        /* Also without its descriptor: see timer_retry_usec(). */
        any |= handler_serve();
        return timer_fire_due() || any;
}

static void *run_service_thread(void *unused)
{
        for (;;) {
                int timeout = pool_tend();

                if (timeout < 0 && timer_retry_usec() != CTX_NEVER)
                        timeout = TIMER_RETRY_MSEC;
                serve(timeout);
        }
        return NULL;
}

/* Those that are added meanwhile are left for the next time. */
static bool run_callbacks(void)
{
        struct ctx_after *after;
        unsigned n = pool_waiting();
        bool any = n > 0, more;

        for (; n > 0 && (after = pool_take(&more)); n--) {
                /* Also for the case that a callback does not come back here, in C++. */
                if (more)
                        callback_thread_wake();
                after_run(after);
        }
        return any;
}

bool callback_thread_dispatch(void)
{
        bool any = serve(0);

        return run_callbacks() || any;
}

static int add(int fd, bool (*source)(void))
{
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uintptr_t) source};

        return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int service_thread_add(int fd, bool (*source)(void))
{
        return add(fd, source);
}

int service_thread_watch(int operation, int fd, struct epoll_event *event)
{
        return epoll_ctl(epoll_fd, operation, fd, event) < 0 ? -errno : 0;
}

void service_thread_unwatch(int fd)
{
        syscall(SYS_epoll_ctl, epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* What wakes stays: a handler may be about to write to it. */
static void close_fds(void)
{
        timer_close();
        if (epoll_fd >= 0)
                close(epoll_fd);
        epoll_fd = -1;
}

/* Nobody has been served yet. */
static void give_up_fds(void)
{
        close_fds();
        if (wake_fd >= 0)
                close(wake_fd);
        wake_fd = -1;
}

static int open_fds(void)
{
        int timer_fd = timer_open(), r;

        if (timer_fd < 0)
                return timer_fd;
        if (has_parents_wake_fd && !raw_eventfd_renew(wake_fd))
                return -EMFILE;
        has_parents_wake_fd = false;
        if (wake_fd < 0)
                wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (wake_fd < 0 || epoll_fd < 0)
                return -errno;
        r = add(wake_fd, drain_wake_fd);
        return r < 0 ? r : add(timer_fd, timer_drain);
}

static int open_thread(void)
{
        pthread_t thread;
        int r = open_fds();

        if (r == 0)
                r = thread_start(run_service_thread, NULL, "ctx-service", &thread);
        if (r == 0)
                pthread_detach(thread);
        else
                give_up_fds();
        return r;
}

int service_thread_start(void)
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

int callback_thread_start(void)
{
        int r;

        if (atomic_load_explicit(&runs_callbacks, memory_order_acquire))
                return 0;
        r = service_thread_start();
        if (r == 0 && !taken_over)
                r = pool_start();
        if (r == 0)
                atomic_store_explicit(&runs_callbacks, true, memory_order_release);
        return r;
}

int callback_thread_take_over(int other)
{
        int r = 0;

        lock_acquire(&lock);
        if (!atomic_load_explicit(&started, memory_order_relaxed)) {
                r = open_fds();
                if (r == 0)
                        r = add(other, NULL);
                if (r == 0) {
                        taken_over = true;
                        atomic_store_explicit(&started, true, memory_order_release);
                } else {
                        give_up_fds();
                }
        }
        if (r == 0)
                r = taken_over ? epoll_fd : -EBUSY;
        lock_release(&lock);
        return r;
}

/* In a child there is no such thread. */
static void after_fork_in_child(void)
{
        close_fds();
        has_parents_wake_fd = !raw_eventfd_renew(wake_fd);
        taken_over = false;
        atomic_store(&runs_callbacks, false);
        atomic_store(&started, false);
}

FORK_PART(.lock = &lock, .in_child = after_fork_in_child)
