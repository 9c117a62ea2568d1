/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stddef.h>
#include <stdlib.h>

#include "daemon/bus/chore.h"
#include "util/clock.h"

struct chore {
        struct taker taker;
        struct service *service;
        struct party *party;
        LIST_ENTRY(chore) chores;
};

static struct chore *chore_free(struct chore *c)
{
        tree_give_back(c->service->tree, c->party);
        taker_deinit(&c->taker);
        LIST_REMOVE(c, chores);
        free(c);
        return NULL;
}

/* A slice, and what it means for the world. True: there is more. */
static bool go_on(struct service *s, struct party *p)
{
        bool more = tree_advance_party(s->tree, now_boottime_usec(), p);

        service_drain(s, NULL);
        return more;
}

static void chore_run(struct taker *taker)
{
        struct chore *c = (struct chore *) ((char *) taker - offsetof(struct chore, taker));
        uint64_t until = now_monotonic_usec() + TURN_USEC;
        struct service *s = c->service;
        bool more;

        do
                more = go_on(s, c->party);
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
        (void) go_on(s, p);
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
