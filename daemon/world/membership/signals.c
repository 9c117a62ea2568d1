/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/world/membership/signals.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/realtime.h"

/* Signals the members of done contexts. This is done in passes over their members, because a process that
 * forks during a pass leaves children to the next one. When a pass finds nobody new, the work is over, until
 * the kernel tells of a newcomer, or somebody has to be killed.
 *
 * A cancel makes a whole pass over what it has ended before it is answered. To signal a member takes some
 * 20 us. So that pass goes on in pieces after the first few: in turns of whoever has called, or, if nobody
 * waits for it, between other events. All other passes are made in pieces, too, so that nobody else has to
 * wait while a crowd is killed.
 *
 * A crowd that forks is a race. If the crowd had the processor between two pieces, the ones that are left
 * would fork as many as were killed. So there are storms: for a while the daemon stays at the lowest
 * real-time priority, if that is allowed, and one piece follows the other. Then only those who are left can
 * fork, and there are fewer of them with every pass. A storm begins when somebody was ended and another one
 * was born, and when a piece comes late, because a crowd has the processor. Between two pieces others are
 * served, also in a storm. Whoever calls waits for one piece at most. That is STORM_PIECE_USEC, and as long
 * as the kernel takes to go over the tasks that are no members: by so much law 48 is missed.
 *
 * A crowd that is not killed, but ignores its signal, can rage for ever: storms get a small part of the
 * time. */

#define NOW_BUDGET 20  /* so many members are read or signalled before a request goes on in turns, */
#define PIECE_BUDGET 4 /* and in a piece */
#define STORM_PIECE_USEC 200
#define STORM_USEC 200000
#define STORM_SHARE 20 /* storms get one part in so many of the time */
#define LATE_USEC 3000 /* a piece that comes so late has waited for the processor */
#define PASSES_AT_ONCE 16
#define TRIES_MAX 16 /* of a first pass that fails, before who waits for it is answered all the same */
#define PASS_LATER_USEC 20000
#define UNREAD_USEC 200000 /* the next pass, where somebody cannot be read now (util/proc-reader.h) */

struct signals {
        struct signal_pass *now;          /* the contexts that have just ended */
        TAILQ_HEAD(, signal_pass) firsts; /* first passes that go on in pieces */
        uint64_t storm_usec;              /* when the storm has begun that goes on; 0: none does */
        uint64_t calm_usec;               /* no storm begins before */
        struct realtime before_storm;
        struct signal_pass later; /* those in which there may be somebody new, or to be killed */
        sd_event_source *source;
        int reserve[3];
};

/* A pass needs a few descriptors. They are kept in reserve, so that clients cannot take the last ones. */
static void reserve_give(struct signals *s)
{
        for (size_t i = 0; i < ELEMENTSOF(s->reserve); i++) {
                if (s->reserve[i] >= 0)
                        close(s->reserve[i]);
                s->reserve[i] = -1;
        }
}

static void reserve_take(struct signals *s)
{
        for (size_t i = 0; i < ELEMENTSOF(s->reserve); i++)
                if (s->reserve[i] < 0)
                        s->reserve[i] = eventfd(0, EFD_CLOEXEC);
}

static bool is_race(const struct signals *s)
{
        const struct signal_pass *p;

        TAILQ_FOREACH (p, &s->firsts, firsts)
                if (p->is_race)
                        return true;
        return s->later.is_race;
}

static bool later_is_busy(const struct signals *s)
{
        return s->later.state != PASS_IDLE || s->later.n_restless > 0;
}

static bool is_busy(const struct signals *s)
{
        return !TAILQ_EMPTY(&s->firsts) || later_is_busy(s);
}

static void storm_begin(struct signals *s, bool late, uint64_t now_usec)
{
        if (s->storm_usec > 0 || now_usec < s->calm_usec || !(is_race(s) || (late && is_busy(s))))
                return;
        s->before_storm = realtime_begin();
        s->storm_usec = now_usec;
}

static void storm_end(struct signals *s, uint64_t now_usec)
{
        if (s->storm_usec == 0)
                return;
        realtime_end(s->before_storm);
        s->calm_usec = s->storm_usec + STORM_SHARE * (now_usec - s->storm_usec);
        s->storm_usec = 0;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata);

int signals_new(struct membership *m)
{
        struct signals *s = calloc(1, sizeof *s);
        int r;

        if (!s)
                return -ENOMEM;
        s->now = calloc(1, sizeof *s->now);
        r = s->now ? sd_event_add_time(m->world->event, &s->source, CLOCK_MONOTONIC, 0, 1, on_time, m)
                   : -ENOMEM;
        if (r >= 0)
                r = sd_event_source_set_enabled(s->source, SD_EVENT_OFF);
        if (r < 0) {
                sd_event_source_disable_unref(s->source);
                free(s->now);
                free(s);
                return r;
        }
        (void) sd_event_source_set_description(s->source, "signals");
        s->now->membership = s->later.membership = m;
        LIST_INIT(&s->now->slots);
        LIST_INIT(&s->later.slots);
        TAILQ_INIT(&s->firsts);
        for (size_t i = 0; i < ELEMENTSOF(s->reserve); i++)
                s->reserve[i] = -1;
        reserve_take(s);
        m->signals = s;
        return 0;
}

static struct signal_pass *first_free(struct membership *m, struct signal_pass *p)
{
        pass_stop(p);
        TAILQ_REMOVE(&m->signals->firsts, p, firsts);
        free(p);
        return NULL;
}

void signals_free(struct membership *m)
{
        struct signals *s = m->signals;

        if (!s)
                return;
        storm_end(s, s->storm_usec);
        reserve_give(s);
        sd_event_source_disable_unref(s->source);
        while (!TAILQ_EMPTY(&s->firsts))
                first_free(m, TAILQ_FIRST(&s->firsts));
        pass_stop(s->now);
        pass_stop(&s->later);
        free(s->now);
        free(s);
        m->signals = NULL;
}

void signals_end(struct membership *m, struct member_slot *slot)
{
        if (slot->pass)
                LIST_REMOVE(slot, in_pass);
        slot->pass = NULL;
}

static void slot_move(struct membership *m, struct member_slot *slot, struct signal_pass *p)
{
        signals_end(m, slot);
        LIST_INSERT_HEAD(&p->slots, slot, in_pass);
        slot->pass = p;
}

static void schedule(struct membership *m, uint64_t delay_usec)
{
        struct signals *s = m->signals;
        uint64_t now_usec, due_usec;
        int enabled;

        if (sd_event_now(m->world->event, CLOCK_MONOTONIC, &now_usec) < 0)
                return;
        if (sd_event_source_get_enabled(s->source, &enabled) >= 0 && enabled != SD_EVENT_OFF &&
                        sd_event_source_get_time(s->source, &due_usec) >= 0 &&
                        due_usec <= now_usec + delay_usec)
                return; /* it comes sooner anyway */
        (void) sd_event_source_set_time(s->source, now_usec + delay_usec);
        (void) sd_event_source_set_enabled(s->source, SD_EVENT_ONESHOT);
}

/* What has just ended has its pass before us. */
static void stir(struct membership *m, struct member_slot *slot, uint64_t delay_usec)
{
        struct signals *s = m->signals;

        if (!slot->pass)
                slot_move(m, slot, &s->later);
        slot->pass->found = true; /* another pass comes after one that is under way */
        schedule(m, delay_usec);
}

void signals_soon(struct membership *m, struct member_slot *slot)
{
        stir(m, slot, 0);
}

void signals_later(struct membership *m, struct member_slot *slot)
{
        stir(m, slot, PASS_LATER_USEC);
}

void signals_born(struct membership *m, struct member_slot *slot)
{
        stir(m, slot, PASS_LATER_USEC);
        if (!slot->pass->ended && slot->pass->n_races == 0)
                return;
        slot->pass->is_race = true;
        schedule(m, 0);
}

void signals_begin(struct membership *m, struct member_slot *slot)
{
        slot_move(m, slot, m->signals->now);
}

/* Decides after a piece when the next one comes. */
static void go_on(struct membership *m, int r)
{
        struct signals *s = m->signals;
        struct signal_pass *p = &s->later;

        if (!TAILQ_EMPTY(&s->firsts))
                schedule(m, s->storm_usec > 0 ? 0 : LATE_USEC);
        if (r < 0)
                schedule(m, PASS_LATER_USEC);
        else if (p->state != PASS_IDLE)
                schedule(m, 0);
        else if (p->n_restless > 0)
                schedule(m, s->storm_usec > 0 || p->n_restless % PASSES_AT_ONCE > 0 ? 0 : PASS_LATER_USEC);
        else if (p->is_unread && !LIST_EMPTY(&p->slots))
                schedule(m, UNREAD_USEC);
}

/* What has to be looked at again after its first pass, or to be killed by now, is left to the other passes.
 * */
static void leave_to_later(struct membership *m, struct signal_pass *p)
{
        struct signals *s = m->signals;
        struct member_slot *slot, *next;

        /* Some were counted only. */
        for (slot = LIST_FIRST(&p->slots); slot; slot = next) {
                next = LIST_NEXT(slot, in_pass);
                if (!slot->signal && !slot->kill)
                        signals_end(m, slot);
        }
        if (LIST_EMPTY(&p->slots))
                return;
        while ((slot = LIST_FIRST(&p->slots)))
                slot_move(m, slot, &s->later);
        s->later.found = true;
        s->later.is_race |= p->is_race;
        schedule(m, p->failing ? PASS_LATER_USEC : 0);
}

/* Its first pass goes on in pieces. NULL: there is no memory, so it begins anew with the others. */
static struct signal_pass *hand_over(struct membership *m)
{
        struct signals *s = m->signals;
        struct signal_pass *p = s->now, *next = calloc(1, sizeof *next);

        if (!next) {
                pass_stop(p);
                leave_to_later(m, p);
                return NULL;
        }
        next->membership = m;
        LIST_INIT(&next->slots);
        s->now = next;
        TAILQ_INSERT_TAIL(&s->firsts, p, firsts);
        p->is_held = true;
        schedule(m, LATE_USEC);
        return p;
}

struct signal_pass *signals_run(struct membership *m, uint32_t *ret_n)
{
        struct signals *s = m->signals;
        uint32_t budget = NOW_BUDGET;
        struct realtime before;
        int r;

        *ret_n = 0;
        if (LIST_EMPTY(&s->now->slots))
                return NULL;
        before = realtime_begin();
        reserve_give(s);
        r = pass_go(m, s->now, UINT64_MAX, &budget);
        realtime_end(before);
        reserve_take(s);
        if (r <= 0)
                return hand_over(m);
        *ret_n = s->now->n_counted;
        leave_to_later(m, s->now);
        pass_stop(s->now);
        s->now->n_restless = s->now->n_races = 0;
        s->now->is_race = false;
        return NULL;
}

int signals_go(struct signal_pass *p, uint32_t budget, uint32_t *ret_n)
{
        struct membership *m = p->membership;
        int r = 1;

        if (!p->is_over) {
                reserve_give(m->signals);
                r = pass_go(m, p, UINT64_MAX, &budget);
                reserve_take(m->signals);
        }
        if (r == 0 || (r < 0 && ++p->n_failed < TRIES_MAX))
                return 0;
        p->is_over = true;
        leave_to_later(m, p);
        *ret_n = p->n_counted;
        return 1;
}

void signals_let_go(struct signal_pass *p)
{
        if (!p)
                return;
        p->is_held = false;
        if (p->is_over)
                first_free(p->membership, p);
        else
                schedule(p->membership, 0);
}

/* Goes on with a first pass for which nobody waits. */
static void go_first(struct membership *m, uint32_t budget)
{
        struct signals *s = m->signals;
        struct signal_pass *p;
        uint32_t n;

        TAILQ_FOREACH (p, &s->firsts, firsts)
                if (!p->is_held)
                        break;
        if (!p)
                return;
        TAILQ_REMOVE(&s->firsts, p, firsts);
        TAILQ_INSERT_TAIL(&s->firsts, p, firsts);
        if (signals_go(p, budget, &n) != 0)
                first_free(m, p);
        schedule(m, 0);
}

void signals_finish(struct membership *m)
{
        struct signal_pass *p;
        uint32_t n;

        TAILQ_FOREACH (p, &m->signals->firsts, firsts)
                while (signals_go(p, UINT32_MAX, &n) == 0)
                        ;
}

/* One piece. Returns as pass_go() does. */
static int go_later(struct membership *m)
{
        struct signals *s = m->signals;
        struct signal_pass *p = &s->later;
        uint64_t until_usec = world_clock_usec(m->world) + STORM_PIECE_USEC;
        struct realtime before = realtime_begin();
        uint32_t budget;
        int r;

        reserve_give(s);
        do {
                budget = PIECE_BUDGET;
                r = pass_go(m, p, until_usec, &budget);
        } while (s->storm_usec > 0 && r >= 0 && later_is_busy(s) && world_clock_usec(m->world) < until_usec);
        reserve_take(s);
        realtime_end(before);
        return r;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct membership *m = userdata;
        struct signals *s = m->signals;
        bool late = now_monotonic_usec() > usec + LATE_USEC;
        uint64_t now_usec;
        int r;

        storm_begin(s, late, world_clock_usec(m->world));
        r = go_later(m);
        now_usec = world_clock_usec(m->world);
        if (r < 0 || !is_busy(s) || now_usec - s->storm_usec >= STORM_USEC)
                storm_end(s, now_usec);
        go_on(m, r);
        go_first(m, PIECE_BUDGET);
        facts_wake(&m->world->facts);
        return 0;
}
