/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "lib/remote/context.h"
#include "lib/remote/mapped-page.h"

/* What the daemon has to be told, and could not be told when it was due, or has not answered: handles that
 * were given up, and cancels (law 41). It is told when there is a connection again.
 *
 * What was sent and not answered is in the daemon's socket, and so is told even if this process ends. It is
 * sent again if the connection ends before the answer. Another daemon than the one that had the context is
 * told only of a context whose page it keeps: it may have another context with the same path and id. */

struct owed {
        TAILQ_ENTRY(owed) of_client;
        struct client_request request; /* of a cancel */
        struct ctx_client *client;
        const struct mapped_page *page; /* lives as long as the client */
        uint64_t epoch;
        const char *member; /* of a cancel; NULL: a handle is given up */
        int error;
        const char *message; /* NULL: none */
        char reference[];    /* and then the message */
};

static struct owed *owed_new(
                struct ctx_client *client, uint64_t epoch, const char *reference, const char *message)
{
        size_t n = strlen(reference) + 1, n_message = message ? strlen(message) + 1 : 0;
        struct owed *owed = malloc(sizeof *owed + n + n_message);

        if (!owed)
                return NULL;
        *owed = (struct owed){.client = client, .epoch = epoch};
        memcpy(owed->reference, reference, n);
        if (message)
                owed->message = memcpy(owed->reference + n, message, n_message);
        TAILQ_INSERT_TAIL(&client->owed, owed, of_client);
        return owed;
}

static void owed_free(struct owed *owed)
{
        struct ctx_client *client = owed->client;

        client_forget(client, &owed->request);
        TAILQ_REMOVE(&client->owed, owed, of_client);
        if (owed->member && --client->n_owed_cancels == 0)
                client->n_surplus++;
        free(owed);
}

/* Whatever the daemon answers, it was told. */
static void on_end(struct client_request *request, int r, sd_bus_message *answer)
{
        if (r >= 0)
                owed_free((struct owed *) ((char *) request - offsetof(struct owed, request)));
}

void client_owe_cancel(struct ctx_client *client, const struct cancel *c, struct client_request *sent)
{
        struct owed *owed = owed_new(client, atomic_load(&c->remote->epoch), c->remote->reference,
                        c->message && *c->message ? c->message : NULL);

        if (!owed) /* if it was sent, it is told all the same */
                return;
        owed->member = c->member;
        owed->error = c->error;
        owed->page = c->remote->page;
        if (client->n_owed_cancels++ == 0)
                client_ref(client);
        owed->request.on_end = on_end;
        if (sent && sent->is_open) {
                owed->request.cookie = sent->cookie;
                owed->request.is_open = true;
                TAILQ_INSERT_BEFORE(sent, &owed->request, of_client);
                client_forget(client, sent);
        }
}

static bool is_for(const struct ctx_client *client, const struct owed *owed)
{
        uint64_t epoch = atomic_load_explicit(&client->epoch, memory_order_relaxed);

        return owed->epoch == epoch || (owed->member && owed->page && mapped_page_is_kept(owed->page) &&
                                                       mapped_page_epoch(owed->page) == epoch);
}

int client_cancel_message(struct ctx_client *client, const struct cancel *c, const char *reference,
                sd_bus_message **ret)
{
        int r = client_message(client, ret, c->member);

        if (r >= 0)
                r = sd_bus_message_append(*ret, "s", reference);
        if (r >= 0 && c->error != 0)
                r = sd_bus_message_append(*ret, "i", c->error);
        if (r >= 0 && strcmp(c->member, "Release") != 0)
                r = sd_bus_message_append(*ret, "s", c->message ? c->message : "");
        return r;
}

static int tell_cancel(struct ctx_client *client, struct owed *owed)
{
        struct cancel c = {.member = owed->member, .error = owed->error, .message = owed->message};
        sd_bus_message *m = NULL;
        int r = client_cancel_message(client, &c, owed->reference, &m);

        if (r >= 0)
                r = client_request(client, &owed->request, m);
        sd_bus_message_unref(m);
        return r;
}

static int tell_undone(struct ctx_client *client, const char *reference)
{
        sd_bus_message *m = NULL;
        int r = client_message(client, &m, "Undone");

        if (r >= 0)
                r = sd_bus_message_append(m, "s", reference);
        client->has_given_back = true;
        if (r >= 0)
                r = client_tell(client, m);
        sd_bus_message_unref(m);
        return r;
}

void client_give_back(struct ctx_client *client, uint64_t epoch, const char *reference)
{
        if (client->bus && epoch != atomic_load_explicit(&client->epoch, memory_order_relaxed))
                return;
        /* If there is no memory either, the daemon keeps the handle until this process ends. */
        if (tell_undone(client, reference) < 0)
                (void) owed_new(client, epoch, reference, NULL);
}

void client_pay(struct ctx_client *client)
{
        struct owed *owed, *next;

        client_take_later(client);
        for (owed = TAILQ_FIRST(&client->owed); owed; owed = next) {
                next = TAILQ_NEXT(owed, of_client);
                if (owed->request.is_open)
                        continue;
                if (!is_for(client, owed))
                        owed_free(owed);
                else if (owed->member && tell_cancel(client, owed) < 0)
                        return; /* the connection has ended */
                else if (!owed->member && tell_undone(client, owed->reference) < 0)
                        return;
                else if (!owed->member)
                        owed_free(owed);
        }
}

void client_write_off(struct ctx_client *client, bool all)
{
        struct owed *owed, *next;

        for (owed = TAILQ_FIRST(&client->owed); owed; owed = next) {
                next = TAILQ_NEXT(owed, of_client);
                if (client_is_inherited(client)) /* what the list has may be gone */
                        owed->request.is_open = false;
                if (all || !owed->request.is_open)
                        owed_free(owed);
        }
}
