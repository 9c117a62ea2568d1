/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/remote/context.h"

/* The clients of this process, in the order in which they were made.
 *
 * A client that is freed may have said something about handles that the daemon has not read yet. Its
 * connection is closed for writing then, and its socket is kept until the daemon has closed its side: by then
 * it has read everything. Until then no other client asks for a handle. */

#define LOOK_USEC UINT64_C(1000)
#define MOMENT_USEC UINT64_C(2000)
#define KEPT_MAX 16

static struct lock lock = LOCK_INIT(LOCK_CLIENT_LIST);
static TAILQ_HEAD(client_tailq, ctx_client) clients = TAILQ_HEAD_INITIALIZER(clients);
static uint64_t last_serial;
static struct kept {
        int fd;
        uint64_t epoch; /* of the daemon */
} kept[KEPT_MAX];
static unsigned n_kept;

void client_list_add(struct ctx_client *client)
{
        lock_acquire(&lock);
        client->serial = ++last_serial;
        TAILQ_INSERT_TAIL(&clients, client, of_process);
        lock_release(&lock);
}

/* The lock is held. */
static void drop_kept(bool all)
{
        for (unsigned i = 0; i < n_kept;) {
                struct pollfd pollfd = {.fd = kept[i].fd};

                if (!all && poll(&pollfd, 1, 0) == 0) {
                        i++;
                        continue;
                }
                close(kept[i].fd);
                kept[i] = kept[--n_kept];
        }
}

int client_list_keep(const struct ctx_client *client)
{
        return client->bus && client->has_given_back ? fcntl(sd_bus_get_fd(client->bus), F_DUPFD_CLOEXEC, 3)
                                                     : -1;
}

void client_list_remove(struct ctx_client *client, int fd)
{
        if (client_is_inherited(client))
                return;
        if (fd >= 0)
                shutdown(fd, SHUT_WR);
        lock_acquire(&lock);
        TAILQ_REMOVE(&clients, client, of_process);
        drop_kept(TAILQ_EMPTY(&clients));
        if (fd >= 0 && !TAILQ_EMPTY(&clients) && n_kept < KEPT_MAX)
                kept[n_kept++] = (struct kept){fd, atomic_load(&client->epoch)};
        else if (fd >= 0)
                close(fd);
        lock_release(&lock);
}

struct ctx_client *client_after(uint64_t serial)
{
        struct ctx_client *client;

        lock_acquire(&lock);
        TAILQ_FOREACH (client, &clients, of_process)
                if (client->serial > serial && client_ref_if_alive(client))
                        break;
        lock_release(&lock);
        return client;
}

struct ctx_client *client_first(const struct ctx_client *own, uint64_t epoch)
{
        struct ctx_client *client;

        lock_acquire(&lock);
        TAILQ_FOREACH (client, &clients, of_process)
                if (client == own || atomic_load_explicit(&client->epoch, memory_order_acquire) == epoch)
                        if (client_ref_if_alive(client))
                                break;
        lock_release(&lock);
        return client;
}

static bool were_read(uint64_t epoch)
{
        struct ctx_client *client;
        bool were = true;

        lock_acquire(&lock);
        drop_kept(false);
        for (unsigned i = 0; i < n_kept; i++)
                were = were && kept[i].epoch != epoch;
        TAILQ_FOREACH (client, &clients, of_process)
                were = were && (atomic_load_explicit(&client->refs, memory_order_acquire) > 0 ||
                                               atomic_load(&client->epoch) != epoch);
        lock_release(&lock);
        return were;
}

bool client_others_were_read(uint64_t epoch, bool soon)
{
        uint64_t limit = client_limit(), now = now_monotonic_usec();

        if (soon && limit > now + MOMENT_USEC)
                limit = now + MOMENT_USEC;
        while (!were_read(epoch)) {
                if (now_monotonic_usec() >= limit)
                        return false;
                usleep(LOOK_USEC);
        }
        return true;
}

/* The sockets are the parent's, too. */
static void after_fork_in_child(void)
{
        TAILQ_INIT(&clients);
        drop_kept(true);
}

FORK_PART(.lock = &lock, .in_child = after_fork_in_child)
