/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/remote/context.h"
#include "lib/remote/mapped-page.h"
#include "proto/daemon-address.h"

static void destroy(struct ctx_client *client)
{
        int fd = atomic_load_explicit(&client->alive_fd, memory_order_acquire);

        watch_remove_client(client);
        if (client_is_inherited(client))
                sd_bus_unref(client->bus); /* closes our copies of its descriptors, and sends nothing */
        else
                sd_bus_flush_close_unref(client->bus);
        client_drop_attempt(client);
        if (fd >= 0)
                close(fd);
        mapped_page_free_all(client->pages);
        thread_map_free_all(atomic_load_explicit(&client->threads, memory_order_acquire));
        thread_map_free_all(client->old_threads);
        free(client->given);
        free(client);
}

struct ctx_client *ctx_client_new(const char *address)
{
        struct ctx_client *client = calloc(1, sizeof *client);
        int r = 0;

        if (!client)
                return NULL;
        client->refs = 1;
        client->pid = getpid();
        client->fork_generation = fork_generation;
        client->alive_fd = -1;
        TAILQ_INIT(&client->contexts);
        client->lock.rank = LOCK_CLIENT;
        client->contexts_lock.rank = LOCK_CONTEXT_LIST;
        address = daemon_given_address(address);
        if (address && !(client->given = strdup(address)))
                r = -ENOMEM;
        if (r >= 0)
                r = client_connect(client);
        if (r < 0) {
                client_set_error(NULL, r, r == -ENOMEM ? NULL : ctx_client_error(client));
                destroy(client);
                errno = -r;
                return NULL;
        }
        return client;
}

struct ctx_client *client_ref(struct ctx_client *client)
{
        atomic_fetch_add_explicit(&client->refs, 1, memory_order_relaxed);
        return client;
}

bool client_ref_if_alive(struct ctx_client *client)
{
        return refs_take_if_alive(&client->refs);
}

struct ctx_client *ctx_client_unref(struct ctx_client *client)
{
        if (client && atomic_fetch_sub_explicit(&client->refs, 1, memory_order_acq_rel) == 1)
                destroy(client);
        return NULL;
}

bool client_is_inherited(const struct ctx_client *client)
{
        return client->pid != getpid();
}

/* A message on a closed connection is lost. Over a bus, the daemon may be gone and the connection still be
 * there. The lock is held. */
static bool is_connected(struct ctx_client *client)
{
        struct pollfd fds[2] = {{.events = POLLRDHUP}};

        if (!client->bus || sd_bus_is_open(client->bus) <= 0)
                return false;
        fds[0].fd = sd_bus_get_fd(client->bus);
        fds[1].fd = atomic_load_explicit(&client->alive_fd, memory_order_relaxed);
        return poll(fds, 2, 0) == 0;
}

/* 0 with the lock held, and with client->bus NULL if there is no connection; or a negative errno without the
 * lock. */
static int check(struct ctx_client *client)
{
        if (client_is_inherited(client))
                return client_set_error(client, -ECHILD,
                                "This connection belongs to the process that made it, before a fork");
        lock_acquire(&client->lock);
        if (client->bus && !is_connected(client)) {
                sd_bus_close(client->bus);
                client->bus = sd_bus_unref(client->bus);
        }
        return 0;
}

int client_begin(struct ctx_client *client)
{
        for (;;) {
                bool is_another;
                int r = check(client);

                if (r < 0 || client->bus)
                        return r;
                r = client_connect(client);
                is_another = client->is_another;
                client->is_another = false;
                if (r >= 0 && !is_another)
                        return 0;
                lock_release(&client->lock);
                /* There may be no socket. But ENOENT is what the daemon says if there is no such context. */
                if (r < 0)
                        return r == -ENOENT ? -ENOTCONN : r;
                client_check_contexts(client);
        }
}

int client_begin_connected(struct ctx_client *client)
{
        int r = check(client);

        if (r < 0 || client->bus)
                return r;
        lock_release(&client->lock);
        return -ENOTCONN;
}

void client_end(struct ctx_client *client)
{
        lock_release(&client->lock);
}

const char *ctx_client_address(struct ctx_client *client)
{
        static __thread char address[256] __attribute__((tls_model("initial-exec")));
        const char *current;

        if (!client || client_is_inherited(client))
                return NULL;
        lock_acquire(&client->lock);
        if (!client->bus || sd_bus_get_address(client->bus, &current) < 0)
                current = client->given;
        *address = '\0';
        if (current)
                strncat(address, current, sizeof address - 1);
        lock_release(&client->lock);
        return *address ? address : NULL;
}
