/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "daemon/bus/chore.h"
#include "daemon/bus/later.h"
#include "daemon/bus/walk.h"

/* Thousands of calls may wait for one end. They lie in a heap, so that those whose time has come are found
 * without a look at the others, and are answered some at a time. Each party has a heap of its own: its ends
 * get its turns, and nobody else waits for these. */

#define PEER_LATERS_MAX 64
/* A key of the heap is the ending, and then the order in which the calls came. */
#define ORDER_BITS 20

struct later {
        struct peer *peer;
        struct later_queue *queue;
        sd_bus_message *message;
        uint64_t ending;               /* it waits for this ending and all older ones; 0: for none */
        uint64_t own;                  /* the ending that the request has begun, or 0 */
        const struct party *party;     /* whose endings these are; NULL: several parties' */
        const struct party *signaller; /* whose turns signal the members of what it waits for */
        struct signal_pass *signals;   /* to members of what the request itself has ended; or NULL */
        const struct walk *walk;       /* which gives these signals, where nothing else of its own goes on */
        bool is_cancel, first;
        uint32_t contexts, members;
        uint32_t heap_index;        /* 0: the request itself is still at work */
        LIST_ENTRY(later) starters; /* while own goes on */
        LIST_ENTRY(later) of_peer;
};

static void queue_unref(struct service *s, struct later_queue *queue)
{
        if (--queue->n_ref > 0)
                return;
        TAILQ_REMOVE(&s->laters.queues, queue, queues);
        if (queue->party)
                user_release_party(&s->tree->users, queue->party);
        heap_deinit(&queue->waiting);
        free(queue);
}

static struct later_queue *queue_ref(struct service *s, struct party *party)
{
        struct later_queue *queue;

        TAILQ_FOREACH (queue, &s->laters.queues, queues)
                if (queue->party == party)
                        break;
        if (!queue) {
                queue = calloc(1, sizeof *queue);
                if (!queue)
                        return NULL;
                heap_init(&queue->waiting, offsetof(struct later, heap_index));
                queue->party = party ? user_hold_party(party) : NULL;
                TAILQ_INSERT_TAIL(&s->laters.queues, queue, queues);
        }
        queue->n_ref++;
        return queue;
}

struct later *later_free(struct later *l)
{
        struct service *s;

        if (!l)
                return NULL;
        s = l->peer->endpoint->service;
        engine_signals_let_go(s->engine, l->signals);
        heap_remove(&l->queue->waiting, l);
        queue_unref(s, l->queue);
        if (l->own > 0)
                LIST_REMOVE(l, starters);
        LIST_REMOVE(l, of_peer);
        l->peer->n_laters--;
        sd_bus_message_unref(l->message);
        free(l);
        return NULL;
}

int later_new(struct request *q, struct later **ret)
{
        struct later_queue *of_all = q->service->laters.of_all, *queue;
        struct later *l;

        if (q->peer->n_laters >= PEER_LATERS_MAX)
                return sd_bus_error_setf(q->error, CTXD_ERROR_LIMITS_EXCEEDED,
                                "%u calls of this connection wait for the end of a large tree already",
                                q->peer->n_laters);
        queue = queue_ref(q->service, q->context->user ? q->context->user->party : NULL);
        if (!queue)
                return -ENOMEM;
        l = heap_reserve(&queue->waiting, queue->waiting.n + 1) >= 0 &&
                                            heap_reserve(&of_all->waiting, of_all->waiting.n + 1) >= 0
                            ? calloc(1, sizeof *l)
                            : NULL;
        if (!l) {
                queue_unref(q->service, queue);
                return -ENOMEM;
        }
        l->peer = q->peer;
        l->queue = queue;
        l->message = sd_bus_message_ref(q->message);
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

/* After a drain the context may have gone, so this comes before it. */
static void wait_for_endings(struct service *s, struct later *l, const struct context *c)
{
        l->ending = tree_ending(s->tree, c);
        l->party = l->signaller = tree_ending_party(s->tree, c);
        if (l->ending == 0 || l->queue->party == l->party)
                return;
        queue_unref(s, l->queue);
        l->queue = s->laters.of_all;
        l->queue->n_ref++;
}

/* The request's own work is over: replies now if its endings are over, too. */
static int later_or_now(struct service *s, struct later *l)
{
        int r;

        if (l->ending > 0 && !tree_is_ended(s->tree, l->queue->party, l->ending)) {
                heap_put(&l->queue->waiting, l,
                                (l->ending << ORDER_BITS) + (s->laters.last++ & ((1U << ORDER_BITS) - 1)));
                return 1;
        }
        r = reply(l);
        later_free(l);
        return r;
}

static struct later *later_of_walk(const struct walk *w, struct peer *peer)
{
        struct later *l;

        LIST_FOREACH (l, &peer->laters, of_peer)
                if (l->walk == w)
                        return l;
        return NULL;
}

static int signal_members(struct walk *w, uint32_t budget)
{
        struct request *q = &w->request;
        struct later *l;
        uint32_t n;
        int r;

        if (engine_signals_go(q->service->engine, w->signals, WALK_LOOKS, &n) == 0)
                return 0;
        if (!q->peer)
                return 1;
        l = later_of_walk(w, q->peer);
        if (l) {
                l->walk = NULL;
                l->members += n;
                r = later_or_now(q->service, l);
        } else {
                r = sd_bus_reply_method_return(q->message, "buu", 1, w->contexts, w->members + n);
        }
        return r < 0 ? r : 1;
}

/* The cancel has done all but to signal the other members of what it has ended, which are counted then. That
 * must not stop half way. Where l is not NULL it also waits for endings of others. */
static int reply_when_signalled(struct request *q, struct later *l, struct signal_pass *signals,
                uint32_t contexts, uint32_t members)
{
        struct walk *w = walk_new(q, q->service->tree->background, NULL, signal_members);
        int r;

        if (!w) {
                engine_signals_let_go(q->service->engine, signals);
                if (l)
                        return later_or_now(q->service, l);
                return sd_bus_reply_method_return(q->message, "buu", 1, contexts, members);
        }
        w->signals = signals;
        w->contexts = contexts;
        w->members = members;
        w->stays = true;
        if (l)
                l->walk = w;
        r = walk_begin(w);
        if (r < 0 && l)
                later_free(later_of_walk(w, q->peer)); /* it was not answered */
        return r;
}

int later_reply_cancel(struct request *q, struct later *l, bool first, uint32_t contexts)
{
        struct service *s = q->service;
        struct signal_pass *signals;
        uint32_t members;

        /* The context exists until the end of the drain, whatever RetainSec= says. */
        wait_for_endings(s, l, q->context);
        l->own = first && l->ending > 0 ? tree_own_ending(s->tree, q->context) : 0;
        l->is_cancel = true;
        l->first = first;
        l->contexts = contexts;
        if (l->own > 0) {
                l->signaller = tree_own_ending_party(s->tree, q->context);
                LIST_INSERT_HEAD(&s->laters.starters, l, starters);
        }
        members = service_drain(s, q->context);
        signals = engine_take_signals(s->engine);
        if (l->own == 0)
                l->members = members;
        if (signals && first && l->own == 0) {
                if (l->ending == 0)
                        l = later_free(l);
                return reply_when_signalled(q, l, signals, contexts, members);
        }
        if (l->own > 0)
                l->signals = signals; /* the party's turns go on with it */
        else
                engine_signals_let_go(s->engine, signals);
        return later_or_now(s, l);
}

int later_reply_release(struct request *q, struct later *l)
{
        wait_for_endings(q->service, l, q->context);
        request_commit(q);
        return later_or_now(q->service, l);
}

int laters_init(struct service *s)
{
        TAILQ_INIT(&s->laters.queues);
        LIST_INIT(&s->laters.starters);
        s->laters.of_all = queue_ref(s, NULL);
        return s->laters.of_all ? 0 : -ENOMEM;
}

void laters_deinit(struct service *s)
{
        if (s->laters.of_all)
                queue_unref(s, s->laters.of_all);
        s->laters.of_all = NULL;
}

struct signal_pass **later_signals(struct service *s, const struct party *p)
{
        struct later *l;

        LIST_FOREACH (l, &s->laters.starters, starters)
                if (l->signaller == p && l->signals)
                        return &l->signals;
        return NULL;
}

void later_ended(struct service *s, const struct ending *ending)
{
        struct later *l;

        LIST_FOREACH (l, &s->laters.starters, starters) {
                if (l->own != ending->number)
                        continue;
                l->contexts = ending->contexts;
                l->members = ending->members;
                l->own = 0;
                LIST_REMOVE(l, starters);
                return;
        }
}

static struct later *first_due(const struct service *s)
{
        const struct later_queue *queue;

        TAILQ_FOREACH (queue, &s->laters.queues, queues) {
                struct later *l = heap_first(&queue->waiting);

                if (l && tree_is_ended(s->tree, queue->party, l->ending) && !chores_signal(s, l->signaller))
                        return l;
        }
        return NULL;
}

bool laters_are_due(const struct service *s)
{
        return first_due(s);
}

void laters_reply(struct service *s, int n)
{
        struct later *l;

        while (n-- > 0 && (l = first_due(s))) {
                struct endpoint *e = l->peer->endpoint;
                bool lent = reserve_lend(&s->reserve, l->peer->caller.uid);
                int r = reply(l);

                /* The next reply is another party's, if one is due. */
                TAILQ_REMOVE(&s->laters.queues, l->queue, queues);
                TAILQ_INSERT_TAIL(&s->laters.queues, l->queue, queues);
                if (r < 0)
                        endpoint_reply_lost(e, l->peer, r);
                later_free(l);
                e->sent(e);
                if (lent)
                        reserve_refill(&s->reserve);
        }
        if (first_due(s))
                turn_again(&s->turn);
}
