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
 * Who says so for two children at a time does not say whose an orphan is. Then it is nobody's. */

#define AT_ONCE 64 /* so many children are read in one turn */

struct orphan_look {
        struct child_list children; /* of the reaper */
        bool have_gone;             /* one has gone meanwhile */
        uint64_t dead;
};

void membership_reap(struct membership *m, struct process *p, struct process *reaper)
{
        struct attached *a = process_ties(p)->attached;

        if (!a)
                return;
        attached_leave_reaper(a);
        a->reaper = process_ref(reaper);
        charge_set(&a->charge, a->charge.amount + 1); /* its descriptor */
        a->reaper_ticks = proc_nsec_to_ticks(now_boottime_usec() * 1000);
        LIST_INSERT_HEAD(&process_ties(reaper)->reaped, a, by_reaper);
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
        charge_set(&a->charge, a->charge.amount - 1);
        a->reaper = process_unref(a->reaper);
}

/* That of a reaper of one alone. */
static bool has_reaper(const struct attached *a)
{
        struct attached *first = a->reaper ? LIST_FIRST(&process_ties(a->reaper)->reaped) : NULL;

        return first && !LIST_NEXT(first, by_reaper) && !proc_pidfd_exited(process_pidfd(a->reaper));
}

struct attached *orphan_owner(struct membership *m, pid_t parent, uint64_t parent_ticks, uint64_t start_ticks)
{
        struct process *p = process_find(m->processes, parent, parent_ticks);
        struct attached *a = p ? LIST_FIRST(&process_ties(p)->reaped) : NULL;

        return a && start_ticks >= a->reaper_ticks && has_reaper(a) ? a : NULL;
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
        if (proc_stat_read(pid, &stat) < 0 || stat.ppid != process_pid(a->reaper))
                return -ESRCH;
        if (stat.start_ticks < a->reaper_ticks)
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
