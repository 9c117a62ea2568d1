/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include "daemon/world/membership/direct.h"
#include "util/clock.h"
#include "util/proc.h"

/* Descendants whose parents have exited before anybody saw them. The kernel gives them to the nearest
 * subreaper. If that is the process which has attached its child, and it has said so, all that become its
 * children from then on descend from that child, but for those that were attached or seen elsewhere.
 *
 * Below the same subreaper there may be members of other contexts: another child of which it has said so,
 * or a descendant that was attached elsewhere, before or after. From then on an orphan may be a descendant
 * of either, and is nobody's, not even the subreaper's, so that nobody ends with a context that is not its
 * own. But what is attached below its context ends with that. */

#define AT_ONCE 64 /* so many children are read in one turn */

struct orphan_look {
        struct child_list children; /* of the reaper */
        bool have_gone;             /* one has gone meanwhile */
        uint64_t dead;
};

/* The children of a reaper but for the one that it attaches. */
struct others {
        pid_t pid; /* that one's */
        unsigned n;
        uint64_t since; /* no other one has started then */
};

static int look_at_other(void *userdata, pid_t child)
{
        struct others *o = userdata;
        struct proc_stat stat;
        int r;

        if (child == o->pid)
                return 0;
        r = proc_stat_read(child, &stat);
        if (r == -EBUSY)
                return 1; /* it may have started just now */
        if (r >= 0 && stat.start_ticks >= o->since)
                o->since = stat.start_ticks + 1;
        return ++o->n == AT_ONCE;
}

static void part(struct membership *m, struct process *reaper, uint64_t since)
{
        struct process_ties *ties = process_ties(reaper);

        m->has_parted = true;
        if (ties->parted_ticks == 0 || since < ties->parted_ticks)
                ties->parted_ticks = since;
}

/* If it has exited, one of its kin will take its place, and may be anywhere. */
static bool may_be_below(const struct attached *a, struct process *above)
{
        pid_t pid = process_pid(a->process);
        struct proc_stat stat;

        if (process_has_exited(a->process))
                return true;
        for (unsigned n = 0; n < DEPTH_MAX && pid > 0; n++, pid = stat.ppid) {
                if (pid == process_pid(above))
                        return n > 0;
                if (proc_stat_read(pid, &stat) < 0)
                        return true;
                if (stat.start_ticks < process_start_ticks(above))
                        return false;
        }
        return pid > 0;
}

static bool has_below(const struct member_slot *slot, struct process *above, unsigned *budget)
{
        const struct attached *a;

        LIST_FOREACH (a, &slot->attached, by_slot) {
                /* Those that are older need no look. */
                if (process_start_ticks(a->process) < process_start_ticks(above))
                        continue;
                if (*budget == 0 || may_be_below(a, above))
                        return true;
                --*budget;
        }
        return false;
}

bool membership_has_below(
                struct membership *m, const struct anchor *anchor, struct process *above, unsigned *budget)
{
        return anchor->slot && has_below(anchor->slot, above, budget);
}

/* The same of contexts that are forgotten. */
static bool has_forgotten_below(struct membership *m, struct process *above)
{
        const struct member_slot *slot, *next;
        unsigned budget = AT_ONCE;

        HASH_ITER (hh, m->by_id, slot, next)
                if (!slot->anchor && has_below(slot, above, &budget))
                        return true;
        return false;
}

void membership_reap(struct membership *m, struct process *p, struct process *reaper, bool is_shared)
{
        struct attached *a = process_ties(p)->attached;
        struct process_ties *ties = process_ties(reaper);
        uint64_t now = proc_nsec_to_ticks(now_boottime_usec() * 1000);
        struct others others = {.pid = process_pid(p), .since = now};
        int r;

        if (!a)
                return;
        attached_leave_reaper(a);
        r = proc_each_child(process_pid(reaper), look_at_other, &others);
        a->reaper = process_ref(reaper);
        charge_set(&a->charge, a->charge.amount + 1); /* its descriptor */
        /* Who was there before is no orphan, even if it has started within the same tick. */
        a->reaper_ticks = r == 0 ? others.since : now + 1;
        if (is_shared || has_forgotten_below(m, reaper))
                part(m, reaper, a->reaper_ticks);
        else if (r == 0 && others.n == 0)
                ties->parted_ticks = 0; /* nobody else below it is left */
        LIST_INSERT_HEAD(&ties->reaped, a, by_reaper);
        m->n_reaped++;
}

static bool are_all_in(const struct process_ties *reaper, const struct member_slot *slot)
{
        const struct attached *a;

        LIST_FOREACH (a, &reaper->reaped, by_reaper)
                if (a->slot != slot)
                        return false;
        return true;
}

void membership_part(struct membership *m, struct process *p)
{
        const struct attached *a = process_ties(p)->attached;
        uint64_t since = process_start_ticks(p);
        pid_t pid = process_pid(p);
        struct proc_stat stat;

        if (!a || m->n_reaped == 0)
                return;
        for (unsigned n = 0; n < DEPTH_MAX && proc_stat_read(pid, &stat) >= 0; n++) {
                struct process *above = process_find(m->processes, pid, stat.start_ticks);
                struct process_ties *ties = above ? process_ties(above) : NULL;

                if (n > 0 && ties && !are_all_in(ties, a->slot))
                        part(m, above, since);
                pid = stat.ppid;
        }
}

static void stop(struct attached *a)
{
        if (!a->orphans)
                return;
        child_list_close(&a->orphans->children);
        free(a->orphans);
        a->orphans = NULL;
}

void attached_leave_reaper(struct attached *a)
{
        if (!a->reaper)
                return;
        stop(a);
        LIST_REMOVE(a, by_reaper);
        a->membership->n_reaped--;
        charge_set(&a->charge, a->charge.amount - 1);
        a->reaper = process_unref(a->reaper);
}

/* The one whose orphans become its children: of all that it has attached that which was first. NULL:
 * nobody's do, or it has exited. */
static struct attached *reaped_by(struct process *reaper)
{
        struct attached *a = LIST_FIRST(&process_ties(reaper)->reaped), *next;

        while (a && (next = LIST_NEXT(a, by_reaper)))
                a = next;
        return a && !proc_pidfd_exited(process_pidfd(reaper)) ? a : NULL;
}

static bool has_reaper(const struct attached *a)
{
        return a->reaper && reaped_by(a->reaper) == a;
}

/* A child of that one that has started then is nobody's. */
static bool is_parted(struct process *reaper, uint64_t start_ticks)
{
        uint64_t parted_ticks = process_ties(reaper)->parted_ticks;

        return parted_ticks > 0 && start_ticks >= parted_ticks;
}

/* A child of its reaper that has started then may be its orphan. */
static bool may_own(const struct attached *a, uint64_t start_ticks)
{
        return start_ticks >= a->reaper_ticks && !is_parted(a->reaper, start_ticks);
}

bool orphan_owner(struct membership *m, pid_t parent, uint64_t parent_ticks, uint64_t start_ticks,
                struct attached **ret)
{
        struct process *p = process_find(m->processes, parent, parent_ticks);

        *ret = NULL;
        if (!p)
                return false;
        if (is_parted(p, start_ticks))
                return true;
        *ret = reaped_by(p);
        return *ret && start_ticks >= (*ret)->reaper_ticks;
}

int orphans_open(struct attached *a, struct child_list *l)
{
        int r;

        if (!has_reaper(a))
                return 0;
        r = child_list_open(l, process_pid(a->reaper), false);
        return r < 0 ? r : 1;
}

uint64_t dead_sum(pid_t pid, const struct proc_stat *stat)
{
        uint64_t x = (uint64_t) pid << 40 ^ stat->start_ticks;

        /* Each bit depends on all, so that no other processes have the same sum. */
        x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
        return x ^ x >> 31;
}

int orphan_visit(struct attached *a, pid_t pid, uint64_t *dead)
{
        struct membership *m = a->membership;
        struct proc_stat stat;
        int r;

        if (attached_find(m, pid))
                return 0;
        r = proc_stat_read(pid, &stat);
        if (r < 0)
                return r;
        if (stat.ppid != process_pid(a->reaper))
                return -ESRCH;
        if (!may_own(a, stat.start_ticks))
                return 0;
        if (proc_is_dead(&stat)) {
                *dead += dead_sum(pid, &stat);
                return 0;
        }
        if (kin_find(m, pid, stat.start_ticks) || !has_reaper(a) || attached_by_group(m, pid, &stat))
                return 0;
        r = kin_add(a, pid, &stat);
        return r < 0 ? r : 1;
}

static int begin(struct attached *a)
{
        int r;

        a->orphans = calloc(1, sizeof *a->orphans);
        if (!a->orphans)
                return -ENOMEM;
        r = orphans_open(a, &a->orphans->children);
        if (r > 0)
                return 1;
        free(a->orphans);
        a->orphans = NULL;
        return r;
}

/* 1: it was an orphan; 0: that was the last child; -EAGAIN: it was not; or another negative errno. */
static int step(struct attached *a)
{
        pid_t pid;
        int r = child_list_next(&a->orphans->children, &pid);

        if (r <= 0)
                return r;
        r = orphan_visit(a, pid, &a->orphans->dead);
        if (r == -ESRCH)
                a->orphans->have_gone = true;
        return r == 0 || r == -ESRCH ? -EAGAIN : r;
}

int orphans_look(struct attached *a)
{
        int r = a->orphans ? 1 : begin(a);

        if (r <= 0)
                return r;
        r = -EAGAIN;
        for (unsigned n = 0; n < AT_ONCE && r == -EAGAIN; n++)
                r = step(a);
        if (r == -EAGAIN)
                return r;
        /* Who has gone, or died, may have left another one behind. */
        if (r == 0 && (a->orphans->have_gone || a->orphans->dead != a->dead_orphans))
                r = -EAGAIN;
        a->dead_orphans = a->orphans->dead;
        stop(a);
        return r;
}
