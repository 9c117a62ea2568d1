/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "lib/shared-context.h"

/* Tells the local descendants of a shared context that it is done, where somebody waits for that by a
 * descriptor or a callback: one thread, started when it is first needed, that sleeps on an epoll set of done
 * handles. Callbacks have a thread of their own (helper.c), so that this one never queues behind them. A
 * program with a loop of its own serves the set there, and no thread is started (loop.c).
 *
 * A handle leaves the set under the lock, and events are taken out of the set under the lock, so that an
 * event never names a handle that is gone. */

#define EVENTS_AT_ONCE 64

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int epoll_fd = -1;
static size_t n_watched; /* handles in the set */
static bool has_thread, taken_over;

LIST_HEAD(watcher_list, shared);

/* The handle is in the set; the lock is held. */
static void leave(struct handle *h)
{
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, h->fd, NULL);
        h->watch_generation = 0;
        n_watched--;
}

/* Moves those who watch a handle to fired, each with a reference. The lock is held. */
static void take(struct handle *h, struct watcher_list *fired)
{
        struct shared *shared;

        while ((shared = LIST_FIRST(&h->watchers))) {
                LIST_REMOVE(shared, watchers);
                shared->watch = WATCH_FIRED;
                /* One that is on its way out waits for the lock in watch_stop(). */
                if (ctx_ref_if_alive(&shared->ctx.wide.ctx))
                        LIST_INSERT_HEAD(fired, shared, watchers);
        }
        leave(h);
}

bool watch_dispatch(void)
{
        struct watcher_list fired = LIST_HEAD_INITIALIZER(fired);
        struct epoll_event events[EVENTS_AT_ONCE];
        struct shared *shared;
        int n;

        pthread_mutex_lock(&lock);
        n = epoll_wait(epoll_fd, events, EVENTS_AT_ONCE, 0);
        for (int i = 0; i < n; i++)
                take(events[i].data.ptr, &fired);
        pthread_mutex_unlock(&lock);

        while ((shared = LIST_FIRST(&fired))) {
                LIST_REMOVE(shared, watchers);
                shared_finish(shared);
                ctx_unref(&shared->ctx.wide.ctx);
        }
        return n > 0;
}

static void *watch_thread(void *userdata)
{
        int fd = (int) (intptr_t) userdata;
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};

        for (;;)
                if (poll(&pollfd, 1, -1) > 0)
                        watch_dispatch();
        return NULL;
}

/* The lock is held, in all of these. */
static int open_set(void)
{
        if (epoll_fd < 0)
                epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        return epoll_fd < 0 ? -errno : 0;
}

static void close_set(void)
{
        if (epoll_fd >= 0)
                close(epoll_fd);
        epoll_fd = -1;
}

static int start_thread(void)
{
        pthread_t thread;
        sigset_t all, old;
        int r;

        /* The program's signals are the program's threads'. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(&thread, NULL, watch_thread, (void *) (intptr_t) epoll_fd);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (r != 0)
                return -r;
        pthread_setname_np(thread, "ctx-watch");
        pthread_detach(thread);
        has_thread = true;
        return 0;
}

/* Sees that somebody looks at the set. */
static int serve(void)
{
        int r = open_set();

        if (r == 0 && !has_thread && !taken_over)
                r = start_thread();
        if (r < 0 && n_watched == 0)
                close_set();
        return r;
}

static int add(struct shared *shared, struct handle *h)
{
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = h};
        int r;

        if (shared->watch != WATCH_NONE && shared->watch_generation == fork_generation)
                return 0;
        r = serve();
        if (r < 0)
                return r;
        if (h->watch_generation != fork_generation + 1) {
                if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, h->fd, &event) < 0)
                        return -errno;
                h->watch_generation = fork_generation + 1;
                n_watched++;
        }
        if (shared->watch != WATCH_LISTED)
                LIST_INSERT_HEAD(&h->watchers, shared, watchers);
        shared->watch = WATCH_LISTED;
        shared->watch_generation = fork_generation;
        return 0;
}

int watch_start(struct shared *shared)
{
        int r = handle_fd(shared);

        if (r < 0)
                return r;
        pthread_mutex_lock(&lock);
        r = add(shared, atomic_load_explicit(&shared->handle, memory_order_acquire));
        pthread_mutex_unlock(&lock);
        return r;
}

/* Nobody has a reference any more, and the handle is still there. */
void watch_stop(struct shared *shared)
{
        struct handle *h = atomic_load_explicit(&shared->handle, memory_order_acquire);

        if (shared->watch == WATCH_NONE)
                return;
        pthread_mutex_lock(&lock);
        if (shared->watch == WATCH_LISTED) {
                LIST_REMOVE(shared, watchers);
                if (LIST_EMPTY(&h->watchers) && h->watch_generation == fork_generation + 1)
                        leave(h);
        }
        pthread_mutex_unlock(&lock);
}

int watch_take_over(void)
{
        int r;

        pthread_mutex_lock(&lock);
        r = has_thread ? -EBUSY : open_set();
        if (r == 0) {
                taken_over = true;
                r = epoll_fd;
        }
        pthread_mutex_unlock(&lock);
        return r;
}

void watch_give_back(void)
{
        pthread_mutex_lock(&lock);
        taken_over = false;
        /* If that fails, the next one who watches tries again. */
        if (n_watched > 0)
                serve();
        else
                close_set();
        pthread_mutex_unlock(&lock);
}

static void before_fork(void)
{
        pthread_mutex_lock(&lock);
}

static void after_fork_in_parent(void)
{
        pthread_mutex_unlock(&lock);
}

/* The thread is the parent's, and the set is shared with it: the child leaves it alone, and makes its own if
 * it comes to that. */
static void after_fork_in_child(void)
{
        close_set();
        n_watched = 0;
        has_thread = taken_over = false;
        pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void watch_forks(void)
{
        pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}
