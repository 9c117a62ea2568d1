/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/remote/context.h"
#include "lib/remote/mapped-page.h"

/* The operations of a shared context (lib/local/shared.h). */

static bool remote_context_seems_done(struct ctx_shared *shared)
{
        const struct remote_context *remote = (const struct remote_context *) shared;
        const struct done_handle *h = atomic_load_explicit(&remote->handle, memory_order_acquire);

        if (remote_context_known_verdict(remote) ||
                        atomic_load_explicit(&shared->wide.ctx.nest.word, memory_order_acquire) & CTX_STATE)
                return true;
        if (shared->word)
                return atomic_load_explicit(shared->word, memory_order_acquire) != shared->given;
        return h && poll(&(struct pollfd){.fd = h->fd, .events = POLLIN}, 1, 0) > 0;
}

int remote_context_begin(struct remote_context *remote)
{
        int r = client_begin(remote->client);

        if (r < 0 || !remote_context_is_lost(remote))
                return r;
        client_end(remote->client);
        return client_set_error(remote->client, -ENOENT, "The daemon that knew this context was stopped");
}

/* A context of another uid has no page. Its state is that of its done handle. */
static uint32_t settle_by_handle(struct remote_context *remote)
{
        const struct verdict *verdict = remote_context_known_verdict(remote);
        struct pollfd pollfd = {.events = POLLIN};

        if (verdict)
                return verdict->state;
        /* If the daemon is gone, it is not asked for a handle. */
        pollfd.fd = client_is_away(remote->client) ? done_handle_known_fd(remote) : done_handle_fd(remote);
        if (pollfd.fd >= 0 && poll(&pollfd, 1, 0) > 0) {
                /* A daemon that was stopped has written to the handle, and does not answer any more. */
                if (client_is_away(remote->client))
                        return remote_context_lose(remote);
                verdict = remote_context_verdict(remote);
                return verdict ? verdict->state : STATE_WORD_CANCELED;
        }
        if (remote_context_is_orphan(remote))
                return remote_context_lose(remote);
        if (atomic_load_explicit(&remote->own_deadline_usec, memory_order_relaxed) <= now_boottime_usec())
                return STATE_WORD_DEADLINE_EXCEEDED;
        return STATE_WORD_ACTIVE;
}

static int remote_context_settle(struct ctx_shared *shared, uint64_t word)
{
        struct remote_context *remote = (struct remote_context *) shared;
        const struct verdict *verdict;

        if (!shared->word)
                return (int) settle_by_handle(remote);
        if (word == shared->given) {
                verdict = remote_context_known_verdict(remote);
                if (verdict)
                        return (int) verdict->state;
                return remote_context_is_orphan(remote) ? (int) remote_context_lose(remote)
                                                        : STATE_WORD_ACTIVE;
        }
        if (word == (shared->given | STATE_WORD_STOPPED))
                return (int) remote_context_lose(remote);
        if (word / (STATE_WORD_MASK + 1) == shared->given / (STATE_WORD_MASK + 1))
                return (int) (word & STATE_WORD_MASK);
        /* The slot belongs to another context now. So this one was done, and the daemon has freed it. The
         * daemon may still know how it ended. */
        verdict = remote_context_verdict(remote);
        return verdict ? (int) verdict->state : STATE_WORD_CANCELED;
}

static int remote_context_cause(struct ctx_shared *shared, int *ret_error, const char **ret_message)
{
        const struct verdict *verdict = remote_context_verdict((struct remote_context *) shared);
        uint32_t word = atomic_load_explicit(&shared->wide.ctx.nest.word, memory_order_acquire);

        /* The daemon does not know it any more, or cannot be asked: only the state is known. */
        if (!verdict) {
                cause_read(CAUSE_DEFAULT, word & CTX_STATE, ret_error, ret_message);
                return 1;
        }
        if (ret_error)
                *ret_error = verdict->error;
        if (ret_message)
                *ret_message = verdict->cause;
        return 1;
}

static int remote_context_done_fd(struct ctx_shared *shared)
{
        return done_handle_fd((struct remote_context *) shared);
}

#define LOOK_AGAIN_USEC UINT64_C(5000000) /* if nothing says when the daemon is gone */

static bool remote_context_before_sleep(struct ctx_shared *shared, int *ret_fd, uint64_t *ret_usec)
{
        struct remote_context *remote = (struct remote_context *) shared;
        struct ctx_client *client = remote->client;
        bool is_kept = remote->page && mapped_page_is_kept(remote->page) &&
                       atomic_load_explicit(shared->keeper, memory_order_relaxed) != 0;

        /* It is cheaper to look at the page: does the daemon that we know keep it? */
        if (!(is_kept && mapped_page_epoch(remote->page) ==
                                            atomic_load_explicit(&client->epoch, memory_order_acquire)) &&
                        client_is_away(client)) {
                uint64_t usec = client_try_return(client);

                if (client_is_away(client)) {
                        *ret_fd = -1;
                        *ret_usec = usec < LOOK_AGAIN_USEC ? usec : LOOK_AGAIN_USEC;
                        return is_kept;
                }
        }
        *ret_fd = atomic_load_explicit(&client->alive_fd, memory_order_acquire);
        *ret_usec = *ret_fd < 0 ? LOOK_AGAIN_USEC : CTX_NEVER;
        return true;
}

/* When a daemon is killed, its connections are closed a little before the other descriptors. */
#define GOING_MSEC 200

static bool remote_context_has_no_daemon(struct ctx_shared *shared)
{
        struct remote_context *remote = (struct remote_context *) shared;
        struct pollfd pollfd = {.fd = atomic_load_explicit(&remote->client->alive_fd, memory_order_acquire)};

        if (remote->page && !mapped_page_is_kept(remote->page))
                return true;
        return pollfd.fd >= 0 && poll(&pollfd, 1, GOING_MSEC) > 0;
}

static int remote_context_watch_daemon(struct ctx_shared *shared)
{
        return watch_daemon((struct remote_context *) shared);
}

static int remote_context_watch(struct ctx_shared *shared)
{
        return watch_start((struct remote_context *) shared);
}

void remote_context_finish(struct remote_context *remote)
{
        struct ctx *ctx = &remote->shared.wide.ctx;
        uint32_t state = ctx_state(ctx);

        if (!state) { /* there is neither a page nor a handle yet */
                const struct verdict *verdict = remote_context_verdict(remote);

                state = verdict ? verdict->state : STATE_WORD_CANCELED;
        }
        ctx_finish(ctx, state, CAUSE_SHARED);
}

static int call_cancel(struct remote_context *remote, int error, const char *message, int *ret_first)
{
        sd_bus_message *reply = NULL;
        int r;

        r = remote_context_begin(remote);
        if (r < 0)
                return r;
        if (error == 0)
                r = client_call(remote->client, &reply, "Cancel", "ss", remote->reference,
                                message ? message : "");
        else
                r = client_call(remote->client, &reply, "CancelCause", "sis", remote->reference, error,
                                message ? message : "");
        if (r >= 0) {
                r = sd_bus_message_read(reply, "b", ret_first);
                if (r < 0)
                        client_set_error(remote->client, r, NULL);
        }
        sd_bus_message_unref(reply);
        client_end(remote->client);
        return r;
}

static int remote_context_cancel(struct ctx_shared *shared, int error, const char *message)
{
        struct remote_context *remote = (struct remote_context *) shared;
        int first = 0, r;

        r = call_cancel(remote, error, message, &first);
        if (r == -ENOENT)
                remote_context_unknown(remote);
        /* The daemon forgets only contexts that are done, and never uses an id again. */
        if (r == -ENOENT && ctx_state(&shared->wide.ctx))
                r = 0;
        if (r < 0)
                return r;
        remote_context_finish(remote);
        return first;
}

static const char *remote_context_path(struct ctx_shared *shared)
{
        return ((struct remote_context *) shared)->reference;
}

static const char *remote_context_address(struct ctx_shared *shared)
{
        return ((struct remote_context *) shared)->client->given;
}

static void destroy(struct remote_context *remote)
{
        if (!remote_context_is_lost(remote))
                free((void *) remote_context_known_verdict(remote));
        values_free(atomic_load_explicit(&remote->values, memory_order_acquire));
        if (remote->drained_fd >= 0)
                close(remote->drained_fd);
        ctx_client_unref(remote->client);
        free(remote->reference);
        free(remote);
}

static void remote_context_free(struct ctx_shared *shared)
{
        struct remote_context *remote = (struct remote_context *) shared;

        client_remove_context(remote->client, remote);
        watch_stop(remote);
        done_handle_release(remote);
        destroy(remote);
}

static const struct ctx_shared_ops ops = {
                .settle = remote_context_settle,
                .cause = remote_context_cause,
                .done_fd = remote_context_done_fd,
                .before_sleep = remote_context_before_sleep,
                .has_no_daemon = remote_context_has_no_daemon,
                .watch_daemon = remote_context_watch_daemon,
                .watch = remote_context_watch,
                .cancel = remote_context_cancel,
                .attach = remote_context_attach,
                .seems_done = remote_context_seems_done,
                .path = remote_context_path,
                .address = remote_context_address,
                .enter = thread_map_enter,
                .leave = thread_map_leave,
                .free = remote_context_free,
};

/* client_begin() was called. Only the owner of a context gets its page. Without one, everything works by the
 * handle and by Err. */
static int ask_page(struct remote_context *remote)
{
        const struct state_slot *slot = NULL;
        struct mapped_page *page = NULL;
        sd_bus_message *reply = NULL;
        uint64_t offset, word;
        int fd, r;

        r = client_call(remote->client, &reply, "Page", "s", remote->reference);
        if (r >= 0)
                r = sd_bus_message_read(reply, "htt", &fd, &offset, &word);
        if (r >= 0)
                r = mapped_page_slot(&remote->client->pages, fd, offset, &slot, &page);
        sd_bus_message_unref(reply);
        if (r == -EACCES)
                return 0;
        if (r < 0)
                return client_set_error(remote->client, r,
                                r == -EBADMSG ? "The daemon's state page cannot be read" : NULL);
        remote->shared.word = (const _Atomic uint64_t *) &slot->word;
        remote->shared.deadline_usec = (const _Atomic uint64_t *) &slot->deadline_usec;
        remote->shared.given = word & ~(uint64_t) STATE_WORD_MASK;
        remote->shared.keeper = mapped_page_keeper(page);
        remote->page = page;
        return 0;
}

int remote_context_new(struct ctx_client *client, const char *reference, uint64_t id, uint64_t deadline_usec,
                struct remote_context **ret)
{
        struct remote_context *remote = calloc(1, sizeof *remote);
        int r;

        if (!remote)
                return -ENOMEM;
        ctx_shared_init(&remote->shared, &ops);
        remote->client = client_ref(client);
        remote->id = id;
        remote->drained_fd = -1;
        remote->own_deadline_usec = deadline_usec;
        remote->shared.deadline_usec = &remote->own_deadline_usec;
        remote->reference = strdup(reference);
        r = remote->reference ? client_begin(client) : -ENOMEM;
        if (r >= 0) {
                r = ask_page(remote);
                remote->epoch = atomic_load_explicit(&client->epoch, memory_order_relaxed);
                client_end(client);
        }
        if (r < 0) {
                destroy(remote);
                return r;
        }
        client_add_context(client, remote);
        *ret = remote;
        return 0;
}
