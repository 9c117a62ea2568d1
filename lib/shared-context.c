/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/page.h"
#include "lib/shared-context.h"

/* The operations of a shared context (lib/ctx.h). */

static uint32_t state_of_code(int code)
{
        switch (code) {
        case 0:
                return STATE_WORD_ACTIVE;
        case ETIMEDOUT:
                return STATE_WORD_DEADLINE_EXCEEDED;
        default:
                return STATE_WORD_CANCELED;
        }
}

static int read_verdict(sd_bus_message *m, struct verdict **ret)
{
        const char *err, *cause;
        struct verdict *verdict;
        int code, error, r;

        r = sd_bus_message_read(m, "siis", &err, &code, &error, &cause);
        if (r < 0)
                return r;
        if (code == 0)
                return -EAGAIN;
        verdict = malloc(sizeof *verdict + strlen(cause) + 1);
        if (!verdict)
                return -ENOMEM;
        verdict->state = state_of_code(code);
        verdict->error = error;
        strcpy(verdict->cause, cause);
        *ret = verdict;
        return 0;
}

const struct verdict *shared_verdict(struct shared *shared)
{
        struct verdict *verdict = atomic_load_explicit(&shared->verdict, memory_order_acquire);
        sd_bus_message *reply = NULL;

        if (verdict || client_begin(shared->client) < 0)
                return verdict;
        /* Two threads may have come here: the client's lock lets one ask, the other finds the answer. */
        verdict = atomic_load_explicit(&shared->verdict, memory_order_acquire);
        if (!verdict && client_call(shared->client, &reply, "Err", "s", shared->reference) >= 0 &&
                        read_verdict(reply, &verdict) >= 0)
                atomic_store_explicit(&shared->verdict, verdict, memory_order_release);
        sd_bus_message_unref(reply);
        client_end(shared->client);
        return verdict;
}

/* A context without a page (it is another uid's) is as its handle says. */
static uint32_t settle_by_handle(struct shared *shared)
{
        const struct verdict *verdict = atomic_load_explicit(&shared->verdict, memory_order_acquire);
        struct pollfd pollfd = {.events = POLLIN};

        if (verdict)
                return verdict->state;
        pollfd.fd = handle_fd(shared);
        if (pollfd.fd >= 0 && poll(&pollfd, 1, 0) > 0) {
                verdict = shared_verdict(shared);
                return verdict ? verdict->state : STATE_WORD_CANCELED;
        }
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

        r = client_begin(shared->client);
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

static const char *shared_value_op(struct ctx_shared *base, const char *key)
{
        return shared_value((struct shared *) base, key);
}

static void destroy(struct shared *shared)
{
        free(atomic_load_explicit(&shared->verdict, memory_order_acquire));
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

        watch_stop(shared);
        handle_release(shared);
        destroy(shared);
}

static const struct ctx_shared_ops ops = {
                .settle = shared_settle,
                .cause = shared_cause,
                .done_fd = shared_done_fd,
                .watch = shared_watch,
                .cancel = shared_cancel,
                .path = shared_path,
                .value = shared_value_op,
                .enter = threads_enter,
                .leave = threads_leave,
                .free = shared_free,
};

/* The client is begun. A page is its owner's alone: without one all still works, by handle and Err. */
static int ask_page(struct shared *shared)
{
        const struct state_slot *slot = NULL;
        sd_bus_message *reply = NULL;
        uint64_t offset, word;
        int fd, r;

        r = client_call(shared->client, &reply, "Page", "s", shared->reference);
        if (r >= 0)
                r = sd_bus_message_read(reply, "htt", &fd, &offset, &word);
        if (r >= 0)
                r = page_slot(&shared->client->pages, fd, offset, &slot);
        sd_bus_message_unref(reply);
        if (r == -EACCES)
                return 0;
        if (r < 0)
                return client_failed(shared->client, r,
                                r == -EBADMSG ? "The daemon's state page cannot be read" : NULL);
        shared->ctx.word = (const _Atomic uint64_t *) &slot->word;
        shared->ctx.deadline_usec = (const _Atomic uint64_t *) &slot->deadline_usec;
        shared->ctx.given = word & ~(uint64_t) STATE_WORD_MASK;
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
                client_end(client);
        }
        if (r < 0) {
                destroy(shared);
                return r;
        }
        *ret = shared;
        return 0;
}
