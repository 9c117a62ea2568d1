/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/remote/context.h"

/* Done handles. The daemon has one for each process and context. So this process has one too, for all objects
 * and clients that stand for the context. The first of these asks the daemon for it, and the last one gives
 * it up. While one thread asks the daemon, others that want the same handle wait. So the call Undone for an
 * old handle never comes after the call Done for a new one. */

static struct lock lock = LOCK_INIT(LOCK_DONE_HANDLES);
static _Atomic uint32_t changes; /* a futex, changed under the lock */
static LIST_HEAD(, done_handle) buckets[256];

/* An id belongs to the daemon that gave it. A daemon that has lost its contexts may start to count again. */
static uint64_t epoch_of(const struct remote_context *remote)
{
        return atomic_load_explicit(&remote->epoch, memory_order_acquire);
}

static struct done_handle *find(const struct remote_context *remote)
{
        struct done_handle *h;

        LIST_FOREACH (h, &buckets[remote->id % 256], handles)
                if (h->id == remote->id &&
                                atomic_load_explicit(&h->epoch, memory_order_relaxed) == epoch_of(remote))
                        return h;
        return NULL;
}

static struct done_handle *done_handle_new(const struct remote_context *remote)
{
        struct done_handle *h = calloc(1, sizeof *h);

        if (!h)
                return NULL;
        h->epoch = epoch_of(remote);
        h->id = remote->id;
        h->fd = -1;
        h->refs = 1;
        return h;
}

int remote_context_ask_fd(struct remote_context *remote, const char *member)
{
        sd_bus_message *reply = NULL;
        int fd, r;

        r = remote_context_begin(remote);
        if (r < 0)
                return r;
        r = client_call(remote->client, &reply, member, "s", remote->reference);
        if (r >= 0) {
                r = sd_bus_message_read(reply, "h", &fd); /* the message owns it */
                if (r >= 0) {
                        r = fcntl(fd, F_DUPFD_CLOEXEC, 3);
                        if (r < 0)
                                r = -errno;
                }
                if (r < 0)
                        client_set_error(remote->client, r, NULL);
        }
        sd_bus_message_unref(reply);
        client_end(remote->client);
        return r;
}

/* The lock is held. */
static void tell_change(void)
{
        atomic_fetch_add(&changes, 1);
        futex_wake_all(&changes);
}

/* The lock is held, and released meanwhile. */
static void wait_for_change(void)
{
        uint32_t seen = atomic_load(&changes);

        lock_release(&lock);
        futex_wait(&changes, seen);
        lock_acquire(&lock);
}

/* The context is done, as far as is known here. So no daemon is needed. */
static int make_readable(void)
{
        int fd = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);

        if (fd < 0)
                return -errno;
        eventfd_write(fd, UINT64_MAX - 1);
        return fd;
}

static bool is_done(const struct remote_context *remote)
{
        return atomic_load_explicit(&remote->shared.wide.ctx.nest.word, memory_order_acquire) & CTX_STATE ||
               atomic_load_explicit(&remote->verdict, memory_order_acquire);
}

/* The lock is held, and released meanwhile. */
static int make(struct remote_context *remote, struct done_handle **ret)
{
        struct done_handle *h = done_handle_new(remote);
        int r;

        if (!h)
                return -ENOMEM;
        h->busy = true;
        LIST_INSERT_HEAD(&buckets[h->id % 256], h, handles);
        lock_release(&lock);

        r = is_done(remote) ? make_readable() : remote_context_ask_fd(remote, "Done");
        if (r == -ENOENT)
                remote_context_unknown(remote);
        if (r < 0 && is_done(remote)) /* it became lost meanwhile */
                r = make_readable();

        lock_acquire(&lock);
        h->busy = false;
        tell_change();
        if (r < 0) {
                LIST_REMOVE(h, handles);
                free(h);
                return r;
        }
        h->fd = r;
        *ret = h;
        return 0;
}

/* The lock is held. */
static int get(struct remote_context *remote, struct done_handle **ret)
{
        struct done_handle *h;

        for (;;) {
                h = atomic_load_explicit(&remote->handle, memory_order_acquire);
                if (h) /* another thread has made it meanwhile */
                        break;
                h = find(remote);
                if (!h) {
                        int r = make(remote, &h);

                        if (r < 0)
                                return r;
                        atomic_store_explicit(&remote->handle, h, memory_order_release);
                        break;
                }
                if (!h->busy) {
                        h->refs++;
                        atomic_store_explicit(&remote->handle, h, memory_order_release);
                        break;
                }
                wait_for_change();
        }
        *ret = h;
        return 0;
}

int done_handle_known_fd(const struct remote_context *remote)
{
        const struct done_handle *h = atomic_load_explicit(&remote->handle, memory_order_acquire);

        return h ? h->fd : -1;
}

int done_handle_fd(struct remote_context *remote)
{
        struct done_handle *h = atomic_load_explicit(&remote->handle, memory_order_acquire);
        int r;

        if (h)
                return h->fd;
        if (client_is_inherited(remote->client))
                return client_set_error(remote->client, -ECHILD, NULL);
        lock_acquire(&lock);
        r = get(remote, &h);
        lock_release(&lock);
        return r < 0 ? r : h->fd;
}

void done_handle_fire(struct remote_context *remote)
{
        struct done_handle *h = atomic_load_explicit(&remote->handle, memory_order_acquire);

        /* This fails if the daemon or this process has written to it before. */
        if (h && !client_is_inherited(remote->client))
                eventfd_write(h->fd, UINT64_MAX - 1);
}

void done_handle_confirm(struct remote_context *remote, uint64_t epoch)
{
        struct done_handle *h;

        lock_acquire(&lock);
        h = atomic_load_explicit(&remote->handle, memory_order_acquire);
        if (h)
                atomic_store_explicit(&h->epoch, epoch, memory_order_relaxed);
        lock_release(&lock);
}

/* If the daemon is gone, it needs nothing back, and none is started for that. */
static void say_undone(struct remote_context *remote)
{
        if (client_begin_connected(remote->client) < 0)
                return;
        if (atomic_load_explicit(&remote->client->epoch, memory_order_relaxed) == epoch_of(remote))
                client_call(remote->client, NULL, "Undone", "s", remote->reference);
        client_end(remote->client);
}

void done_handle_release(struct remote_context *remote)
{
        struct done_handle *h = atomic_load_explicit(&remote->handle, memory_order_acquire);

        if (!h)
                return;
        if (client_is_inherited(remote->client)) {
                /* The connection belongs to the parent process. The descriptor is a copy. */
                if (--h->refs == 0) {
                        close(h->fd);
                        free(h);
                }
                return;
        }
        lock_acquire(&lock);
        if (--h->refs > 0) {
                lock_release(&lock);
                return;
        }
        h->busy = true;
        lock_release(&lock);

        close(h->fd);
        if (!is_done(remote)) /* the daemon has freed a handle that it has written to */
                say_undone(remote);

        lock_acquire(&lock);
        LIST_REMOVE(h, handles);
        tell_change();
        lock_release(&lock);
        free(h);
}

/* For the daemon the child is another process, which has no handles yet. Handles of the parent's contexts are
 * only reached through these contexts. */
static void after_fork_in_child(void)
{
        memset(buckets, 0, sizeof buckets);
}

FORK_PART(.lock = &lock, .in_child = after_fork_in_child)
