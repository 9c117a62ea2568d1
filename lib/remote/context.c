/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/remote/mapped-page.h"
#include "lib/remote/context.h"

/* The operations of a shared context (lib/local/ctx.h). */

static bool shared_seems_done(struct ctx_shared *base)
{
        const struct shared *shared = (const struct shared *) base;
        const struct handle *h = atomic_load_explicit(&shared->handle, memory_order_acquire);

        if (shared_known_verdict(shared) ||
                        atomic_load_explicit(&base->wide.ctx.nest.word, memory_order_acquire) & CTX_STATE)
                return true;
        if (base->word)
                return atomic_load_explicit(base->word, memory_order_acquire) != base->given;
        return h && poll(&(struct pollfd){.fd = h->fd, .events = POLLIN}, 1, 0) > 0;
}

int shared_begin(struct shared *shared)
{
        int r = client_begin(shared->client);

        if (r < 0 || !shared_is_lost(shared))
                return r;
        client_end(shared->client);
        return client_failed(shared->client, -ENOENT, "The daemon that knew this context was stopped");
}

/* A context without a page (it is another uid's) is as its handle says. */
static uint32_t settle_by_handle(struct shared *shared)
{
        const struct verdict *verdict = shared_known_verdict(shared);
        struct pollfd pollfd = {.events = POLLIN};

        if (verdict)
                return verdict->state;
        /* Nobody is asked who is not there. */
        pollfd.fd = client_is_away(shared->client) ? handle_known_fd(shared) : handle_fd(shared);
        if (pollfd.fd >= 0 && poll(&pollfd, 1, 0) > 0) {
                /* A daemon that was stopped writes the handle, and answers no more. */
                if (client_is_away(shared->client))
                        return shared_lose(shared);
                verdict = shared_verdict(shared);
                return verdict ? verdict->state : STATE_WORD_CANCELED;
        }
        if (shared_is_orphan(shared))
                return shared_lose(shared);
        if (atomic_load_explicit(&shared->own_deadline_usec, memory_order_relaxed) <= now_usec())
                return STATE_WORD_DEADLINE_EXCEEDED;
        return STATE_WORD_ACTIVE;
}

static int shared_settle(struct ctx_shared *base, uint64_t word)
{
        struct shared *shared = (struct shared *) base;
        const struct verdict *verdict;

        if (!base->word)
                return (int) settle_by_handle(shared);
        if (word == base->given) {
                verdict = shared_known_verdict(shared);
                if (verdict)
                        return (int) verdict->state;
                return shared_is_orphan(shared) ? (int) shared_lose(shared) : STATE_WORD_ACTIVE;
        }
        if (word == (base->given | STATE_WORD_STOPPED))
                return (int) shared_lose(shared);
        if (word / (STATE_WORD_MASK + 1) == base->given / (STATE_WORD_MASK + 1))
                return (int) (word & STATE_WORD_MASK);
        /* The slot is somebody else's now, so ours was done and forgotten. How is known if the daemon still
         * does. */
        verdict = shared_verdict(shared);
        return verdict ? (int) verdict->state : STATE_WORD_CANCELED;
}

static int shared_cause(struct ctx_shared *base, int *ret_error, const char **ret_message)
{
        const struct verdict *verdict = shared_verdict((struct shared *) base);
        uint32_t word = atomic_load_explicit(&base->wide.ctx.nest.word, memory_order_acquire);

        if (!verdict) { /* forgotten, or out of reach: what it was is all that is known */
                cause_read(CAUSE_DEFAULT, word & CTX_STATE, ret_error, ret_message);
                return 1;
        }
        if (ret_error)
                *ret_error = verdict->error;
        if (ret_message)
                *ret_message = verdict->cause;
        return 1;
}

static int shared_done_fd(struct ctx_shared *base)
{
        return handle_fd((struct shared *) base);
}

#define LOOK_AGAIN_USEC UINT64_C(5000000) /* where nothing tells that the daemon is gone */

static bool shared_guard(struct ctx_shared *base, int *ret_fd, uint64_t *ret_usec)
{
        struct shared *shared = (struct shared *) base;
        struct ctx_client *client = shared->client;
        bool is_kept = shared->page && page_is_kept(shared->page) &&
                       atomic_load_explicit(base->keeper, memory_order_relaxed) != 0;

        /* A page that is kept by the daemon that we know is the cheaper witness. */
        if (!(is_kept && page_epoch(shared->page) ==
                                            atomic_load_explicit(&client->epoch, memory_order_acquire)) &&
                        client_is_away(client)) {
                uint64_t usec = client_return(client);

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

/* A daemon that is killed has closed its connections a little before it has closed everything. */
#define GOING_MSEC 200

static bool shared_is_alone(struct ctx_shared *base)
{
        struct shared *shared = (struct shared *) base;
        struct pollfd pollfd = {.fd = atomic_load_explicit(&shared->client->alive_fd, memory_order_acquire)};

        if (shared->page && !page_is_kept(shared->page))
                return true;
        return pollfd.fd >= 0 && poll(&pollfd, 1, GOING_MSEC) > 0;
}

static int shared_attend(struct ctx_shared *base)
{
        return watch_attend((struct shared *) base);
}

static int shared_watch(struct ctx_shared *base)
{
        return watch_start((struct shared *) base);
}

void shared_finish(struct shared *shared)
{
        struct ctx *ctx = &shared->ctx.wide.ctx;
        uint32_t state = ctx_state(ctx);

        if (!state) { /* no page, and no handle yet */
                const struct verdict *verdict = shared_verdict(shared);

                state = verdict ? verdict->state : STATE_WORD_CANCELED;
        }
        ctx_finish(ctx, state, CAUSE_SHARED);
}

static int call_cancel(struct shared *shared, int error, const char *message, int *ret_first)
{
        sd_bus_message *reply = NULL;
        int r;

        r = shared_begin(shared);
        if (r < 0)
                return r;
        if (error == 0)
                r = client_call(shared->client, &reply, "Cancel", "ss", shared->reference,
                                message ? message : "");
        else
                r = client_call(shared->client, &reply, "CancelCause", "sis", shared->reference, error,
                                message ? message : "");
        if (r >= 0) {
                r = sd_bus_message_read(reply, "b", ret_first);
                if (r < 0)
                        client_failed(shared->client, r, NULL);
        }
        sd_bus_message_unref(reply);
        client_end(shared->client);
        return r;
}

static int shared_cancel(struct ctx_shared *base, int error, const char *message)
{
        struct shared *shared = (struct shared *) base;
        int first = 0, r;

        r = call_cancel(shared, error, message, &first);
        if (r == -ENOENT)
                shared_is_unknown(shared);
        /* Only done contexts are forgotten, and an id is never used again. */
        if (r == -ENOENT && ctx_state(&base->wide.ctx))
                r = 0;
        if (r < 0)
                return r;
        shared_finish(shared);
        return first;
}

static const char *shared_path(struct ctx_shared *base)
{
        return ((struct shared *) base)->reference;
}

static const char *shared_address(struct ctx_shared *base)
{
        return ((struct shared *) base)->client->given;
}

static void destroy(struct shared *shared)
{
        if (!shared_is_lost(shared))
                free((void *) shared_known_verdict(shared));
        values_free(atomic_load_explicit(&shared->values, memory_order_acquire));
        if (shared->drained_fd >= 0)
                close(shared->drained_fd);
        ctx_client_unref(shared->client);
        free(shared->reference);
        free(shared);
}

static void shared_free(struct ctx_shared *base)
{
        struct shared *shared = (struct shared *) base;

        client_remove_context(shared->client, shared);
        watch_stop(shared);
        handle_release(shared);
        destroy(shared);
}

static const struct ctx_shared_ops ops = {
                .settle = shared_settle,
                .cause = shared_cause,
                .done_fd = shared_done_fd,
                .guard = shared_guard,
                .is_alone = shared_is_alone,
                .attend = shared_attend,
                .watch = shared_watch,
                .cancel = shared_cancel,
                .attach = shared_attach,
                .seems_done = shared_seems_done,
                .path = shared_path,
                .address = shared_address,
                .enter = threads_enter,
                .leave = threads_leave,
                .free = shared_free,
};

/* The client is begun. A page is its owner's alone: without one all still works, by handle and Err. */
static int ask_page(struct shared *shared)
{
        const struct state_slot *slot = NULL;
        struct page *page = NULL;
        sd_bus_message *reply = NULL;
        uint64_t offset, word;
        int fd, r;

        r = client_call(shared->client, &reply, "Page", "s", shared->reference);
        if (r >= 0)
                r = sd_bus_message_read(reply, "htt", &fd, &offset, &word);
        if (r >= 0)
                r = page_slot(&shared->client->pages, fd, offset, &slot, &page);
        sd_bus_message_unref(reply);
        if (r == -EACCES)
                return 0;
        if (r < 0)
                return client_failed(shared->client, r,
                                r == -EBADMSG ? "The daemon's state page cannot be read" : NULL);
        shared->ctx.word = (const _Atomic uint64_t *) &slot->word;
        shared->ctx.deadline_usec = (const _Atomic uint64_t *) &slot->deadline_usec;
        shared->ctx.given = word & ~(uint64_t) STATE_WORD_MASK;
        shared->ctx.keeper = page_keeper(page);
        shared->page = page;
        return 0;
}

int shared_new(struct ctx_client *client, const char *reference, uint64_t id, uint64_t deadline_usec,
                struct shared **ret)
{
        struct shared *shared = calloc(1, sizeof *shared);
        int r;

        if (!shared)
                return -ENOMEM;
        shared_ctx_init(&shared->ctx, &ops);
        shared->client = client_ref(client);
        shared->id = id;
        shared->drained_fd = -1;
        shared->own_deadline_usec = deadline_usec;
        shared->ctx.deadline_usec = &shared->own_deadline_usec;
        shared->reference = strdup(reference);
        r = shared->reference ? client_begin(client) : -ENOMEM;
        if (r >= 0) {
                r = ask_page(shared);
                shared->epoch = atomic_load_explicit(&client->epoch, memory_order_relaxed);
                client_end(client);
        }
        if (r < 0) {
                destroy(shared);
                return r;
        }
        client_add_context(client, shared);
        *ret = shared;
        return 0;
}
