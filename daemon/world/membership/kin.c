/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/world/membership/direct.h"
#include "util/proc.h"

/* The descendants of attached processes, as far as they were seen. One that was seen stays known when its
 * parent has exited, and it is another's child. Each is known by its pid and its start time, so a process
 * that gets the pid later is never taken for it.
 *
 * When an attached process exits, one of its descendants takes its place. So a single pidfd is watched for
 * each attached process, however many descend from it, and yet the end of the last one is noticed at once. */

#define DEPTH_MAX 64     /* so many ancestors of a process are looked at */
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

static void join(struct kin *k, struct attached *a)
{
        struct charge *members = &a->slot->members;

        k->attached = a;
        TAILQ_INSERT_TAIL(&a->kin, k, by_attached);
        a->n_kin++;
        charge_set(members, members->amount + 1);
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

int kin_add(struct attached *a, pid_t pid, const struct proc_stat *stat)
{
        struct membership *m = a->membership;
        struct kin *k = find_pid(m, pid);

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
        return 0;
}

/* The attached process to which that one belongs, which was attached or seen; or NULL. */
static struct attached *known(struct membership *m, pid_t pid, uint64_t start_ticks)
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
        a = known(m, stat->ppid, of_parent.start_ticks);
        if (!a || a == k->attached)
                return false;
        move(k, a);
        return true;
}

struct attached *kin_look_up(struct membership *m, pid_t pid, const struct proc_stat *stat)
{
        struct {
                pid_t pid;
                struct proc_stat stat;
        } way[DEPTH_MAX];
        struct attached *a = NULL;
        unsigned n = 0;

        way[0].pid = pid;
        way[0].stat = *stat;
        /* Who is older than all that were attached does not descend from one. */
        while (!(n > 0 && (a = orphan_owner(m, way[n].pid, way[n].stat.start_ticks,
                                           way[n - 1].stat.start_ticks))) &&
                        !(a = known(m, way[n].pid, way[n].stat.start_ticks))) {
                pid = way[n].stat.ppid;
                if (++n == DEPTH_MAX || pid <= 1 || way[n - 1].stat.start_ticks < m->oldest_ticks ||
                                proc_stat_read(pid, &way[n].stat) < 0)
                        return NULL;
                way[n].pid = pid;
        }
        while (n-- > 0)
                if (kin_add(a, way[n].pid, &way[n].stat) < 0)
                        break;
        return a;
}

static bool has_exited(const struct kin *k)
{
        int pidfd = pidfd_open_process(k->pid);
        bool exited = pidfd < 0 ? pidfd == -ESRCH : proc_pidfd_exited(pidfd);

        if (pidfd >= 0)
                close(pidfd);
        return exited;
}

void direct_forget_gone(struct member_slot *slot, uint32_t *budget)
{
        struct attached *a;
        struct kin *k, *next;

        LIST_FOREACH (a, &slot->attached, by_slot)
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
