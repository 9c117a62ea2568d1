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

/* Signals the members of done contexts. This is done in passes over all members, because a process that forks
 * during a pass leaves children to the next one. When a pass finds nobody new, the work is over.
 *
 * A cancel makes a whole pass before it is answered. All other passes are made in pieces, between other
 * events, so that nobody else has to wait while a crowd is killed.
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

struct signal_pass {
        struct target *targets;
        size_t n, allocated, next; /* next: the index of the next target */
        uint64_t number;
        bool underway;
        bool found;          /* this pass has found somebody new, or may have missed somebody */
        unsigned n_restless; /* how many passes in a row have */
        bool failing;
        sd_event_source *source;
        int reserve[3];
};

/* A pass needs a few descriptors. They are kept in reserve, so that clients cannot take the last ones. */
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

int signals_new(struct membership *m)
{
        struct signal_pass *p = calloc(1, sizeof *p);

        if (!p)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(p->reserve); i++)
                p->reserve[i] = -1;
        reserve_take(p);
        m->pass = p;
        return 0;
}

void signals_free(struct membership *m)
{
        struct signal_pass *p = m->pass;

        if (!p)
                return;
        reserve_give(p);
        sd_event_source_disable_unref(p->source);
        free(p->targets);
        free(p);
        m->pass = NULL;
}

static int collect(void *userdata, const struct member_record *record)
{
        struct membership *m = userdata;
        struct signal_pass *p = m->pass;
        struct target *t;

        if (!record->slot->anchor || !(record->slot->signal || record->slot->kill))
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

/* Says whether any context has members to be signalled. From here on the kernel tells of every child that is
 * born in one. */
static bool prepare(struct membership *m)
{
        struct member_slot *slot, *next;
        bool any = false;

        HASH_ITER (hh, m->by_id, slot, next)
                if (slot->signal || slot->kill) {
                        m->backend->set_done(m, slot);
                        any = true;
                }
        return any;
}

/* Begins a pass: lists the targets. 0: there is nobody to be signalled. */
static int begin(struct membership *m)
{
        struct signal_pass *p = m->pass;
        static uint64_t last_number;
        int r;

        p->n = p->next = 0;
        p->number = ++last_number;
        p->found = p->underway = false;
        m->is_restless = false;
        if (!prepare(m))
                return 0;
        r = m->backend->each(m, true, collect, m);
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
static int go(struct membership *m, uint64_t until_usec)
{
        struct signal_pass *p = m->pass;
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
        signals_forget_gone(m, p->number);
        p->n_restless = p->found ? p->n_restless + 1 : 0;
        if (p->n_restless == 0) {
                /* A large list is rare, so its memory is not kept. */
                free(p->targets);
                p->targets = NULL;
                p->n = p->allocated = p->next = 0;
        }
        return 1;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata);

static void schedule(struct membership *m, uint64_t delay_usec)
{
        struct signal_pass *p = m->pass;
        uint64_t now_usec, due_usec;
        int enabled;

        if (!p->source) {
                if (sd_event_add_time_relative(m->world->event, &p->source, CLOCK_MONOTONIC, delay_usec, 1,
                                    on_time, m) >= 0)
                        (void) sd_event_source_set_description(p->source, "signals");
                return;
        }
        if (sd_event_now(m->world->event, CLOCK_MONOTONIC, &now_usec) < 0)
                return;
        if (sd_event_source_get_enabled(p->source, &enabled) >= 0 && enabled != SD_EVENT_OFF &&
                        sd_event_source_get_time(p->source, &due_usec) >= 0 &&
                        due_usec <= now_usec + delay_usec)
                return; /* it comes sooner anyway */
        (void) sd_event_source_set_time(p->source, now_usec + delay_usec);
        (void) sd_event_source_set_enabled(p->source, SD_EVENT_ONESHOT);
}

void signals_later(struct membership *m)
{
        schedule(m, PASS_LATER_USEC);
}

void signals_soon(struct membership *m)
{
        m->kills_wanted = false;
        schedule(m, 0);
}

/* Decides after a piece when the next one comes. */
static void go_on(struct membership *m, int r)
{
        struct signal_pass *p = m->pass;

        if (r < 0)
                schedule(m, PASS_LATER_USEC);
        else if (p->underway)
                schedule(m, 0);
        else if (p->n_restless > 0)
                schedule(m, p->n_restless % PASSES_AT_ONCE == 0 ? PASS_LATER_USEC : 0);
}

void signals_run(struct membership *m)
{
        struct realtime before = realtime_begin();
        uint64_t end_usec = world_clock_usec(m->world) + RUN_USEC;
        int r;

        m->passes_wanted = false;
        reserve_give(m->pass);
        do {
                r = begin(m);
                if (r > 0)
                        r = go(m, UINT64_MAX);
        } while (r > 0 && m->pass->n_restless > 0 && world_clock_usec(m->world) < end_usec);
        realtime_end(before);
        reserve_take(m->pass);
        go_on(m, r);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct membership *m = userdata;
        struct signal_pass *p = m->pass;
        struct realtime before = realtime_begin();
        uint64_t now_usec = world_clock_usec(m->world), until_usec;
        bool storm;
        int r = 1;

        reserve_give(p);
        do {
                if (!p->underway)
                        r = begin(m);
                storm = p->n > STORM_CROWD || p->n_restless >= STORM_PASSES;
                until_usec = now_usec + (storm ? STORM_USEC : PIECE_USEC);
                if (r > 0)
                        r = go(m, until_usec);
        } while (storm && r > 0 && p->n_restless > 0 && world_clock_usec(m->world) < until_usec);
        realtime_end(before);
        reserve_take(p);
        go_on(m, r);
        facts_wake(&m->world->facts);
        return 0;
}
