/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/bus/error.h"
#include "daemon/bus/park.h"
#include "daemon/bus/walk.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* So many contexts are gone through before we look at the clock. A row of a list may take 10 us. */
#define SLICE 4
/* So many leaks are as much, where they are only counted. */
#define LEAKS 64

#define LEAKS_FOUND "LeaksFound"

struct walk *walk_new(const struct request *q, const struct context *root, const struct context *next,
                int (*step)(struct walk *w, uint32_t budget))
{
        struct walk *w = calloc(1, sizeof *w);

        if (!w)
                return NULL;
        w->request = *q;
        w->request.message = sd_bus_message_ref(q->message);
        w->step = step;
        w->taker.is_walk = true;
        tree_set_cursor(q->service->tree, &w->cursor, root, next);
        LIST_INSERT_HEAD(&q->peer->walks, w, of_peer);
        return w;
}

struct walk *walk_free(struct walk *w)
{
        if (!w)
                return NULL;
        if (w->stays && w->taker.share)
                LIST_REMOVE(w, staying);
        taker_deinit(&w->taker);
        tree_unset_cursor(&w->cursor);
        LIST_REMOVE(w, of_peer);
        if (w->is_parked)
                TAILQ_REMOVE(&w->request.service->parking.walks, w, parked);
        engine_end_leaks(&w->leaks);
        free(w->shown);
        members_look_free(w->look);
        engine_signals_let_go(w->request.service->engine, w->signals);
        sd_bus_error_free(&w->error);
        sd_bus_message_unref(w->reply);
        sd_bus_message_unref(w->request.message);
        free(w);
        return NULL;
}

void walk_leave(struct walk *w)
{
        struct service *s = w->request.service;

        if (!w->stays || !w->taker.share) {
                walk_free(w);
                return;
        }
        LIST_REMOVE(w, of_peer);
        LIST_INSERT_HEAD(&s->left_walks, w, of_peer);
        w->request.peer = NULL;
        w->request.endpoint = NULL;
        w->request.message = sd_bus_message_unref(w->request.message);
}

/* Until it is over, or the turn is, or it has to wait. */
static int go_on(struct walk *w)
{
        uint64_t until = now_monotonic_usec() + TURN_USEC;
        int r;

        do {
                w->request.context = (struct context *) w->cursor.root;
                if (!w->cursor.root && !w->may_go)
                        return sd_bus_error_set(w->request.error, CTXD_ERROR_NO_SUCH_CONTEXT,
                                        "The context has gone while the call went through it");
                r = w->is_made ? walk_send(w) : w->step(w, SLICE);
        } while (r == 0 && now_monotonic_usec() < until && !park_has_to_wait(w));
        return r;
}

void walks_deinit(struct service *s)
{
        park_deinit(&s->parking);
        while (!LIST_EMPTY(&s->left_walks))
                walk_free(LIST_FIRST(&s->left_walks));
}

static void take_turn(struct walk *w)
{
        struct endpoint *e = w->request.endpoint;
        int r;

        if (park(w))
                return;
        r = go_on(w);
        if (r == 0) {
                taker_wait(&w->taker);
                return;
        }
        if (!e) {
                walk_free(w);
                return;
        }
        if (r < 0) {
                w->is_over = false;
                r = sd_bus_reply_method_errno(w->request.message, r, &w->error);
        }
        if (r < 0)
                endpoint_reply_lost(e, w->request.peer, r);
        if (w->is_over)
                taker_deinit(&w->taker); /* others of its uid may begin */
        else
                walk_free(w);
        e->sent(e);
}

/* Where memory is short root has what is kept for it, as in the turn of its connection. */
static void walk_turn(struct taker *taker)
{
        struct walk *w = (struct walk *) ((char *) taker - offsetof(struct walk, taker));
        struct reserve *reserve = &w->request.service->reserve;
        bool lent = reserve_lend(reserve, w->request.caller.uid);

        take_turn(w);
        if (lent)
                reserve_refill(reserve);
}

int walk_begin(struct walk *w)
{
        struct request *q = &w->request;
        int r = go_on(w);

        if (r != 0) {
                if (!w->is_over)
                        walk_free(w);
                return r;
        }
        q->error = &w->error;
        /* It takes part in the turns of its caller's line, so this needs no memory: nothing of an Extend
         * could be taken back here. */
        if (taker_init(&w->taker, &q->service->turns, q->caller.uid, walk_turn) < 0) {
                walk_free(w);
                return -ENOMEM;
        }
        if (w->stays)
                LIST_INSERT_HEAD(&q->service->staying_walks, w, staying);
        taker_wait(&w->taker);
        return 1;
}

void walks_finish(struct service *s)
{
        struct walk *w;

        while ((w = LIST_FIRST(&s->staying_walks)))
                walk_turn(&w->taker);
}

int walk_members(const struct request *q, bool recursive, bool with_uids, uint32_t limit,
                int (*step)(struct walk *w, uint32_t budget))
{
        struct walk *w = walk_new(q, q->context, NULL, step);
        int r;

        if (!w)
                return -ENOMEM;
        w->limit = limit;
        w->flag = recursive;
        r = engine_look(q->service->engine, q->context, recursive, with_uids, &w->look);
        if (r >= 0)
                return walk_begin(w);
        walk_free(w);
        return r;
}

int walk_look(struct walk *w)
{
        return members_look_go(w->look, WALK_LOOKS);
}

int walk_send(struct walk *w)
{
        struct endpoint *e = w->request.endpoint;

        w->is_made = true;
        if (park_has_to_wait(w))
                return 0;
        park_replies(e, w->bytes);
        if (e->replies)
                e->replies(e, w->bytes);
        return sd_bus_send(NULL, w->reply, NULL);
}

int walk_send_list(struct walk *w, int r)
{
        if (r >= 0)
                r = sd_bus_message_close_container(w->reply);
        if (r >= 0)
                r = sd_bus_message_append(w->reply, "b", w->is_truncated);
        return r < 0 ? r : walk_send(w);
}

/* The context of which some members were counted may have gone since. */
static int count_members(struct walk *w, const struct context *c)
{
        if (w->look && w->look_id != c->id)
                w->look = members_look_free(w->look);
        w->look_id = c->id;
        return engine_count_some(w->request.service->engine, c, WALK_LOOKS, &w->look, &w->members);
}

/* A caller that may read everything gets the number of all leaks that were ever found. Others get the number
 * of those that are still kept. Returns whether all are counted. */
static bool count_leaks(struct walk *w, uint32_t budget)
{
        const struct service *s = w->request.service;
        struct context *c;

        if (request_allows(&w->request, s->tree->background, VERB_COUNT_ALL)) {
                w->n_leaks = engine_leaks_found(s->engine);
                return true;
        }
        if (!w->leaks.leaks)
                engine_begin_leaks(s->engine, &w->leaks);
        while (engine_next_leak(&w->leaks, NULL, &budget, &c))
                w->n_leaks += request_allows(&w->request, c, VERB_LOOK);
        return budget > 0;
}

static int count(struct walk *w, uint32_t budget)
{
        const struct service *s = w->request.service;
        const struct context *root = s->tree->background, *c = w->cursor.next;
        int r;

        for (; c && budget > 0; budget--) {
                if (!context_is_listed(c) || !request_allows(&w->request, c, VERB_LOOK)) {
                        c = context_next_skip(c, root);
                        continue;
                }
                r = c->busy ? count_members(w, c) : 1;
                if (r <= 0) {
                        w->cursor.next = c;
                        return r;
                }
                w->contexts++;
                c = context_next(c, root);
        }
        w->cursor.next = c;
        if (c || !count_leaks(w, LEAKS))
                return 0;
        w->is_over = true;
        /* Else its message is being handled for the first time. */
        return w->taker.share ? w->request.endpoint->again(w->request.endpoint, w->request.message) : 1;
}

/* The property of which the count is wanted. "": all; NULL: none. */
static const char *asks_for_count(sd_bus_message *m)
{
        const char *member = sd_bus_message_get_member(m), *interface, *property;

        if (sd_bus_message_is_method_call(m, "org.freedesktop.DBus.Properties", NULL) <= 0 ||
                        sd_bus_message_read(m, "s", &interface) <= 0)
                return NULL;
        if (strcmp(member, "GetAll") == 0)
                return interface[0] == '\0' || strcmp(interface, CTXD_MANAGER_INTERFACE) == 0 ? "" : NULL;
        if (strcmp(member, "Get") != 0 || sd_bus_message_read(m, "s", &property) <= 0)
                return NULL;
        return strcmp(property, "Contexts") == 0 || strcmp(property, "Members") == 0 ||
                                               strcmp(property, LEAKS_FOUND) == 0
                               ? property
                               : NULL;
}

static struct walk *find_counted(const struct peer *p, const sd_bus_message *m)
{
        struct walk *w;

        LIST_FOREACH (w, &p->walks, of_peer)
                if (w->request.message == m && w->is_over)
                        return w;
        return NULL;
}

bool walk_has_counted(const struct peer *p, const sd_bus_message *m)
{
        return find_counted(p, m);
}

int walk_count(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *asked = asks_for_count(m);
        const struct context *root;
        struct request q;
        struct walk *w;
        int r;

        if (!asked)
                return 0;
        r = request_init(&q, m, error);
        if (r < 0)
                return r;
        w = find_counted(q.peer, m);
        if (!w) {
                root = q.service->tree->background;
                w = walk_new(&q, root, strcmp(asked, LEAKS_FOUND) == 0 ? NULL : context_next(root, root),
                                count);
                if (!w)
                        return -ENOMEM;
                r = walk_begin(w);
                w = find_counted(q.peer, m);
        }
        if (!w)
                return r;
        q.endpoint->contexts = w->contexts;
        q.endpoint->members = w->members;
        q.endpoint->leaks = w->n_leaks;
        walk_free(w);
        return 0; /* the getters reply */
}
