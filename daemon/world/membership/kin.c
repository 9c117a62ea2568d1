/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/world/membership/direct.h"
#include "util/cleanup.h"
#include "util/proc.h"

/* The descendants of attached processes, as far as they were seen. One that was seen stays known when its
 * parent has exited, and it is another's child. Each is known by its pid and its start time, so a process
 * that gets the pid later is never taken for it.
 *
 * When an attached process exits, one of its descendants takes its place. So a single pidfd is watched for
 * each attached process, however many descend from it, and yet the end of the last one is noticed at once. */

#define GONE_AT_ONCE 256 /* so many that have gone are forgotten in one turn */

static struct kin *find_pid(struct membership *m, pid_t pid)
{
        struct kin *k;

        HASH_FIND_INT(m->kin, &pid, k);
        return k;
}

struct kin *kin_find(struct membership *m, pid_t pid, uint64_t start_ticks)
{
        struct kin *k = find_pid(m, pid);

        return k && k->start_ticks == start_ticks ? k : NULL;
}

/* One that is found after its context was done has got no signal. Nor has whom it leaves behind, if it is
 * gone by the time that somebody wants to signal it. */
static void join(struct kin *k, struct attached *a)
{
        struct charge *members = &a->slot->members;

        k->attached = a;
        TAILQ_INSERT_TAIL(&a->kin, k, by_attached);
        a->n_kin++;
        charge_set(members, members->amount + 1);
        if (a->slot->signal || a->slot->kill)
                signals_later(a->membership, a->slot);
}

static void leave(struct kin *k)
{
        struct attached *a = k->attached;
        struct charge *members = &a->slot->members;

        member_looks_pass(a->membership, k);
        TAILQ_REMOVE(&a->kin, k, by_attached);
        a->n_kin--;
        if (members->amount > 0)
                charge_set(members, members->amount - 1);
}

void kin_drop(struct kin *k)
{
        leave(k);
        HASH_DEL(k->attached->membership->kin, k);
        free(k);
}

static void move(struct kin *k, struct attached *a)
{
        leave(k);
        join(k, a);
}

static bool has_exited(const struct kin *k)
{
        int pidfd = pidfd_open_process(k->pid);
        bool exited = pidfd < 0 ? pidfd == -ESRCH : proc_pidfd_exited(pidfd);

        if (pidfd >= 0)
                close(pidfd);
        return exited;
}

/* Those at which nobody has looked for the longest time come first. */
static void forget_gone(struct attached *a, uint32_t *budget)
{
        struct kin *k, *next;

        for (k = TAILQ_FIRST(&a->kin); k && *budget > 0; k = next, --*budget) {
                next = TAILQ_NEXT(k, by_attached);
                if (has_exited(k)) {
                        kin_drop(k);
                } else if (LIST_EMPTY(&a->membership->looks)) { /* which go along the list */
                        TAILQ_REMOVE(&a->kin, k, by_attached);
                        TAILQ_INSERT_TAIL(&a->kin, k, by_attached);
                }
        }
}

/* For each that is added two are asked whether they have exited, so that the dead are never many. */
int kin_add(struct attached *a, pid_t pid, const struct proc_stat *stat)
{
        struct membership *m = a->membership;
        struct kin *k = find_pid(m, pid);
        uint32_t few = 2;

        if (k && k->start_ticks == stat->start_ticks) {
                /* It was seen below another one that was attached. If its parent is the same as then, it is
                 * the parent that belongs to this one now. If not, it stays where it was. */
                if (k->attached != a && k->parent == stat->ppid)
                        move(k, a);
                return 0;
        }
        if (k)
                kin_drop(k);
        k = calloc(1, sizeof *k);
        if (!k)
                return -ENOMEM;
        k->pid = pid;
        k->parent = stat->ppid;
        k->start_ticks = stat->start_ticks;
        HASH_ADD_INT(m->kin, pid, k);
        if (!k->hh.tbl) {
                free(k);
                return -ENOMEM;
        }
        join(k, a);
        forget_gone(a, &few);
        return 0;
}

struct attached *attached_known(struct membership *m, pid_t pid, uint64_t start_ticks)
{
        struct attached *a = attached_find(m, pid);
        struct kin *k;

        if (a)
                return process_start_ticks(a->process) == start_ticks ? a : NULL;
        k = kin_find(m, pid, start_ticks);
        return k ? k->attached : NULL;
}

bool kin_follow(struct kin *k, const struct proc_stat *stat)
{
        struct membership *m = k->attached->membership;
        struct attached *a = attached_find(m, stat->ppid);
        const struct kin *parent = a ? NULL : find_pid(m, stat->ppid);
        struct proc_stat of_parent;

        if (stat->ppid != k->parent || (!a && !parent))
                return false;
        if ((a ? a : parent->attached) == k->attached || proc_stat_read(stat->ppid, &of_parent) < 0)
                return false;
        a = attached_known(m, stat->ppid, of_parent.start_ticks);
        if (!a || a == k->attached)
                return false;
        move(k, a);
        return true;
}

/* The processes from one up to an ancestor. */
struct way {
        unsigned n;
        struct step {
                pid_t pid;
                struct proc_stat stat;
        } steps[DEPTH_MAX];
};

/* Whether it is known to which attached process the last one belongs; *ret is NULL if that is none. */
static bool known_on_way(struct membership *m, const struct way *way, struct attached **ret)
{
        const struct step *last = &way->steps[way->n - 1];

        if (way->n > 1 && orphan_owner(m, last->pid, last->stat.start_ticks, last[-1].stat.start_ticks, ret))
                return true;
        *ret = attached_known(m, last->pid, last->stat.start_ticks);
        return *ret;
}

/* Goes to the parent of the last one. If that has exited since, the last one has another parent by now. 1: it
 * has gone on; 0: there is no parent that can be seen; or -errno. */
static int go_up(struct way *way)
{
        struct step *last = &way->steps[way->n - 1];
        struct proc_stat now;
        pid_t pid;
        int r;

        while ((pid = last->stat.ppid) > 0) {
                if (way->n == DEPTH_MAX)
                        return -ELOOP;
                r = proc_stat_read(pid, &last[1].stat);
                if (r < 0 && r != -ESRCH)
                        return r;
                /* A parent is not younger than its child. */
                if (r >= 0 && last[1].stat.start_ticks <= last->stat.start_ticks) {
                        last[1].pid = pid;
                        way->n++;
                        return 1;
                }
                r = proc_stat_read(last->pid, &now);
                if (r < 0 && r != -ESRCH)
                        return r;
                if (r < 0 || now.start_ticks != last->stat.start_ticks) {
                        if (way->n == 1)
                                return 0;
                        way->n--;
                        last--;
                } else if (now.ppid == pid) {
                        return 0; /* hidden from us */
                } else {
                        last->stat = now;
                }
        }
        return 0;
}

int kin_look_up(struct membership *m, pid_t pid, const struct proc_stat *stat, struct attached **ret)
{
        _cleanup_free_ struct way *way = malloc(sizeof *way);
        struct attached *a;
        int r;

        if (!way)
                return -ENOMEM;
        way->n = 1;
        way->steps[0] = (struct step){pid, *stat};
        while (!known_on_way(m, way, &a)) {
                /* Who is older than all that were attached does not descend from one. */
                if (way->steps[way->n - 1].stat.start_ticks < m->oldest_ticks)
                        return 0;
                r = go_up(way);
                if (r <= 0)
                        return r;
        }
        if (!a)
                return 0;
        /* All but the last one, which is known, or the reaper. */
        for (unsigned i = way->n - 1; i-- > 0;)
                if (kin_add(a, way->steps[i].pid, &way->steps[i].stat) < 0)
                        break;
        *ret = a;
        return 1;
}

void direct_forget_gone(struct member_slot *slot, uint32_t *budget)
{
        struct attached *a;

        LIST_FOREACH (a, &slot->attached, by_slot)
                forget_gone(a, budget);
}

int attached_succeed(struct membership *m, struct attached *a)
{
        struct process *p;
        struct kin *k;
        int r;

        for (unsigned n = 0; (k = TAILQ_FIRST(&a->kin)); n++) {
                if (n == GONE_AT_ONCE)
                        return -EAGAIN;
                r = process_acquire_pid(m->processes, k->pid, k->start_ticks, &p);
                if (r >= 0) {
                        r = attached_become(a, p);
                        process_unref(p);
                }
                if (r < 0 && r != -ESRCH)
                        return r;
                kin_drop(k);
                if (r >= 0)
                        return 1;
        }
        return 0;
}
