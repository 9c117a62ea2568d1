/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "daemon/effect/internal.h"
#include "daemon/effect/proc.h"
#include "daemon/util/cleanup.h"
#include "daemon/util/clock.h"
#include "daemon/util/log.h"

/* Signals to the members of done contexts (law 32), in passes over all members, until a pass finds nobody
 * new.
 *
 * Each process gets its signal once. A child that was born while a pass ran is found by the next one; but a
 * child whose parent had been signalled before it was born, and could do something about that, is part of the
 * parent's cleaning up: it is left alone, and only killed when the time for that has come. (A fork that was
 * under way when its parent got the signal cannot be told from one that cleans up. It matters only where the
 * parent catches the signal: one that does not is dead, and its children are nobody's cleaning up.)
 *
 * Before every signal a pidfd is opened, and through it the start time is seen to be the member's, and all of
 * its uids to be those of the one who attached it, so that no program that has changed its uid is ever
 * signalled with the daemon's rights. */

#define PASSES_AT_ONCE 8
#define PASS_LATER_USEC 20000

struct signalled {
        uint32_t pid;
        uint64_t start_nsec; /* of its process */
        uint64_t when_nsec;  /* a child that was born later is not signalled; UINT64_MAX: each one is */
        bool killed;
        uint64_t pass; /* that has seen it last */
        LIST_ENTRY(signalled) by_slot;
        UT_hash_handle hh;
};

struct pass {
        struct effects *effects;
        uint64_t number;
        uint64_t now_usec;
        unsigned n_new;
};

static uint64_t now_nsec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_BOOTTIME, &ts);
        return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

static void signalled_free(struct effects *e, struct signalled *s)
{
        LIST_REMOVE(s, by_slot);
        HASH_DEL(e->membership.signalled, s);
        free(s);
}

static struct signalled *signalled_find(struct effects *e, uint32_t pid)
{
        struct signalled *s;

        HASH_FIND(hh, e->membership.signalled, &pid, sizeof pid, s);
        return s;
}

static struct signalled *signalled_new(struct effects *e, const struct member_record *record)
{
        struct signalled *s = calloc(1, sizeof *s);

        if (!s)
                return NULL;
        s->pid = record->pid;
        s->start_nsec = record->leader_start_nsec;
        s->when_nsec = UINT64_MAX;
        HASH_ADD(hh, e->membership.signalled, pid, sizeof s->pid, s);
        if (!s->hh.tbl) {
                free(s);
                return NULL;
        }
        LIST_INSERT_HEAD(&record->slot->signalled, s, by_slot);
        return s;
}

/* *ret_when_nsec: since when its children are its cleaning up, UINT64_MAX if it can do none. */
static int send_checked(const struct member_record *record, const struct policy *policy, int signal_number,
                uint64_t *ret_when_nsec)
{
        uint64_t when_nsec = UINT64_MAX;
        _cleanup_close_ int pidfd = -1;
        struct proc_stat stat;
        uid_t uids[3];
        int r;

        pidfd = pidfd_open_process((pid_t) record->pid);
        if (pidfd < 0)
                return pidfd;
        r = proc_stat_read((pid_t) record->pid, &stat);
        if (r < 0)
                return r;
        if (stat.start_ticks != proc_nsec_to_ticks(record->leader_start_nsec))
                return -ESRCH;
        r = proc_status_read((pid_t) record->pid, uids, NULL);
        if (r < 0)
                return r;
        if (policy->uid != 0 && (uids[0] != policy->uid || uids[1] != policy->uid || uids[2] != policy->uid))
                return -EPERM;
        if (signal_number != SIGKILL && proc_handles_signal((pid_t) record->pid, signal_number))
                when_nsec = now_nsec(); /* before it can run, which may be before we go on */
        r = pidfd_signal(pidfd, signal_number);
        if (r < 0)
                return r;
        *ret_when_nsec = when_nsec;
        /* A stopped one would only notice once somebody lets it run on. */
        if (stat.state == 'T' && signal_number != SIGKILL && signal_number != SIGCONT &&
                        signal_number != SIGSTOP)
                (void) pidfd_signal(pidfd, SIGCONT);
        return 0;
}

static bool kill_is_due(const struct context *c, const struct policy *policy, uint64_t now_usec)
{
        return policy->kill_after_usec != CTXD_USEC_INFINITY && now_usec >= c->done_usec &&
               now_usec - c->done_usec >= policy->kill_after_usec;
}

static int visit(void *userdata, const struct member_record *record)
{
        struct pass *pass = userdata;
        struct effects *e = pass->effects;
        struct context *c = record->slot->context;
        const struct policy *policy;
        struct signalled *s, *parent;
        bool is_new = false, is_cleanup = false, is_kill;
        uint64_t when_nsec;
        int r, signal_number;

        if (!c || !(record->slot->signal || record->slot->kill) || record->policy >= c->n_policies)
                return 0;
        policy = &c->policies[record->policy];
        is_kill = record->slot->kill && kill_is_due(c, policy, pass->now_usec);

        s = signalled_find(e, record->pid);
        if (s && s->start_nsec != record->leader_start_nsec) {
                signalled_free(e, s); /* that one has gone, and its pid is another's */
                s = NULL;
        }
        if (!s) {
                parent = signalled_find(e, record->ppid);
                is_cleanup = parent && parent->when_nsec < record->leader_start_nsec;
                s = signalled_new(e, record);
                if (!s)
                        return -ENOMEM;
                if (is_cleanup)
                        s->when_nsec = 0;
                is_new = true;
                pass->n_new++;
        }
        s->pass = pass->number;

        if (is_kill && !s->killed) {
                s->killed = true;
                pass->n_new += !is_new;
                signal_number = SIGKILL;
        } else if (is_new && !is_cleanup && policy->signal > 0)
                signal_number = policy->signal;
        else
                return 0;

        r = send_checked(record, policy, signal_number, &when_nsec);
        if (r == 0 && signal_number != SIGKILL)
                s->when_nsec = when_nsec;
        else if (r < 0 && r != -ESRCH)
                log_debug("Process %u (%s) gets no signal %d: %s", record->pid, record->comm, signal_number,
                                strerror(-r));
        return 0;
}

/* One that no complete pass finds has exited. */
static void forget_gone(struct effects *e, uint64_t pass_number)
{
        struct signalled *s, *next;

        HASH_ITER (hh, e->membership.signalled, s, next)
                if (s->pass != pass_number)
                        signalled_free(e, s);
}

/* A pass needs a few descriptors, and clients must not be able to take the last ones. */
static void reserve_give(struct membership *m)
{
        for (size_t i = 0; i < ELEMENTSOF(m->reserve); i++) {
                if (m->reserve[i] >= 0)
                        close(m->reserve[i]);
                m->reserve[i] = -1;
        }
}

static void reserve_take(struct membership *m)
{
        for (size_t i = 0; i < ELEMENTSOF(m->reserve); i++)
                if (m->reserve[i] < 0)
                        m->reserve[i] = eventfd(0, EFD_CLOEXEC);
}

void signals_init(struct effects *e)
{
        for (size_t i = 0; i < ELEMENTSOF(e->membership.reserve); i++)
                e->membership.reserve[i] = -1;
        reserve_take(&e->membership);
}

void signals_deinit(struct effects *e)
{
        reserve_give(&e->membership);
        e->membership.pass = sd_event_source_disable_unref(e->membership.pass);
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

static bool run_passes(struct effects *e)
{
        static uint64_t last_pass;

        for (unsigned i = 0; i < PASSES_AT_ONCE; i++) {
                struct pass pass = {.effects = e, .number = ++last_pass, .now_usec = now_boottime_usec()};
                int r;

                if (!prepare(e))
                        return true;
                r = e->membership.backend->each(e, visit, &pass);
                if (r < 0) {
                        if (!e->membership.failing)
                                log_warning("Cannot look through the members: %s", strerror(-r));
                        e->membership.failing = true;
                        return false;
                }
                e->membership.failing = false;
                forget_gone(e, pass.number);
                if (pass.n_new == 0)
                        return true;
        }
        return false;
}

void signals_run(struct effects *e)
{
        e->membership.passes_wanted = false;
        reserve_give(&e->membership);
        if (!run_passes(e))
                signals_later(e);
        reserve_take(&e->membership);
}

static int pass_run(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct effects *e = userdata;

        signals_run(e);
        effects_event(e);
        return 0;
}

void signals_later(struct effects *e)
{
        struct membership *m = &e->membership;
        uint64_t when;

        if (m->pass) {
                int enabled;

                if (sd_event_source_get_enabled(m->pass, &enabled) >= 0 && enabled != SD_EVENT_OFF)
                        return;
                if (sd_event_now(e->event, CLOCK_MONOTONIC, &when) < 0)
                        return;
                (void) sd_event_source_set_time(m->pass, when + PASS_LATER_USEC);
                (void) sd_event_source_set_enabled(m->pass, SD_EVENT_ONESHOT);
                return;
        }
        if (sd_event_add_time_relative(
                            e->event, &m->pass, CLOCK_MONOTONIC, PASS_LATER_USEC, 1000, pass_run, e) >= 0)
                (void) sd_event_source_set_description(m->pass, "signals");
}

void signals_forget(struct effects *e, struct member_slot *slot)
{
        while (!LIST_EMPTY(&slot->signalled))
                signalled_free(e, LIST_FIRST(&slot->signalled));
}
