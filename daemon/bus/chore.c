/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stddef.h>
#include <stdlib.h>

#include "daemon/bus/chore.h"
#include "daemon/bus/later.h"
#include "daemon/bus/walk.h"
#include "util/clock.h"

struct chore {
        struct taker taker;
        struct service *service;
        struct party *party;
        struct signal_pass *signals; /* to members of the last slice; or NULL */
        LIST_ENTRY(chore) chores;
};

static struct chore *chore_free(struct chore *c)
{
        engine_signals_let_go(c->service->engine, c->signals);
        tree_give_back(c->service->tree, c->party);
        taker_deinit(&c->taker);
        LIST_REMOVE(c, chores);
        free(c);
        return NULL;
}

bool chores_signal(const struct service *s, const struct party *p)
{
        const struct chore *c;

        LIST_FOREACH (c, &s->chores, chores)
                if (c->party == p && c->signals)
                        return true;
        return false;
}

/* A slice, and what it means for the world. True: there is more. */
static bool advance(struct service *s, struct party *p)
{
        bool more = tree_advance_party(s->tree, now_boottime_usec(), p);

        service_drain(s, NULL);
        return more;
}

/* What has ended has its signals before more is ended. */
static bool go_on(struct chore *c)
{
        struct engine *e = c->service->engine;
        struct signal_pass **pass = c->signals ? &c->signals : later_signals(c->service, c->party);
        uint32_t n;
        bool more;

        if (!pass) {
                more = advance(c->service, c->party);
                c->signals = engine_take_signals(e);
                return more || c->signals;
        }
        if (engine_signals_go(e, *pass, WALK_LOOKS, &n) != 0) {
                engine_signals_let_go(e, *pass);
                *pass = NULL;
        }
        return true;
}

static void chore_run(struct taker *taker)
{
        struct chore *c = (struct chore *) ((char *) taker - offsetof(struct chore, taker));
        uint64_t until = now_monotonic_usec() + TURN_USEC;
        struct service *s = c->service;
        bool more;

        do
                more = go_on(c);
        while (more && now_monotonic_usec() < until);
        if (more) {
                taker_wait(taker);
                return;
        }
        chore_free(c);
        turn_again(&s->turn); /* that sets the timer for what comes next of it */
}

/* False: there is no memory for turns, and a slice was done now. */
static bool chore_new(struct service *s, struct party *p)
{
        struct chore *c = calloc(1, sizeof *c);

        if (c && taker_init_party(&c->taker, &s->turns, p->key, chore_run) >= 0) {
                c->service = s;
                c->party = p;
                LIST_INSERT_HEAD(&s->chores, c, chores);
                taker_wait(&c->taker);
                return true;
        }
        free(c);
        (void) advance(s, p);
        tree_give_back(s->tree, p);
        return false;
}

static void nobodys_run(struct taker *taker)
{
        service_turn((struct service *) ((char *) taker - offsetof(struct service, nobodys)));
}

int chores_init(struct service *s)
{
        LIST_INIT(&s->chores);
        return taker_init_party(&s->nobodys, &s->turns, TURNS_OF_DAEMON, nobodys_run);
}

void chores_end(struct service *s)
{
        while (!LIST_EMPTY(&s->chores))
                chore_free(LIST_FIRST(&s->chores));
}

void chores_deinit(struct service *s)
{
        chores_end(s);
        taker_deinit(&s->nobodys);
}

void chores_begin(struct service *s)
{
        uint64_t now_usec = now_boottime_usec();
        struct party *p;

        while ((p = tree_take_behind(s->tree, now_usec)) && chore_new(s, p))
                ;
        if (p)
                turn_again(&s->turn);
        taker_wait(&s->nobodys);
}
