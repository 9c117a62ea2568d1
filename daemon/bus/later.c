/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include "daemon/bus/later.h"
#include "util/log.h"

#define PEER_LATERS_MAX 64

struct later {
        struct peer *peer;
        sd_bus_message *message;
        uint64_t ending; /* it waits for this ending and all older ones */
        uint64_t own;    /* the ending that the request has begun, or 0 */
        bool is_cancel, first;
        bool is_held; /* the request itself is still at work */
        uint32_t contexts, members;
        LIST_ENTRY(later) all; /* of the service */
        LIST_ENTRY(later) of_peer;
};

struct later *later_free(struct later *l)
{
        if (!l)
                return NULL;
        LIST_REMOVE(l, all);
        LIST_REMOVE(l, of_peer);
        l->peer->n_laters--;
        sd_bus_message_unref(l->message);
        free(l);
        return NULL;
}

int later_room(struct request *q)
{
        if (q->peer->n_laters < PEER_LATERS_MAX)
                return 0;
        return sd_bus_error_setf(q->error, CTXD_ERROR_LIMITS_EXCEEDED,
                        "%u calls of this connection wait for the end of a large tree already",
                        q->peer->n_laters);
}

static int later_new(struct request *q, uint64_t ending, struct later **ret)
{
        struct later *l = calloc(1, sizeof *l);

        if (!l)
                return -ENOMEM;
        l->peer = q->peer;
        l->message = sd_bus_message_ref(q->message);
        l->ending = ending;
        l->is_held = true;
        LIST_INSERT_HEAD(&q->service->laters, l, all);
        LIST_INSERT_HEAD(&q->peer->laters, l, of_peer);
        q->peer->n_laters++;
        *ret = l;
        return 0;
}

static int reply(struct later *l)
{
        if (!l->is_cancel)
                return sd_bus_reply_method_return(l->message, NULL);
        return sd_bus_reply_method_return(l->message, "buu", (int) l->first, l->contexts, l->members);
}

/* The request's own work is over: replies now if its endings are over, too. */
static int later_or_now(struct request *q, struct later *l)
{
        int r = 1;

        l->is_held = false;
        if (tree_is_ended(q->service->tree, l->ending)) {
                r = reply(l);
                later_free(l);
        }
        return r;
}

int later_reply_cancel(struct request *q, bool first, uint32_t contexts)
{
        struct service *s = q->service;
        uint64_t ending = tree_ending(s->tree, q->context), own;
        struct later *l = NULL;
        uint32_t members;
        int r = 0;

        /* The context exists until the end of the drain, whatever RetainSec= says. */
        own = first && ending > 0 ? tree_own_ending(s->tree, q->context) : 0;
        if (ending > 0)
                r = later_new(q, ending, &l);
        if (l) {
                l->is_cancel = true;
                l->first = first;
                l->own = own;
                l->contexts = contexts;
        }
        members = service_drain(s, q->context);
        if (r < 0)
                return r;
        if (!l)
                return sd_bus_reply_method_return(q->message, "buu", (int) first, contexts, members);
        if (own == 0)
                l->members = members;
        return later_or_now(q, l);
}

int later_reply_release(struct request *q)
{
        struct service *s = q->service;
        uint64_t ending = tree_ending(s->tree, q->context);
        struct later *l;
        int r;

        if (ending == 0) {
                request_commit(q);
                return sd_bus_reply_method_return(q->message, NULL);
        }
        r = later_new(q, ending, &l);
        request_commit(q);
        return r < 0 ? r : later_or_now(q, l);
}

void later_ended(struct service *s, const struct ending *ending)
{
        struct later *l, *next;
        int r;

        for (l = LIST_FIRST(&s->laters); l; l = next) {
                struct endpoint *e = l->peer->endpoint;

                next = LIST_NEXT(l, all);
                if (l->own == ending->number) {
                        l->contexts = ending->contexts;
                        l->members = ending->members;
                }
                if (l->is_held || !tree_is_ended(s->tree, l->ending))
                        continue;
                r = reply(l);
                if (r < 0)
                        log_debug("A reply to %s was lost: %s", l->peer->name, strerror(-r));
                later_free(l);
                e->sent(e);
        }
}
