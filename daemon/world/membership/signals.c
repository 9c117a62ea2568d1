/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/world/membership/signals.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/realtime.h"

/* Signals the members of done contexts. This is done in passes over their members, because a process that
 * forks during a pass leaves children to the next one. When a pass finds nobody new, the work is over, until
 * the kernel tells of a newcomer, or somebody has to be killed.
 *
 * A cancel makes a whole pass over what it has ended before it is answered. All other passes are made in
 * pieces, between other events, so that nobody else has to wait while a crowd is killed.
 *
 * A crowd that forks is a race. If the daemon let the crowd run between its pieces, the ones that are left
 * would fork as many as were killed. So such a storm is ended in one go, at the lowest real-time priority if
 * that is allowed. Then only those who are left can fork, and there are fewer of them with every pass. */

#define RUN_USEC 5000 /* how long a cancel makes more passes after the first one */
#define PIECE_USEC 2000
#define STORM_USEC 200000
#define STORM_CROWD 32 /* more targets than these are a storm, because they might fork */
#define STORM_PASSES 3 /* so many passes in a row that found newcomers are a storm, too */
#define PASSES_AT_ONCE 16
#define PASS_LATER_USEC 20000

struct signals {
        struct signal_pass now;   /* the contexts that have just ended */
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

int signals_new(struct membership *m)
{
        struct signals *s = calloc(1, sizeof *s);

        if (!s)
                return -ENOMEM;
        LIST_INIT(&s->now.slots);
        LIST_INIT(&s->later.slots);
        for (size_t i = 0; i < ELEMENTSOF(s->reserve); i++)
                s->reserve[i] = -1;
        reserve_take(s);
        m->signals = s;
        return 0;
}

/* A large list is rare, so its memory is not kept. */
static void targets_free(struct signal_pass *p)
{
        free(p->targets);
        p->targets = NULL;
        p->n = p->allocated = p->next = 0;
}

void signals_free(struct membership *m)
{
        struct signals *s = m->signals;

        if (!s)
                return;
        reserve_give(s);
        sd_event_source_disable_unref(s->source);
        targets_free(&s->now);
        targets_free(&s->later);
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

static int collect(void *userdata, const struct member_record *record)
{
        struct signal_pass *p = userdata;
        struct target *t;

        if (!record->slot->anchor || record->slot->pass != p)
                return 0;
        if (p->n == p->allocated) {
                size_t n = p->allocated > 0 ? p->allocated * 2 : 64;

                t = reallocarray(p->targets, n, sizeof *t);
                if (!t)
                        return -ENOMEM;
                p->targets = t;
                p->allocated = n;
        }
        t = &p->targets[p->n++];
        *t = (struct target){
                        .context_id = record->slot->context_id,
                        .slot = record->slot->number,
                        .policy = record->policy,
                        .pid = record->pid,
                        .ppid = record->ppid,
                        .start_nsec = record->leader_start_nsec,
                        .pending = record->pending,
        };
        memcpy(t->comm, record->comm, strnlen(record->comm, sizeof t->comm - 1));
        return 0;
}

/* Begins a pass: lists the targets. From here on the kernel tells of every child that is born in one of its
 * contexts. 0: there is nobody to be signalled. */
static int begin(struct membership *m, struct signal_pass *p)
{
        struct member_slot *slot;
        static uint64_t last_number;
        int r;

        p->n = p->next = 0;
        p->number = ++last_number;
        p->found = p->underway = false;
        m->is_restless = false;
        if (LIST_EMPTY(&p->slots)) {
                p->n_restless = 0;
                return 0;
        }
        LIST_FOREACH (slot, &p->slots, in_pass) {
                slot->pass_number = p->number;
                m->backend->set_done(m, slot);
                member_slot_want(m, slot);
        }
        r = m->backend->each(m, collect, p);
        membership_unwant(m);
        if (r < 0) {
                if (!p->failing)
                        log_warning("Cannot look through the members: %s", strerror(-r));
                p->failing = true;
                return r;
        }
        p->failing = false;
        p->found = m->is_restless;
        p->underway = true;
        return 1;
}

/* Goes on with the pass. 1: it is over; 0: the time is up. */
static int go(struct membership *m, struct signal_pass *p, uint64_t until_usec)
{
        uint64_t now_usec = world_clock_usec(m->world);
        int r;

        for (; p->next < p->n; p->next++) {
                if (p->next % 8 == 7) {
                        now_usec = world_clock_usec(m->world);
                        if (now_usec >= until_usec)
                                return 0;
                }
                r = signals_give(m, &p->targets[p->next], p->number, now_usec);
                if (r != 0)
                        p->found = true;
                if (r < 0)
                        return r;
        }
        p->underway = false;
        signals_forget_gone(m, p);
        p->n_restless = p->found ? p->n_restless + 1 : 0;
        if (p->n_restless > 0)
                return 1;
        while (!LIST_EMPTY(&p->slots))
                signals_end(m, LIST_FIRST(&p->slots));
        targets_free(p);
        return 1;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata);

static void schedule(struct membership *m, uint64_t delay_usec)
{
        struct signals *s = m->signals;
        uint64_t now_usec, due_usec;
        int enabled;

        if (!s->source) {
                if (sd_event_add_time_relative(m->world->event, &s->source, CLOCK_MONOTONIC, delay_usec, 1,
                                    on_time, m) >= 0)
                        (void) sd_event_source_set_description(s->source, "signals");
                return;
        }
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
        s->later.found = true; /* another pass comes after one that is under way */
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

void signals_begin(struct membership *m, struct member_slot *slot)
{
        slot_move(m, slot, &m->signals->now);
}

/* Decides after a piece when the next one comes. */
static void go_on(struct membership *m, int r)
{
        struct signal_pass *p = &m->signals->later;

        if (r < 0)
                schedule(m, PASS_LATER_USEC);
        else if (p->underway)
                schedule(m, 0);
        else if (p->n_restless > 0)
                schedule(m, p->n_restless % PASSES_AT_ONCE == 0 ? PASS_LATER_USEC : 0);
}

/* What is not over when its time is up, or has to be killed by now, is left to the other passes. */
static void leave_to_later(struct membership *m)
{
        struct signals *s = m->signals;
        struct member_slot *slot;

        if (LIST_EMPTY(&s->now.slots))
                return;
        while ((slot = LIST_FIRST(&s->now.slots)))
                slot_move(m, slot, &s->later);
        s->later.found = true;
        schedule(m, s->now.failing ? PASS_LATER_USEC : 0);
}

void signals_run(struct membership *m)
{
        struct signals *s = m->signals;
        struct realtime before;
        uint64_t end_usec;
        int r;

        if (LIST_EMPTY(&s->now.slots))
                return;
        before = realtime_begin();
        end_usec = world_clock_usec(m->world) + RUN_USEC;
        reserve_give(s);
        do {
                r = begin(m, &s->now);
                if (r > 0)
                        r = go(m, &s->now, UINT64_MAX);
        } while (r > 0 && s->now.n_restless > 0 && world_clock_usec(m->world) < end_usec);
        realtime_end(before);
        reserve_take(s);
        leave_to_later(m);
        targets_free(&s->now);
        s->now.n_restless = 0;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct membership *m = userdata;
        struct signal_pass *p = &m->signals->later;
        struct realtime before = realtime_begin();
        uint64_t now_usec = world_clock_usec(m->world), until_usec;
        bool storm;
        int r = 1;

        reserve_give(m->signals);
        do {
                if (!p->underway)
                        r = begin(m, p);
                storm = p->n > STORM_CROWD || p->n_restless >= STORM_PASSES;
                until_usec = now_usec + (storm ? STORM_USEC : PIECE_USEC);
                if (r > 0)
                        r = go(m, p, until_usec);
        } while (storm && r > 0 && p->n_restless > 0 && world_clock_usec(m->world) < until_usec);
        realtime_end(before);
        reserve_take(m->signals);
        go_on(m, r);
        facts_wake(&m->world->facts);
        return 0;
}
