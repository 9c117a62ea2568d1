/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/local/thread.h"
#include "lib/remote/context.h"

/* Makes the local descendants of a shared context done when it is done, if a descriptor or a callback depends
 * on that. One thread does it. It is started when it is first needed, and sleeps on an epoll set of done
 * handles. Callbacks have a thread of their own (local/callback-thread.c), so this thread never waits for
 * them. A program with its own event loop serves the set there, without this thread (event-loop.c).
 *
 * Handles leave the set under the lock, and events are taken from the set under the lock. So an event never
 * names a handle that is gone.
 *
 * The set also has the descriptors that hang up when a daemon is gone. Such a daemon does not write to its
 * handles. Then its client is looked at from time to time, until the daemon is back or the time is up
 * (reconnect.c). The thread may run for that reason alone. Then it ends when a program takes the set into its
 * event loop. */

#define EVENTS_AT_ONCE 64
#define RETRY_USEC UINT64_C(1000000)

static struct lock lock = LOCK_INIT(LOCK_WATCH);
static int epoll_fd = -1;
static size_t n_watched; /* how many handles are in the set */
static bool has_thread, taken_over;
static LIST_HEAD(client_list, ctx_client) clients = LIST_HEAD_INITIALIZER(clients);
static bool is_needed; /* the thread is needed for more than for clients whose daemon is gone */
static pthread_t thread;
static _Atomic bool quits; /* the thread has to end */

LIST_HEAD(watcher_list, remote_context);

/* In the data of an event: it is for a client and not a handle. Alone, it wakes the thread so that it
 * ends. */
#define CLIENT_MARK UINT64_C(1)

/* The handle is in the set, and the lock is held. */
static void leave(struct done_handle *h)
{
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, h->fd, NULL);
        h->watch_generation = 0;
        n_watched--;
}

/* Moves the contexts that watch a handle to fired, each with a reference. The lock is held. */
static void take(struct done_handle *h, struct watcher_list *fired)
{
        struct remote_context *remote;

        while ((remote = LIST_FIRST(&h->watchers))) {
                LIST_REMOVE(remote, watchers);
                remote->watch = WATCH_FIRED;
                /* A context that is being freed waits for the lock in watch_stop(). */
                if (ctx_ref_if_alive(&remote->shared.wide.ctx))
                        LIST_INSERT_HEAD(fired, remote, watchers);
        }
        leave(h);
}

static int alive_fd(const struct ctx_client *client)
{
        return atomic_load_explicit(&client->alive_fd, memory_order_acquire);
}

/* Adds the client to the set, or removes it. The lock is held, in all of these. */
static int watch_client(struct ctx_client *client)
{
        struct epoll_event event = {.events = EPOLLHUP, .data.u64 = (uintptr_t) client | CLIENT_MARK};

        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, alive_fd(client), &event) < 0)
                return -errno;
        client->watch = CLIENT_WATCHED;
        return 0;
}

static void unwatch_client(struct ctx_client *client)
{
        if (client->watch == CLIENT_WATCHED)
                epoll_ctl(epoll_fd, EPOLL_CTL_DEL, alive_fd(client), NULL);
        client->watch = CLIENT_AWAY;
        client->look_usec = 0;
}

static void add_client(struct ctx_client *client)
{
        if (client->watch_generation == fork_generation + 1 || alive_fd(client) < 0)
                return;
        LIST_INSERT_HEAD(&clients, client, watched);
        client->watch_generation = fork_generation + 1;
        client->watch = CLIENT_UNWATCHED;
        if (watch_client(client) < 0)
                unwatch_client(client); /* tried again later */
}

void watch_pause_client(struct ctx_client *client)
{
        lock_acquire(&lock);
        if (client->watch_generation == fork_generation + 1)
                unwatch_client(client);
        lock_release(&lock);
}

void watch_resume_client(struct ctx_client *client)
{
        lock_acquire(&lock);
        if (client->watch_generation == fork_generation + 1)
                (void) watch_client(client);
        lock_release(&lock);
}

/* The client has no reference left. Only the list still leads to it. */
void watch_remove_client(struct ctx_client *client)
{
        if (client->watch_generation != fork_generation + 1)
                return;
        lock_acquire(&lock);
        unwatch_client(client);
        LIST_REMOVE(client, watched);
        lock_release(&lock);
}

/* A client whose daemon is gone and that has to be looked at now, with a reference. */
static struct ctx_client *take_away_client(uint64_t now)
{
        struct ctx_client *client;

        lock_acquire(&lock);
        LIST_FOREACH (client, &clients, watched)
                if (client->watch == CLIENT_AWAY && client->look_usec <= now && client_ref_if_alive(client)) {
                        client->look_usec = CTX_NEVER; /* no other thread takes it meanwhile */
                        break;
                }
        lock_release(&lock);
        return client;
}

/* Makes known which contexts are done by now. If some are not, looks for the daemon. */
static void look_after(struct ctx_client *client)
{
        bool is_away = client_is_away(client);
        uint64_t usec = CTX_NEVER;

        if (is_away && client_tell_done(client) > 0) {
                usec = client_try_return(client);
                is_away = client_is_away(client);
        }
        lock_acquire(&lock);
        if (client->watch == CLIENT_AWAY) {
                if (!is_away && watch_client(client) < 0)
                        usec = RETRY_USEC;
                client->look_usec = usec == CTX_NEVER ? CTX_NEVER : now_monotonic_usec() + usec;
        }
        lock_release(&lock);
        ctx_client_unref(client);
}

bool watch_dispatch(void)
{
        struct watcher_list fired = LIST_HEAD_INITIALIZER(fired);
        struct epoll_event events[EVENTS_AT_ONCE];
        uint64_t now = now_monotonic_usec();
        struct ctx_client *client;
        struct remote_context *remote;
        int n;

        lock_acquire(&lock);
        n = epoll_wait(epoll_fd, events, EVENTS_AT_ONCE, 0);
        for (int i = 0; i < n; i++) {
                if (events[i].data.u64 == CLIENT_MARK)
                        continue;
                if (events[i].data.u64 & CLIENT_MARK)
                        unwatch_client((struct ctx_client *) (uintptr_t) (events[i].data.u64 & ~CLIENT_MARK));
                else
                        take(events[i].data.ptr, &fired);
        }
        lock_release(&lock);

        while ((remote = LIST_FIRST(&fired))) {
                LIST_REMOVE(remote, watchers);
                remote_context_finish(remote);
                ctx_unref(&remote->shared.wide.ctx);
        }
        while ((client = take_away_client(now)))
                look_after(client);
        return n > 0;
}

uint64_t watch_next_usec(void)
{
        const struct ctx_client *client;
        uint64_t usec = CTX_NEVER;

        lock_acquire(&lock);
        LIST_FOREACH (client, &clients, watched)
                if (client->watch == CLIENT_AWAY && client->look_usec < usec)
                        usec = client->look_usec;
        lock_release(&lock);
        return usec;
}

static void *watch_thread(void *userdata)
{
        struct pollfd pollfd = {.fd = (int) (intptr_t) userdata, .events = POLLIN};

        while (!atomic_load_explicit(&quits, memory_order_acquire)) {
                uint64_t next = watch_next_usec(), now = now_monotonic_usec();
                int timeout = next == CTX_NEVER ? -1 : next <= now ? 0 : (int) ((next - now) / 1000) + 1;

                if (poll(&pollfd, 1, timeout) >= 0)
                        watch_dispatch();
        }
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

        if (fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
                r = -errno;
                if (fd >= 0)
                        close(fd);
                return r;
        }
        atomic_store_explicit(&quits, true, memory_order_release);
        has_thread = false;
        taken_over = true; /* no other thread starts one meanwhile */
        lock_release(&lock);
        pthread_join(ended, NULL);
        lock_acquire(&lock);
        atomic_store_explicit(&quits, false, memory_order_release);
        close(fd);
        return 0;
}

/* Makes sure that somebody serves the set. */
static int serve(void)
{
        int r = open_set();

        if (r == 0 && !has_thread && !taken_over) {
                r = thread_start(watch_thread, (void *) (intptr_t) epoll_fd, "ctx-watch", &thread);
                has_thread = r == 0;
        }
        if (r < 0 && n_watched == 0 && LIST_EMPTY(&clients))
                close_set();
        return r;
}

static int add(struct remote_context *remote, struct done_handle *h)
{
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = h};
        int r;

        if (remote->watch != WATCH_NONE && remote->watch_generation == fork_generation)
                return 0;
        r = serve();
        if (r < 0)
                return r;
        need_thread();
        add_client(remote->client);
        if (h->watch_generation != fork_generation + 1) {
                if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, h->fd, &event) < 0)
                        return -errno;
                h->watch_generation = fork_generation + 1;
                n_watched++;
        }
        if (remote->watch != WATCH_LISTED)
                LIST_INSERT_HEAD(&h->watchers, remote, watchers);
        remote->watch = WATCH_LISTED;
        remote->watch_generation = fork_generation;
        return 0;
}

int watch_start(struct remote_context *remote)
{
        int r = done_handle_fd(remote);

        if (r < 0)
                return r;
        lock_acquire(&lock);
        r = add(remote, atomic_load_explicit(&remote->handle, memory_order_acquire));
        lock_release(&lock);
        return r;
}

int watch_daemon(struct remote_context *remote)
{
        int r;

        if (client_is_inherited(remote->client) || alive_fd(remote->client) < 0)
                return 0;
        lock_acquire(&lock);
        r = serve();
        if (r == 0)
                add_client(remote->client);
        lock_release(&lock);
        return r;
}

/* There is no reference left, and the handle is still there. */
void watch_stop(struct remote_context *remote)
{
        struct done_handle *h = atomic_load_explicit(&remote->handle, memory_order_acquire);

        if (remote->watch == WATCH_NONE)
                return;
        lock_acquire(&lock);
        if (remote->watch == WATCH_LISTED) {
                LIST_REMOVE(remote, watchers);
                if (LIST_EMPTY(&h->watchers) && h->watch_generation == fork_generation + 1)
                        leave(h);
        }
        lock_release(&lock);
}

int watch_take_over(void)
{
        int r;

        lock_acquire(&lock);
        r = has_thread && !is_needed ? end_thread() : 0;
        if (r == 0)
                r = has_thread ? -EBUSY : open_set();
        if (r == 0) {
                taken_over = true;
                r = epoll_fd;
        }
        lock_release(&lock);
        return r;
}

void watch_give_back(void)
{
        lock_acquire(&lock);
        taken_over = false;
        /* If this fails, the next one that watches tries again. */
        if (n_watched > 0 || !LIST_EMPTY(&clients))
                serve();
        else
                close_set();
        lock_release(&lock);
}

/* The thread runs in the parent only, and the set is shared with the parent. The child leaves it alone, and
 * makes one of its own when it needs one. */
static void after_fork_in_child(void)
{
        close_set();
        n_watched = 0;
        LIST_INIT(&clients);
        has_thread = taken_over = is_needed = false;
}

FORK_PART(.lock = &lock, .in_child = after_fork_in_child)
