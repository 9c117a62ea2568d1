/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "lib/remote/watch.h"

/* The part of watch.c that notices that a daemon is gone, and looks for it until it is back or the time is
 * up. */

#define RETRY_USEC UINT64_C(1000000)

/* Adds the client to the set, or removes it. The lock is held, in all of these. */
static int watch_add_alive_fd(struct ctx_client *client)
{
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uintptr_t) client | CLIENT_MARK};

        if (epoll_ctl(watch_epoll_fd, EPOLL_CTL_ADD, watch_alive_fd(client), &event) < 0)
                return -errno;
        client->watch = CLIENT_WATCHED;
        return 0;
}

void watch_remove_alive_fd(struct ctx_client *client)
{
        if (client->watch == CLIENT_WATCHED)
                epoll_ctl(watch_epoll_fd, EPOLL_CTL_DEL, watch_alive_fd(client), NULL);
        client->watch = CLIENT_AWAY;
        client->look_usec = 0;
}

void watch_add_client(struct ctx_client *client)
{
        if (client->watch_generation == fork_generation + 1 || watch_alive_fd(client) < 0)
                return;
        LIST_INSERT_HEAD(&watch_clients, client, watched);
        client->watch_generation = fork_generation + 1;
        client->watch = CLIENT_UNWATCHED;
        if (watch_add_alive_fd(client) < 0)
                watch_remove_alive_fd(client); /* tried again later */
}

int watch_replace_alive_fd(struct ctx_client *client, int given)
{
        bool is_watched;
        int r = 0;

        lock_acquire(&watch_lock);
        is_watched = client->watch_generation == fork_generation + 1;
        if (is_watched)
                watch_remove_alive_fd(client);
        if (dup3(given, watch_alive_fd(client), O_CLOEXEC) < 0)
                r = -errno;
        if (is_watched)
                (void) watch_add_alive_fd(client);
        lock_release(&watch_lock);
        return r;
}

/* If it is in the list, and nobody looks at it now. */
void watch_client_again(struct ctx_client *client)
{
        bool is_listed;

        lock_acquire(&watch_lock);
        is_listed = client->watch_generation == fork_generation + 1;
        if (is_listed)
                watch_remove_alive_fd(client);
        lock_release(&watch_lock);
        if (is_listed)
                watch_kick();
}

/* The client has no reference left. Only the list still leads to it. */
void watch_remove_client(struct ctx_client *client)
{
        if (client->watch_generation != fork_generation + 1)
                return;
        lock_acquire(&watch_lock);
        watch_remove_alive_fd(client);
        LIST_REMOVE(client, watched);
        lock_release(&watch_lock);
}

/* A client whose daemon is gone and that has to be looked at now, with a reference. */
struct ctx_client *watch_take_away_client(uint64_t now)
{
        struct ctx_client *client;

        lock_acquire(&watch_lock);
        LIST_FOREACH (client, &watch_clients, watched)
                if (client->watch == CLIENT_AWAY && client->look_usec <= now && client_ref_if_alive(client)) {
                        client->look_usec = CTX_NEVER; /* no other thread takes it meanwhile */
                        break;
                }
        lock_release(&watch_lock);
        return client;
}

/* Makes known which contexts are done by now. If some are not, looks for the daemon, or asks it again. */
void watch_look_after(struct ctx_client *client)
{
        bool is_away = client_is_away(client);
        uint64_t usec = CTX_NEVER;

        if (is_away ? client_tell_done(client) > 0 : client->is_another) {
                usec = client_try_return(client);
                is_away = client_is_away(client);
        }
        lock_acquire(&watch_lock);
        if (client->watch == CLIENT_AWAY) {
                /* Another thread may have asked meanwhile, and says so here, or before. */
                if (!is_away && usec == CTX_NEVER && client->is_another)
                        usec = RETRY_USEC;
                if (!is_away && usec == CTX_NEVER && watch_add_alive_fd(client) < 0)
                        usec = RETRY_USEC;
                client->look_usec = usec == CTX_NEVER ? CTX_NEVER : now_monotonic_usec() + usec;
        }
        lock_release(&watch_lock);
        ctx_client_unref(client);
}

uint64_t watch_next_usec(void)
{
        const struct ctx_client *client;
        uint64_t usec = CTX_NEVER;

        lock_acquire(&watch_lock);
        LIST_FOREACH (client, &watch_clients, watched)
                if (client->watch == CLIENT_AWAY && client->look_usec < usec)
                        usec = client->look_usec;
        lock_release(&watch_lock);
        return usec;
}
