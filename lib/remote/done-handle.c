/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/remote/context.h"
#include "lib/remote/mapped-page.h"

/* Done handles. The daemon has one for each process and context. So this process has one too, for all objects
 * and clients that stand for the context. The first of these asks the daemon for it, and the last one gives
 * it up. Nobody has to wait for the answer: until it has come, the handle is there without its descriptor.
 *
 * The daemon must not see the call Undone for an old handle after the call Done for a new one. It reads a
 * connection in order. So whatever is said about the handles of one daemon, is said by one client: the first
 * one that this process has for that daemon. Where that one was freed, the next one speaks only once the
 * daemon has read all that the first one has said (client-list.c). */

#define MOMENT_USEC UINT64_C(2000) /* an answer usually comes within a fiftieth of this */
#define LOOK_AGAIN_MIN_USEC UINT64_C(1000)
#define LOOK_AGAIN_MAX_USEC UINT64_C(50000)

static struct lock lock = LOCK_INIT(LOCK_DONE_HANDLES);
static LIST_HEAD(, done_handle) buckets[256];

/* An id belongs to the daemon that gave it. A daemon that has lost its contexts may start to count again. */
static uint64_t epoch_of(const struct remote_context *remote)
{
        return atomic_load_explicit(&remote->epoch, memory_order_acquire);
}

/* The client that speaks of this handle, with a reference. */
static struct ctx_client *speaker(const struct remote_context *remote, const struct done_handle *h)
{
        struct ctx_client *client;

        lock_acquire(&lock);
        client = h->asked ? client_ref(h->asked) : NULL;
        lock_release(&lock);
        return client ? client : client_first(remote->client, epoch_of(remote));
}

/* The lock is held. Takes a reference, and puts the handle into remote->handle. */
static struct done_handle *attach(struct remote_context *remote)
{
        struct done_handle *h = atomic_load_explicit(&remote->handle, memory_order_acquire);

        if (h) /* another thread has done it meanwhile */
                return h;
        LIST_FOREACH (h, &buckets[remote->id % 256], handles)
                if (h->id == remote->id &&
                                atomic_load_explicit(&h->epoch, memory_order_relaxed) == epoch_of(remote))
                        break;
        if (!h) {
                h = calloc(1, sizeof *h);
                if (!h)
                        return NULL;
                h->epoch = epoch_of(remote);
                h->id = remote->id;
                h->page_number = remote->page ? mapped_page_number(remote->page) : 0;
                h->fd = -1;
                h->asked_usec = now_monotonic_usec();
                LIST_INSERT_HEAD(&buckets[h->id % 256], h, handles);
        }
        h->refs++;
        atomic_store_explicit(&remote->handle, h, memory_order_release);
        return h;
}

static int take_fd(sd_bus_message *answer)
{
        int fd, r;

        r = sd_bus_message_read(answer, "h", &fd); /* the message owns it */
        if (r < 0)
                return r;
        r = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        return r < 0 ? -errno : r;
}

/* client_begin() was called; ends that. */
static int ask_fd(struct ctx_client *client, const struct remote_context *remote, const char *member)
{
        sd_bus_message *reply = NULL;
        int r = client_call(client, &reply, member, "s", remote->reference);

        if (r >= 0) {
                r = take_fd(reply);
                if (r < 0)
                        client_set_error(client, r, NULL);
        }
        sd_bus_message_unref(reply);
        client_end(client);
        return r;
}

int remote_context_ask_fd(struct remote_context *remote, const char *member)
{
        int r = remote_context_begin(remote);

        return r < 0 ? r : ask_fd(remote->client, remote, member);
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
        return ctx_is_done(&remote->shared.wide.ctx) ||
               atomic_load_explicit(&remote->verdict, memory_order_acquire);
}

/* Gives the handle its descriptor, unless it has one. */
static int set_fd(struct done_handle *h, int fd)
{
        int none = -1;

        if (fd < 0 || atomic_compare_exchange_strong_explicit(
                                      &h->fd, &none, fd, memory_order_acq_rel, memory_order_acquire))
                return fd;
        close(fd);
        return none;
}

/* Nobody is asked any more. The lock of that client is held. */
static void end_asking(struct done_handle *h)
{
        lock_acquire(&lock);
        h->asked->n_surplus++;
        h->asked = NULL;
        lock_release(&lock);
}

/* The answer to Done. The client's lock is held. */
static void on_answer(struct client_request *request, int r, sd_bus_message *answer)
{
        struct done_handle *h =
                        (struct done_handle *) ((char *) request - offsetof(struct done_handle, request));

        h->is_lost = r < 0;
        if (r >= 0)
                r = client_answer_error(h->asked, answer);
        if (r >= 0)
                r = set_fd(h, take_fd(answer));
        if (r >= 0 && atomic_load(&h->is_fired))
                eventfd_write(r, UINT64_MAX - 1);
        h->error = r < 0 ? r : 0;
        end_asking(h);
}

/* The client's lock is held, and there is a connection. */
static int send_done(struct ctx_client *client, struct remote_context *remote, struct done_handle *h)
{
        sd_bus_message *m = NULL;
        int r = client_message(client, &m, "Done");

        if (r >= 0)
                r = sd_bus_message_append(m, "s", remote->reference);
        h->request = (struct client_request){.on_end = on_answer};
        if (r >= 0)
                r = client_request(client, &h->request, m);
        sd_bus_message_unref(m);
        if (r < 0)
                return r;
        h->asked_usec = now_monotonic_usec();
        lock_acquire(&lock);
        h->asked = client_ref(client);
        lock_release(&lock);
        return 0;
}

/* client_begin() was called for the speaker. Asks for the descriptor, if that was not done. Waits for the
 * answer: a moment, or as long as for other answers. */
static int ask(struct ctx_client *client, struct remote_context *remote, struct done_handle *h, bool wait)
{
        uint64_t limit = client_limit();
        int r = 0;

        if (h->asked)
                client_read(client);
        if (!h->asked && h->fd < 0 && h->error == 0)
                r = send_done(client, remote, h);
        if (!wait && h->asked_usec + MOMENT_USEC < limit)
                limit = h->asked_usec + MOMENT_USEC;
        while (h->asked == client && now_monotonic_usec() < limit)
                client_wait(client, limit);
        if (h->fd >= 0)
                return h->fd;
        if (r >= 0 && h->error == 0)
                return wait ? client_set_error(client, -ETIMEDOUT, "ctxd does not answer") : -EINPROGRESS;
        if (r >= 0)
                r = atomic_exchange(&h->error, 0); /* the next call asks again */
        else
                h->is_lost = true;
        /* Whatever has ended the connection was perhaps another call's failure. */
        return h->is_lost && !wait ? -EINPROGRESS : r;
}

static uint64_t look_again_usec(const struct done_handle *h)
{
        uint64_t usec = (now_monotonic_usec() - h->asked_usec) / 2;

        if (usec < LOOK_AGAIN_MIN_USEC)
                return LOOK_AGAIN_MIN_USEC;
        return usec < LOOK_AGAIN_MAX_USEC ? usec : LOOK_AGAIN_MAX_USEC;
}

int done_handle_known_fd(const struct remote_context *remote)
{
        const struct done_handle *h = atomic_load_explicit(&remote->handle, memory_order_acquire);

        return h ? atomic_load_explicit(&h->fd, memory_order_acquire) : -1;
}

static struct done_handle *attach_locked(struct remote_context *remote)
{
        struct done_handle *h;

        lock_acquire(&lock);
        h = attach(remote);
        lock_release(&lock);
        return h;
}

int done_handle_fd(struct remote_context *remote, uint64_t *ret_usec)
{
        int fd = done_handle_known_fd(remote), r;
        struct ctx_client *client;
        struct done_handle *h;

        if (fd >= 0)
                return fd;
        if (client_is_of_parent(remote->client)) {
                /* The page can be looked at. */
                if (!ret_usec || !remote->page)
                        return client_set_error(remote->client, -ECHILD, NULL);
                *ret_usec = INHERITED_LOOK_USEC;
                return -EINPROGRESS;
        }
        h = attach_locked(remote);
        if (!h)
                return -ENOMEM;
        if (is_done(remote))
                return set_fd(h, make_readable());
        client = speaker(remote, h);
        r = client_others_were_read(epoch_of(remote), ret_usec != NULL) ? 0
            : ret_usec                                                  ? -EINPROGRESS
                                                                        : -ETIMEDOUT;
        if (r >= 0)
                r = ret_usec ? client_begin_soon(client) : client_begin(client);
        if (r >= 0) {
                r = remote_context_is_lost(remote) ? -ENOENT : ask(client, remote, h, !ret_usec);
                client_end(client);
        }
        ctx_client_unref(client);
        if (r == -ENOENT)
                remote_context_unknown(remote);
        if (r < 0 && is_done(remote)) /* meanwhile */
                return set_fd(h, make_readable());
        if (r == -EINPROGRESS)
                *ret_usec = look_again_usec(h);
        return r;
}

int done_handle_open(struct remote_context *remote)
{
        struct done_handle *h = attach_locked(remote);
        struct ctx_client *client;
        int r;

        if (!h)
                return -ENOMEM;
        client = speaker(remote, h);
        r = client_others_were_read(epoch_of(remote), false) ? client_begin(client) : -ETIMEDOUT;
        if (r >= 0)
                r = ask_fd(client, remote, "Done");
        ctx_client_unref(client);
        return set_fd(h, r);
}

void done_handle_fire(struct remote_context *remote)
{
        struct done_handle *h = atomic_load_explicit(&remote->handle, memory_order_acquire);
        int fd;

        if (!h || client_is_inherited(remote->client))
                return;
        atomic_store(&h->is_fired, true);
        fd = atomic_load(&h->fd);
        /* This fails if the daemon or this process has written to it before. */
        if (fd >= 0)
                eventfd_write(fd, UINT64_MAX - 1);
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

static void done_handle_free(struct done_handle *h)
{
        if (h->fd >= 0)
                close(h->fd);
        free(h);
}

/* Nobody has it any more, and it is in no list. But its answer may be on its way. */
static void forget_answer(struct done_handle *h)
{
        struct ctx_client *client;

        lock_acquire(&lock);
        client = h->asked ? client_ref(h->asked) : NULL;
        lock_release(&lock);
        if (!client)
                return;
        lock_acquire(&client->lock);
        if (h->asked) {
                client_forget(client, &h->request);
                end_asking(h);
        }
        client_end(client);
        ctx_client_unref(client);
}

/* The lock is held. Has the process another handle of the same context? It has if a client has come to
 * another daemon than the one that was there when its handle was made, before another client has. */
static bool has_twin(const struct done_handle *h)
{
        const struct done_handle *other;

        LIST_FOREACH (other, &buckets[h->id % 256], handles)
                if (other != h && other->id == h->id &&
                                (other->epoch == h->epoch ||
                                                (h->page_number && other->page_number == h->page_number)))
                        return true;
        return false;
}

void done_handle_release(struct remote_context *remote)
{
        struct done_handle *h = atomic_load_explicit(&remote->handle, memory_order_acquire);
        struct ctx_client *client;
        bool is_last, is_needed;

        if (!h)
                return;
        if (client_is_inherited(remote->client)) {
                /* The connection belongs to the parent process. The descriptor is a copy. */
                if (--h->refs == 0)
                        done_handle_free(h);
                return;
        }
        client = speaker(remote, h);
        lock_acquire(&client->lock);
        lock_acquire(&lock);
        is_last = --h->refs == 0;
        is_needed = has_twin(h);
        if (is_last)
                LIST_REMOVE(h, handles);
        lock_release(&lock);
        /* Whoever asks for a new one from now on, asks after this. A handle that the daemon has written to is
         * freed already. */
        if (is_last && !is_needed && !is_done(remote) && (h->fd >= 0 || h->asked))
                client_give_back(client, epoch_of(remote), remote->reference);
        client_end(client);
        ctx_client_unref(client);
        if (is_last) {
                forget_answer(h);
                done_handle_free(h);
        }
}

/* For the daemon the child is another process, which has no handles yet. Handles of the parent's contexts are
 * only reached through these contexts. */
static void after_fork_in_child(void)
{
        memset(buckets, 0, sizeof buckets);
}

FORK_PART(.lock = &lock, .in_child = after_fork_in_child)
