/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/world/signals.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/realtime.h"

/* Signals to the members of done contexts, in passes over all members, until a pass finds nobody new: who forks
 * while a pass runs leaves children to the next one.
 *
 * A cancel makes a whole pass before it is answered. All others are made in pieces, between other events, so that
 * nobody else is late for a crowd that has to be killed. But a crowd that forks is a race, which is lost by who waits
 * for his turn among them: in the time of one the others make up for all that were killed. So a storm is ended in one
 * go, at the lowest real-time priority where that is allowed: newcomers are the children of those who are left, and
 * get fewer with every pass. */

#define RUN_USEC 5000 /* passes of a cancel after the first one: no longer */
#define PIECE_USEC 2000
#define STORM_USEC 200000
#define STORM_CROWD 32 /* more than these are to be killed: they might fork */
#define STORM_PASSES 3 /* so many have found newcomers in a row: they do */
#define PASSES_AT_ONCE 16
#define PASS_LATER_USEC 20000

struct signal_pass {
        struct target *targets;
        size_t n, allocated, next; /* next: to be looked at */
        uint64_t number;
        bool underway;
        bool found;          /* somebody new, or may have missed one */
        unsigned n_restless; /* passes in a row that have */
        bool failing;
        sd_event_source *source;
        int reserve[3];
};

/* A pass needs a few descriptors, and clients must not be able to take the last ones. */
static void reserve_give(struct signal_pass *p)
{
        for (size_t i = 0; i < ELEMENTSOF(p->reserve); i++) {
                if (p->reserve[i] >= 0)
                        close(p->reserve[i]);
                p->reserve[i] = -1;
        }
}

static void reserve_take(struct signal_pass *p)
{
        for (size_t i = 0; i < ELEMENTSOF(p->reserve); i++)
                if (p->reserve[i] < 0)
                        p->reserve[i] = eventfd(0, EFD_CLOEXEC);
}

int signals_init(struct effects *e)
{
        struct signal_pass *p = calloc(1, sizeof *p);

        if (!p)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(p->reserve); i++)
                p->reserve[i] = -1;
        reserve_take(p);
        e->membership.pass = p;
        return 0;
}

void signals_deinit(struct effects *e)
{
        struct signal_pass *p = e->membership.pass;

        if (!p)
                return;
        reserve_give(p);
        sd_event_source_disable_unref(p->source);
        free(p->targets);
        free(p);
        e->membership.pass = NULL;
}

static int collect(void *userdata, const struct member_record *record)
{
        struct effects *e = userdata;
        struct signal_pass *p = e->membership.pass;
        struct target *t;

        if (!record->slot->context || !(record->slot->signal || record->slot->kill))
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

/* Whom to look for; from here on the kernel tells of the next one that is born. */
static bool prepare(struct effects *e)
{
        struct member_slot *slot, *next;
        bool any = false;

        HASH_ITER (hh, e->membership.by_id, slot, next)
                if (slot->signal || slot->kill) {
                        e->membership.backend->set_done(e, slot);
                        any = true;
                }
        return any;
}

/* Lists who is there. 0: there is nobody to look for. */
static int begin(struct effects *e)
{
        struct signal_pass *p = e->membership.pass;
        static uint64_t last_number;
        int r;

        p->n = p->next = 0;
        p->number = ++last_number;
        p->found = p->underway = false;
        e->membership.restless = false;
        if (!prepare(e))
                return 0;
        r = e->membership.backend->each(e, collect, e);
        if (r < 0) {
                if (!p->failing)
                        log_warning("Cannot look through the members: %s", strerror(-r));
                p->failing = true;
                return r;
        }
        p->failing = false;
        p->found = e->membership.restless;
        p->underway = true;
        return 1;
}

/* 1: to the end of the pass; 0: the time is up. */
static int go(struct effects *e, uint64_t until_usec)
{
        struct signal_pass *p = e->membership.pass;
        uint64_t now_usec = now_boottime_usec();
        int r;

        for (; p->next < p->n; p->next++) {
                if (p->next % 8 == 7) {
                        now_usec = now_boottime_usec();
                        if (now_usec >= until_usec)
                                return 0;
                }
                r = signals_give(e, &p->targets[p->next], p->number, now_usec);
                if (r != 0)
                        p->found = true;
                if (r < 0)
                        return r;
        }
        p->underway = false;
        signals_forget_gone(e, p->number);
        p->n_restless = p->found ? p->n_restless + 1 : 0;
        if (p->n_restless == 0) {
                free(p->targets); /* a crowd is rare */
                p->targets = NULL;
                p->n = p->allocated = p->next = 0;
        }
        return 1;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata);

static void schedule(struct effects *e, uint64_t delay_usec)
{
        struct signal_pass *p = e->membership.pass;
        uint64_t now_usec, due_usec;
        int enabled;

        if (!p->source) {
                if (sd_event_add_time_relative(
                                    e->event, &p->source, CLOCK_MONOTONIC, delay_usec, 1, on_time, e) >= 0)
                        (void) sd_event_source_set_description(p->source, "signals");
                return;
        }
        if (sd_event_now(e->event, CLOCK_MONOTONIC, &now_usec) < 0)
                return;
        if (sd_event_source_get_enabled(p->source, &enabled) >= 0 && enabled != SD_EVENT_OFF &&
                        sd_event_source_get_time(p->source, &due_usec) >= 0 &&
                        due_usec <= now_usec + delay_usec)
                return; /* sooner anyway */
        (void) sd_event_source_set_time(p->source, now_usec + delay_usec);
        (void) sd_event_source_set_enabled(p->source, SD_EVENT_ONESHOT);
}

void signals_later(struct effects *e)
{
        schedule(e, PASS_LATER_USEC);
}

void signals_soon(struct effects *e)
{
        e->membership.kills_wanted = false;
        schedule(e, 0);
}

/* After a piece: how soon the next one. */
static void go_on(struct effects *e, int r)
{
        struct signal_pass *p = e->membership.pass;

        if (r < 0)
                schedule(e, PASS_LATER_USEC);
        else if (p->underway)
                schedule(e, 0);
        else if (p->n_restless > 0)
                schedule(e, p->n_restless % PASSES_AT_ONCE == 0 ? PASS_LATER_USEC : 0);
}

void signals_run(struct effects *e)
{
        struct realtime before = realtime_begin();
        uint64_t end_usec = now_boottime_usec() + RUN_USEC;
        int r;

        e->membership.passes_wanted = false;
        reserve_give(e->membership.pass);
        do {
                r = begin(e);
                if (r > 0)
                        r = go(e, UINT64_MAX);
        } while (r > 0 && e->membership.pass->n_restless > 0 && now_boottime_usec() < end_usec);
        realtime_end(before);
        reserve_take(e->membership.pass);
        go_on(e, r);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct effects *e = userdata;
        struct signal_pass *p = e->membership.pass;
        struct realtime before = realtime_begin();
        uint64_t now_usec = now_boottime_usec(), until_usec;
        bool storm;
        int r = 1;

        reserve_give(p);
        do {
                if (!p->underway)
                        r = begin(e);
                storm = p->n > STORM_CROWD || p->n_restless >= STORM_PASSES;
                until_usec = now_usec + (storm ? STORM_USEC : PIECE_USEC);
                if (r > 0)
                        r = go(e, until_usec);
        } while (storm && r > 0 && p->n_restless > 0 && now_boottime_usec() < until_usec);
        realtime_end(before);
        reserve_take(p);
        go_on(e, r);
        effects_event(e);
        return 0;
}
