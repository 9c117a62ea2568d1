/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/local/patience.h"
#include "lib/local/thread.h"
#include "lib/remote/watch.h"

/* Makes the local descendants of a shared context done when it is done, if a descriptor or a callback depends
 * on that. One thread does it. It is started when it is first needed, and sleeps on an epoll set of done
 * handles. Callbacks have a thread of their own (local/callback-thread.c), so this thread never waits for
 * them. A program with its own event loop serves the set there, without this thread (event-loop.c).
 *
 * Handles leave the set under the lock, and events are taken from the set under the lock. So an event never
 * names a handle that is gone.
 *
 * A handle that has not come yet, because the daemon does not answer, is looked for from time to time; and so
 * is the answer to a cancel. A timer in the set says when.
 *
 * The set also has the descriptors that are readable when a daemon is gone. Such a daemon does not write to
 * its handles. Then its client is looked at from time to time, until the daemon is back or the time is up
 * (reconnect.c). The thread may run for that reason alone. Then it ends when a program takes the set into its
 * event loop. */

#define EVENTS_AT_ONCE 64

struct lock watch_lock = LOCK_INIT(LOCK_WATCH);
int watch_epoll_fd = -1;
static size_t n_watched; /* how many handles are in the set */
static bool has_thread, taken_over;
struct client_list watch_clients = LIST_HEAD_INITIALIZER(watch_clients);
static bool is_needed; /* the thread is needed for more than for clients whose daemon is gone */
static pthread_t thread;
static _Atomic bool quits; /* the thread has to end */

/* The handle is in the set, and the lock is held. */
static void leave(struct done_handle *h)
{
        epoll_ctl(watch_epoll_fd, EPOLL_CTL_DEL, h->fd, NULL);
        h->watch_generation = 0;
        n_watched--;
}

/* The lock is held. */
static void unlist(struct remote_context *remote)
{
        LIST_REMOVE(remote, watchers);
        if (remote->is_looked_at)
                LIST_REMOVE(remote, inherited);
        remote->is_looked_at = false;
}

/* Moves the contexts that watch a handle to fired, each with a reference. The lock is held. */
static void take(struct done_handle *h, struct watcher_list *fired)
{
        struct remote_context *remote;

        while ((remote = LIST_FIRST(&h->watchers))) {
                unlist(remote);
                remote->watch = WATCH_FIRED;
                /* A context that is being freed waits for the lock in watch_stop(). */
                if (ctx_ref_if_alive(&remote->shared.wide.ctx))
                        LIST_INSERT_HEAD(fired, remote, watchers);
        }
        leave(h);
}

bool watch_dispatch(void)
{
        THREAD_STAYS;
        struct watcher_list fired = LIST_HEAD_INITIALIZER(fired);
        struct epoll_event events[EVENTS_AT_ONCE];
        uint64_t now = now_monotonic_usec(), before;
        struct ctx_client *client;
        struct remote_context *remote;
        int n;

        before = patience_begin(now_boottime_usec() + STATE_ANSWER_USEC);
        lock_acquire(&watch_lock);
        n = thread_epoll_wait(watch_epoll_fd, events, EVENTS_AT_ONCE, 0);
        for (int i = 0; i < n; i++) {
                if (events[i].data.u64 == CLIENT_MARK)
                        continue;
                if (events[i].data.u64 & CLIENT_MARK)
                        watch_remove_alive_fd((
                                        struct ctx_client *) (uintptr_t) (events[i].data.u64 & ~CLIENT_MARK));
                else
                        take(events[i].data.ptr, &fired);
        }
        lock_release(&watch_lock);

        while ((remote = LIST_FIRST(&fired))) {
                LIST_REMOVE(remote, watchers);
                remote_context_finish(remote);
                ctx_unref(&remote->shared.wide.ctx);
        }
        while ((client = watch_take_away_client(now)))
                watch_look_after(client);
        watch_serve_kick();
        if (watch_has_to_look())
                watch_look();
        patience_end(before);
        return n > 0;
}

static void *watch_thread(void *userdata)
{
        int set = (int) (intptr_t) userdata;
        struct epoll_event event;

        while (!atomic_load_explicit(&quits, memory_order_acquire)) {
                uint64_t next = watch_next_usec(), now = now_monotonic_usec();
                int timeout = next == CTX_NEVER ? -1 : next <= now ? 0 : (int) ((next - now) / 1000) + 1;

                /* Not poll(), which refuses to sleep where RLIMIT_NOFILE is 0. The event stays in the set. */
                if (thread_epoll_wait(set, &event, 1, timeout) >= 0)
                        watch_dispatch();
        }
        return NULL;
}

/* The lock is held, in all of these. */
static int open_set(void)
{
        if (watch_epoll_fd >= 0)
                return 0;
        watch_epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (watch_epoll_fd < 0)
                return -errno;
        watch_add_kick();
        return 0;
}

static void close_set(void)
{
        if (watch_epoll_fd >= 0)
                close(watch_epoll_fd);
        watch_epoll_fd = -1;
}

/* From now on the thread stays. */
static void need_thread(void)
{
        if (has_thread && !is_needed)
                pthread_detach(thread);
        is_needed = true;
}

/* The thread was only needed for clients whose daemon is gone, and the caller does that from now on. */
static int end_thread(void)
{
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = CLIENT_MARK};
        int fd = eventfd(1, EFD_CLOEXEC), r = 0;
        pthread_t ended = thread;

        if (fd < 0 || epoll_ctl(watch_epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
                r = -errno;
                if (fd >= 0)
                        close(fd);
                return r;
        }
        atomic_store_explicit(&quits, true, memory_order_release);
        has_thread = false;
        taken_over = true; /* no other thread starts one meanwhile */
        lock_release(&watch_lock);
        pthread_join(ended, NULL);
        lock_acquire(&watch_lock);
        atomic_store_explicit(&quits, false, memory_order_release);
        /* A child that was forked meanwhile has the descriptor, too. So it would stay in the set. */
        epoll_ctl(watch_epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        close(fd);
        return 0;
}

/* Makes sure that somebody serves the set. */
static int serve(void)
{
        int r = open_set();

        if (r == 0 && !has_thread && !taken_over) {
                r = thread_start(watch_thread, (void *) (intptr_t) watch_epoll_fd, "ctx-watch", &thread);
                has_thread = r == 0;
        }
        if (r < 0 && n_watched == 0 && LIST_EMPTY(&watch_clients))
                close_set();
        return r;
}

int watch_add(struct remote_context *remote, struct done_handle *h)
{
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = h};
        bool has_come = h && h->fd >= 0, is_inherited = client_is_inherited(remote->client);
        int r;

        if (remote->watch != WATCH_NONE && remote->watch_generation == fork_generation &&
                        !(remote->watch == WATCH_ASKING && has_come))
                return 0;
        r = serve();
        if (r < 0)
                return r;
        need_thread();
        watch_add_client(remote->client);
        if (!has_come || is_inherited) {
                r = watch_look_within(WATCH_LOOK_FIRST_USEC);
                if (r < 0)
                        return r;
        }
        if (!has_come) {
                if (remote->watch != WATCH_ASKING)
                        LIST_INSERT_HEAD(&watch_asking, remote, watchers);
                remote->watch = WATCH_ASKING;
                remote->watch_generation = fork_generation;
                return 0;
        }
        if (h->watch_generation != fork_generation + 1) {
                if (epoll_ctl(watch_epoll_fd, EPOLL_CTL_ADD, h->fd, &event) < 0)
                        return -errno;
                h->watch_generation = fork_generation + 1;
                n_watched++;
        }
        if (remote->watch == WATCH_ASKING)
                LIST_REMOVE(remote, watchers);
        if (remote->watch != WATCH_LISTED)
                LIST_INSERT_HEAD(&h->watchers, remote, watchers);
        if (is_inherited && !remote->is_looked_at) {
                LIST_INSERT_HEAD(&watch_inherited, remote, inherited);
                remote->is_looked_at = true;
        }
        remote->watch = WATCH_LISTED;
        remote->watch_generation = fork_generation;
        return 0;
}

int watch_start(struct remote_context *remote)
{
        uint64_t usec;
        int r = done_handle_fd(remote, &usec);

        if (r < 0 && r != -EINPROGRESS)
                return r;
        lock_acquire(&watch_lock);
        r = watch_add(remote, atomic_load_explicit(&remote->handle, memory_order_acquire));
        lock_release(&watch_lock);
        return r;
}

int watch_owing(struct ctx_client *client)
{
        int r;

        if (!watch_is_owing(client))
                return 0;
        lock_acquire(&watch_lock);
        r = serve();
        if (r == 0) {
                watch_add_client(client);
                r = watch_look_within(WATCH_LOOK_FIRST_USEC);
        }
        lock_release(&watch_lock);
        return r;
}

int watch_daemon(struct remote_context *remote)
{
        int r;

        if (client_is_of_parent(remote->client) || watch_alive_fd(remote->client) < 0)
                return 0;
        lock_acquire(&watch_lock);
        r = serve();
        if (r == 0)
                watch_add_client(remote->client);
        lock_release(&watch_lock);
        return r;
}

void watch_end(struct remote_context *remote)
{
        struct done_handle *h = atomic_load_explicit(&remote->handle, memory_order_acquire);

        lock_acquire(&watch_lock);
        if (remote->watch == WATCH_ASKING)
                LIST_REMOVE(remote, watchers);
        if (remote->watch == WATCH_LISTED) {
                unlist(remote);
                if (LIST_EMPTY(&h->watchers) && h->watch_generation == fork_generation + 1)
                        leave(h);
        }
        remote->watch = WATCH_FIRED;
        lock_release(&watch_lock);
}

/* There is no reference left, and the handle is still there. Without one it was never watched, except in the
 * child of a fork. */
void watch_stop(struct remote_context *remote)
{
        if (atomic_load_explicit(&remote->handle, memory_order_acquire) ||
                        client_is_inherited(remote->client))
                watch_end(remote);
}

int watch_take_over(void)
{
        int r;

        lock_acquire(&watch_lock);
        r = has_thread && !is_needed ? end_thread() : 0;
        if (r == 0)
                r = has_thread ? -EBUSY : open_set();
        if (r == 0) {
                taken_over = true;
                r = watch_epoll_fd;
        }
        lock_release(&watch_lock);
        return r;
}

void watch_give_back(void)
{
        lock_acquire(&watch_lock);
        taken_over = false;
        /* If this fails, the next one that watches tries again. */
        if (n_watched > 0 || !LIST_EMPTY(&watch_clients))
                serve();
        else
                close_set();
        lock_release(&watch_lock);
}

/* The thread runs in the parent only, and the set is shared with the parent. The child leaves it alone, and
 * makes one of its own when it needs one. */
static void after_fork_in_child(void)
{
        watch_forget_timer();
        close_set();
        n_watched = 0;
        LIST_INIT(&watch_clients);
        has_thread = taken_over = is_needed = false;
}

FORK_PART(.lock = &watch_lock, .in_child = after_fork_in_child)
