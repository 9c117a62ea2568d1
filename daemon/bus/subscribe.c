/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/bus/error.h"
#include "daemon/bus/request.h"
#include "proto/path.h"

/* Who wants to be told of what. Peers with the same user and groups may read the same contexts, so they are
 * one audience, of which that is asked once. */

static bool is_same(const struct caller *a, const struct caller *b)
{
        return a->uid == b->uid && a->gid == b->gid && a->n_gids == b->n_gids &&
               (a->n_gids == 0 || memcmp(a->gids, b->gids, a->n_gids * sizeof *a->gids) == 0);
}

static struct audience *audience_of(struct service *s, const struct caller *caller)
{
        struct audience *a;

        LIST_FOREACH (a, &s->audiences, audiences)
                if (is_same(&a->caller, caller))
                        return a;
        a = calloc(1, sizeof *a + caller->n_gids * sizeof *a->gids);
        if (!a)
                return NULL;
        a->caller = (struct caller){.uid = caller->uid, .gid = caller->gid, .n_gids = caller->n_gids};
        if (caller->gids) {
                memcpy(a->gids, caller->gids, caller->n_gids * sizeof *a->gids);
                a->caller.gids = a->gids;
        }
        LIST_INIT(&a->subscriptions);
        LIST_INSERT_HEAD(&s->audiences, a, audiences);
        s->n_audiences++;
        return a;
}

static void audience_drop_empty(struct service *s, struct audience *a)
{
        if (!LIST_EMPTY(&a->subscriptions))
                return;
        if (s->telling.audience == a)
                s->telling.audience = LIST_NEXT(a, audiences);
        LIST_REMOVE(a, audiences);
        s->n_audiences--;
        free(a);
}

static struct subscription *find_subscription(const struct peer *p, const char *prefix)
{
        struct subscription *s;

        LIST_FOREACH (s, &p->subscriptions, of_peer)
                if (strcmp(s->prefix, prefix) == 0)
                        return s;
        return NULL;
}

/* Reads a prefix as a path without an id. No context of that name has to exist. */
static int read_prefix(struct request *q, struct reference *ret)
{
        struct refused refused = {.reason = REFUSED_NAME};
        const char *text;
        int r;

        r = sd_bus_message_read(q->message, "s", &text);
        if (r < 0)
                return error_malformed(q->error, r);
        if (text[0] == '\0')
                text = "/";
        r = reference_parse(text, q->caller.uid, false, ret, &refused.detail);
        if (r < 0)
                return request_refused(q, &refused, r);
        if (ret->id != 0)
                return error_invalid_args(q->error, "A prefix is a path without an id");
        return 0;
}

void subscription_free(struct subscription *s)
{
        struct service *service = s->peer->endpoint->service;
        struct telling *t = &service->telling;

        if (t->told == s->peer && s->peer->n_subscriptions == 1)
                t->told = NULL;
        if (t->next == s && !(t->next = LIST_NEXT(s, of_audience)))
                t->audience = LIST_NEXT(s->audience, audiences);
        LIST_REMOVE(s, of_audience);
        LIST_REMOVE(s, of_peer);
        s->peer->n_subscriptions--;
        charge_deinit(&s->charge);
        audience_drop_empty(service, s->audience);
        free(s);
}

static int subscription_new(struct request *q, const char *prefix)
{
        struct tree *t = q->service->tree;
        struct refused refused = {};
        struct peer *p = q->peer;
        struct subscription *s, *first = LIST_FIRST(&p->subscriptions);
        struct user *user;
        int r;

        s = calloc(1, sizeof *s + strlen(prefix) + 1);
        if (!s)
                return -ENOMEM;
        user = user_ref(&t->users, p->caller.uid);
        r = user ? tree_charge(t, &s->charge, user, RESOURCE_SUBSCRIPTIONS, 1, &refused) : -ENOMEM;
        user_unref(&t->users, user);
        if (r < 0) {
                free(s);
                return r == -EDQUOT ? error_refused(q->error, &refused, r) : r;
        }
        s->audience = first ? first->audience : audience_of(q->service, &p->caller);
        if (!s->audience) {
                charge_deinit(&s->charge);
                free(s);
                return -ENOMEM;
        }
        s->peer = p;
        strcpy(s->prefix, prefix);
        if (first)
                LIST_INSERT_AFTER(first, s, of_audience);
        else
                LIST_INSERT_HEAD(&s->audience->subscriptions, s, of_audience);
        LIST_INSERT_HEAD(&p->subscriptions, s, of_peer);
        p->n_subscriptions++;
        return 0;
}

int verb_subscribe(struct request *q)
{
        struct peer *p = q->peer;
        struct reference prefix;
        int r;

        r = read_prefix(q, &prefix);
        if (r < 0)
                return r;
        if (!find_subscription(p, prefix.path)) {
                if (p->n_subscriptions >= PEER_SUBSCRIPTIONS_MAX)
                        return sd_bus_error_setf(q->error, CTXD_ERROR_LIMITS_EXCEEDED,
                                        "The limit on subscriptions is reached: %u of %d in use by this "
                                        "connection",
                                        p->n_subscriptions, PEER_SUBSCRIPTIONS_MAX);
                r = subscription_new(q, prefix.path);
                if (r < 0)
                        return r;
        }
        return sd_bus_reply_method_return(q->message, NULL);
}

int verb_unsubscribe(struct request *q)
{
        struct reference prefix;
        struct subscription *s;
        int r;

        r = read_prefix(q, &prefix);
        if (r < 0)
                return r;
        s = find_subscription(q->peer, prefix.path);
        if (!s)
                return error_invalid_args(q->error, "This connection has no subscription to %s", prefix.path);
        subscription_free(s);
        return sd_bus_reply_method_return(q->message, NULL);
}
