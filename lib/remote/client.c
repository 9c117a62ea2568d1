/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/local/thread.h"
#include "lib/remote/context.h"
#include "lib/remote/line.h"
#include "lib/remote/mapped-page.h"
#include "proto/daemon-address.h"

/* What is still to be sent is sent as far as that needs no waiting. The daemon reads it although the
 * connection ends. */
static void close_bus(struct ctx_client *client)
{
        if (!client->bus)
                return;
        if (sd_bus_get_events(client->bus) & POLLOUT)
                (void) sd_bus_process(client->bus, NULL);
        sd_bus_close(client->bus);
        sd_bus_unref(client->bus);
}

static void destroy(struct ctx_client *client)
{
        THREAD_STAYS;
        int fd = atomic_load_explicit(&client->alive_fd, memory_order_acquire);
        int kept = client_is_inherited(client) ? -1 : client_list_keep(client);

        watch_remove_client(client);
        client_write_off(client, true);
        if (client_is_inherited(client))
                sd_bus_unref(client->bus); /* closes our copies of its descriptors, and sends nothing */
        else
                close_bus(client);
        client_list_remove(client, kept);
        client_drop_attempt(client);
        if (fd >= 0)
                close(fd);
        line_free_all(client);
        mapped_page_free_all(client->pages);
        thread_map_free_all(atomic_load_explicit(&client->threads, memory_order_acquire));
        thread_map_free_all(client->old_threads);
        free(client->given);
        free(client);
}

/* When the attempt needs a step, whatever comes; not after the limit. */
static uint64_t next_step(const struct client_attempt *a, uint64_t limit)
{
        uint64_t usec = a->bus ? a->until_usec : a->again_usec;

        return usec > 0 && usec < limit ? usec : limit;
}

/* The lock is held. Returns once there is a connection, or with what went wrong. */
static int connect_and_wait(struct ctx_client *client)
{
        uint64_t limit = client_limit();
        char text[sizeof client->attempt.why + 32];
        int r;

        while (!client->bus) {
                uint64_t now = now_monotonic_usec();

                r = client_connect_step(client, true);
                if (r > 0)
                        break;
                if (r < 0) {
                        snprintf(text, sizeof text, "Cannot reach ctxd %s", client->attempt.why);
                        return client_set_error(client, r, text);
                }
                if (now >= limit)
                        return client_set_error(client, -ETIMEDOUT, "ctxd does not answer");
                client_wait(client, next_step(&client->attempt, limit));
        }
        return 0;
}

struct ctx_client *ctx_client_new(const char *address)
{
        THREAD_STAYS;
        struct ctx_client *client = calloc(1, sizeof *client);
        int r = 0;

        if (!client)
                return NULL;
        client->refs = 1;
        client->pid = getpid();
        client->fork_generation = fork_generation;
        client->alive_fd = -1;
        TAILQ_INIT(&client->contexts);
        TAILQ_INIT(&client->requests);
        TAILQ_INIT(&client->owed);
        client->lock.rank = LOCK_CLIENT;
        client->contexts_lock.rank = LOCK_CONTEXT_LIST;
        address = daemon_given_address(address);
        if (address && !(client->given = strdup(address)))
                r = -ENOMEM;
        if (r >= 0) {
                lock_acquire(&client->lock);
                r = connect_and_wait(client);
                lock_release(&client->lock);
        }
        client_list_add(client);
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

/* In a namespace of its own, a child may have its parent's number; and a fork that the C library has not seen
 * has the parent's generation. */
bool client_is_inherited(const struct ctx_client *client)
{
        return client->fork_generation != fork_generation || client->pid != getpid();
}

/* A message on a closed connection is lost. Over a bus, the daemon may be gone and the connection still be
 * there. The lock is held. */
static bool is_connected(struct ctx_client *client)
{
        struct pollfd fds[2] = {{.events = POLLRDHUP}, {.events = POLLIN}};

        if (!client->bus || sd_bus_is_open(client->bus) <= 0)
                return false;
        fds[0].fd = sd_bus_get_fd(client->bus);
        fds[1].fd = atomic_load_explicit(&client->alive_fd, memory_order_relaxed);
        return poll(fds, 2, 0) <= 0; /* a signal may have come: that says nothing */
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
                /* What has come before the end counts. */
                client_read(client);
                if (client->bus && !is_connected(client))
                        client_drop(client, -ECONNRESET);
        }
        if (client->bus && client_owes_later(client))
                client_pay(client);
        return 0;
}

/* The lock is held. Returns true if it was released, because another daemon has to be asked for the contexts.
 * Once in a call: it may not answer in time. */
static bool check_contexts(struct ctx_client *client, bool *has_checked, uint64_t usec)
{
        if (*has_checked || client_is_checking() || !client->is_another)
                return false;
        *has_checked = true;
        client_end(client);
        client_check_contexts(client, usec);
        return true;
}

int client_begin(struct ctx_client *client)
{
        bool has_checked = false;

        for (;;) {
                int r = check(client);

                if (r < 0)
                        return r;
                if (!client->bus)
                        r = connect_and_wait(client);
                if (check_contexts(client, &has_checked, CLIENT_ANSWER_USEC))
                        continue;
                if (r >= 0)
                        return 0;
                client_end(client);
                /* There may be no socket. But ENOENT is what the daemon says if there is no such context. */
                return r == -ENOENT ? -ENOTCONN : r;
        }
}

int client_begin_soon(struct ctx_client *client)
{
        bool has_checked = false;

        for (;;) {
                int r = check(client);

                if (r < 0)
                        return r;
                if (!client->bus)
                        r = client_connect_step(client, false);
                if (check_contexts(client, &has_checked, ANSWER_MOMENT_USEC))
                        continue;
                if (client->bus)
                        return 0;
                client_end(client);
                return r == 0 ? -EINPROGRESS : r == -ENOENT ? -ENOTCONN : r;
        }
}

void client_end(struct ctx_client *client)
{
        struct remote_context *taken = client->owed_taken;
        unsigned n = client->n_surplus;

        client->n_surplus = 0;
        client->owed_taken = NULL;
        lock_release(&client->lock);
        client_end_taken(taken);
        /* The caller has one of its own. */
        atomic_fetch_sub_explicit(&client->refs, n, memory_order_acq_rel);
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
