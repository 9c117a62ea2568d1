/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lib/local/patience.h"
#include "lib/local/raw.h"
#include "lib/local/thread.h"
#include "lib/remote/watch.h"

/* The part of watch.c that looks, from time to time, for what a daemon that does not answer owes: a handle
 * that has not come yet, and the answers to a cancel and to an enter; and, in the child of a fork, at the
 * contexts of its parent (INHERITED_LOOK_USEC). */

#define LOOK_FOR_HANDLE_USEC UINT64_C(50000)
#define LOOK_FOR_ANSWER_USEC UINT64_C(1000000)

struct watcher_list watch_asking = LIST_HEAD_INITIALIZER(watch_asking);
struct watcher_list watch_inherited = LIST_HEAD_INITIALIZER(watch_inherited);
/* An eventfd. It stays open, since a signal handler may be about to write to it. */
static _Atomic int kick_fd = -1;
static _Atomic uint32_t is_kicked;         /* a futex */
static bool has_sleeper;                   /* under the lock: a thread sleeps on it, without any descriptor */
static int look_timer = -1;                /* in the set, if somebody has to look */
static uint64_t look_step_usec, look_usec; /* on CLOCK_MONOTONIC */
static unsigned last_round;

/* Somebody has to look after that time, or before. The lock is held. */
int watch_look_within(uint64_t usec)
{
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = CLIENT_MARK};
        uint64_t now = now_monotonic_usec();
        struct itimerspec at = {.it_value = timespec_of_usec(usec)};
        int fd = look_timer;

        if (fd >= 0 && look_usec <= now + usec)
                return 0;
        if (fd < 0) {
                fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
                if (fd < 0)
                        return -errno;
                if (epoll_ctl(watch_epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
                        int r = -errno;

                        close(fd);
                        return r;
                }
                look_timer = fd;
        }
        look_step_usec = usec;
        look_usec = now + usec;
        timerfd_settime(fd, 0, &at, NULL);
        return 0;
}

/* The lock is held. */
static void stop_looking(void)
{
        if (look_timer < 0)
                return;
        epoll_ctl(watch_epoll_fd, EPOLL_CTL_DEL, look_timer, NULL);
        close(look_timer);
        look_timer = -1;
}

/* Takes a reference if so. The lock is held. */
static bool is_next(struct remote_context *remote, unsigned round)
{
        if (remote->watch_round == round || remote->watch_generation != fork_generation ||
                        !ctx_ref_if_alive(&remote->shared.wide.ctx))
                return false;
        remote->watch_round = round;
        return true;
}

/* The next context whose handle has not come yet, with a reference. */
static struct remote_context *take_asking(unsigned round)
{
        struct remote_context *remote;

        lock_acquire(&watch_lock);
        LIST_FOREACH (remote, &watch_asking, watchers)
                if (is_next(remote, round))
                        break;
        lock_release(&watch_lock);
        return remote;
}

/* The next context of the parent's, with a reference. */
static struct remote_context *take_inherited(unsigned round)
{
        struct remote_context *remote;

        lock_acquire(&watch_lock);
        LIST_FOREACH (remote, &watch_inherited, inherited)
                if (is_next(remote, round))
                        break;
        lock_release(&watch_lock);
        return remote;
}

/* The next client whose daemon has to be told something, or has to answer, with a reference. */
static struct ctx_client *take_owing(unsigned round)
{
        struct ctx_client *client;

        lock_acquire(&watch_lock);
        LIST_FOREACH (client, &watch_clients, watched)
                if (client->watch_round != round && watch_is_owing(client) && client_ref_if_alive(client)) {
                        client->watch_round = round;
                        break;
                }
        lock_release(&watch_lock);
        return client;
}

static void end_if_done(struct remote_context *remote)
{
        if (!remote->shared.ops->seems_done(&remote->shared))
                return;
        watch_end(remote);
        remote_context_finish(remote);
}

static void look_for_handle(struct remote_context *remote)
{
        uint64_t usec;
        int r = done_handle_fd(remote, &usec);

        if (r >= 0) {
                lock_acquire(&watch_lock);
                (void) watch_add(remote, atomic_load_explicit(&remote->handle, memory_order_acquire));
                lock_release(&watch_lock);
                return;
        }
        end_if_done(remote);
}

/* The lock is held. */
static bool has_inherited(void)
{
        const struct remote_context *remote;

        LIST_FOREACH (remote, &watch_inherited, inherited)
                if (remote->watch_generation == fork_generation)
                        return true;
        return false;
}

/* For the answers that are missing. */
void watch_look(void)
{
        uint64_t before = patience_begin(now_boottime_usec()), most;
        struct remote_context *remote;
        struct ctx_client *client;
        unsigned round;

        lock_acquire(&watch_lock);
        round = ++last_round;
        lock_release(&watch_lock);
        while ((remote = take_asking(round))) {
                look_for_handle(remote);
                ctx_unref(&remote->shared.wide.ctx);
        }
        while ((remote = take_inherited(round))) {
                end_if_done(remote);
                ctx_unref(&remote->shared.wide.ctx);
        }
        most = LOOK_FOR_HANDLE_USEC;
        while ((client = take_owing(round))) {
                if (client_begin_soon(client) >= 0) {
                        client_read(client);
                        client_end(client);
                }
                ctx_client_unref(client);
        }
        patience_end(before);

        lock_acquire(&watch_lock);
        if (LIST_EMPTY(&watch_asking)) {
                most = has_inherited() ? INHERITED_LOOK_USEC : 0;
                LIST_FOREACH (client, &watch_clients, watched)
                        if (most == 0 && watch_is_owing(client))
                                most = LOOK_FOR_ANSWER_USEC;
        }
        look_usec = CTX_NEVER;
        if (most == 0)
                stop_looking();
        else
                (void) watch_look_within(look_step_usec * 2 < most ? look_step_usec * 2 : most);
        lock_release(&watch_lock);
}

bool watch_has_to_look(void)
{
        bool is_due;

        lock_acquire(&watch_lock);
        is_due = look_timer >= 0 && look_usec <= now_monotonic_usec();
        lock_release(&watch_lock);
        return is_due;
}

void watch_add_kick(void)
{
        /* It is never read: each write is an event. */
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = CLIENT_MARK};

        if (atomic_load(&kick_fd) < 0)
                atomic_store(&kick_fd, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
        if (atomic_load(&kick_fd) >= 0)
                epoll_ctl(watch_epoll_fd, EPOLL_CTL_ADD, atomic_load(&kick_fd), &event);
}

void watch_kick(void)
{
        int fd = atomic_load(&kick_fd);

        atomic_store(&is_kicked, 1);
        if (fd >= 0)
                raw_eventfd_write(fd, 1);
        futex_wake_one(&is_kicked);
}

void watch_serve_kick(void)
{
        if (atomic_exchange(&is_kicked, 0))
                client_settle_all_later();
}

static void *sleep_until_kicked(void *unused)
{
        for (;;) {
                futex_wait(&is_kicked, 0);
                watch_serve_kick();
        }
        return NULL;
}

void watch_for_kicks(void)
{
        pthread_t thread;

        lock_acquire(&watch_lock);
        if ((watch_epoll_fd < 0 || atomic_load(&kick_fd) < 0) && !has_sleeper &&
                        thread_start(sleep_until_kicked, NULL, "ctx-owed", &thread) == 0) {
                pthread_detach(thread);
                has_sleeper = true;
        }
        lock_release(&watch_lock);
}

void watch_forget_timer(void)
{
        has_sleeper = false;
        (void) raw_eventfd_renew(atomic_load(&kick_fd)); /* it is never read */
        if (look_timer >= 0)
                close(look_timer);
        look_timer = -1;
}
