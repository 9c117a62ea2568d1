/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "daemon/world/membership/direct.h"
#include "daemon/world/membership/see.h"
#include "util/proc-reader.h"
#include "util/proc.h"

/* Looks at the members of slots where the kernel does not know them: at the processes in the control group of
 * each attached process, at all that descend from it, and at itself. The walk over the descendants goes along
 * the list of those that are known, to the end of which the children of each are added: so nothing recurses,
 * and who was seen once is met again, whatever has become of its parent. */

/* A process has gone while we looked. It may have left children behind that we have not seen. */
static int gone(struct member_look *l)
{
        l->is_restless = true;
        return 0;
}

/* It has gone, or cannot be read, or not now. */
static int unread(struct member_look *l, int r)
{
        if (r == -EBUSY) {
                l->is_unread = true;
                return 0;
        }
        return r == -ESRCH ? gone(l) : r;
}

static int tell(struct member_look *l, pid_t pid, const struct member_seen *seen)
{
        const struct proc_stat *stat = &seen->stat;
        struct member_record record = {
                        .slot = l->attached->slot,
                        .policy = l->attached->policy,
                        .pid = (uint32_t) pid,
                        .tid = (uint32_t) pid,
                        .ppid = (uint32_t) stat->ppid,
                        .start_nsec = proc_ticks_to_nsec(stat->start_ticks),
                        .comm = stat->comm,
        };

        if (proc_is_dead(stat))
                return 0;
        if (l->wants_uids)
                memcpy(record.uids, seen->status.uids, sizeof record.uids);
        record.leader_start_nsec = record.start_nsec;
        return l->cb(l->userdata, &record);
}

/* A member that cannot be looked at now is told of all the same, as it was when it was seen. So it gets its
 * signal, if it is known for certain (signals-send.c). */
static int tell_unseen(struct member_look *l, pid_t pid, pid_t parent, uint64_t start_ticks)
{
        struct member_seen seen = {
                        .stat = {.state = 'D', .n_threads = 1, .ppid = parent, .start_ticks = start_ticks}};

        member_see_some(pid, &seen);
        return tell(l, pid, &seen);
}

/* A child that was never seen has no start time, and is a member only as long as its parent has it. */
static int tell_unseen_child(struct member_look *l, pid_t pid)
{
        struct attached *a = l->attached, *owner;
        pid_t parent = l->kin ? l->kin->pid : process_pid(a->process);
        struct member_seen seen = {.stat = {.state = 'D', .n_threads = 1, .ppid = parent}};

        l->is_unread = true;
        member_see_some(pid, &seen);
        if (seen.status.ppid != parent)
                return 0;
        if (orphan_owner(a->membership, parent,
                            l->kin ? l->kin->start_ticks : process_start_ticks(a->process), UINT64_MAX,
                            &owner) &&
                        owner != a)
                return 0;
        return tell(l, pid, &seen);
}

static int visit_itself(struct member_look *l)
{
        const struct process *p = l->attached->process;
        struct member_seen seen;
        int r;

        if (process_has_exited(p))
                return 0;
        r = member_see(process_pid(p), l->wants_uids, &seen);
        if (r == -EBUSY && !proc_pidfd_exited(process_pidfd(p)))
                return tell_unseen(l, process_pid(p), 0, process_start_ticks(p));
        if (r < 0)
                return unread(l, r);
        if (seen.stat.start_ticks != process_start_ticks(p) || proc_is_dead(&seen.stat))
                return gone(l);
        return tell(l, process_pid(p), &seen);
}

/* A child of the attached process, or of one of its kin. If it is new, it has its turn at the end. */
static int visit_child(struct member_look *l, pid_t pid)
{
        struct attached *a = l->attached, *owner;
        struct membership *m = a->membership;
        struct proc_stat stat;
        struct kin *k;
        int r;

        if (attached_find(m, pid))
                return 0;
        HASH_FIND_INT(m->kin, &pid, k);
        if (k && k->attached == a)
                return 0;
        /* It may have become another's child since the list was read, or its pid another process's. */
        r = proc_stat_read(pid, &stat);
        if (r == -EBUSY)
                return tell_unseen_child(l, pid);
        if (r < 0)
                return unread(l, r);
        if (stat.ppid != (l->kin ? l->kin->pid : process_pid(a->process)))
                return gone(l);
        if (proc_is_dead(&stat)) {
                l->dead += dead_sum(pid, &stat);
                return 0;
        }
        /* In a group it is met with that. */
        if (attached_by_group(m, pid, &stat))
                return 0;
        if (!orphan_owner(m, stat.ppid, l->kin ? l->kin->start_ticks : process_start_ticks(a->process),
                            stat.start_ticks, &owner))
                owner = a;
        return owner ? kin_add(owner, pid, &stat) : 0;
}

static void next_kin(struct member_look *l)
{
        if (l->phase == LOOK_CHILDREN)
                child_list_close(&l->children);
        l->kin = l->kin ? TAILQ_NEXT(l->kin, by_attached) : TAILQ_FIRST(&l->attached->kin);
        l->phase = l->kin ? LOOK_KIN : LOOK_ITSELF;
}

static int visit_next_child(struct member_look *l)
{
        struct proc_stat stat;
        pid_t pid;
        int r = child_list_next(&l->children, &pid);

        if (r == 0) {
                /* Whoever has no parent any more has become another's child. */
                if (l->kin && l->is_thorough &&
                                (proc_stat_read(l->kin->pid, &stat) < 0 || proc_is_dead(&stat)))
                        l->is_restless = true;
                next_kin(l);
        }
        return r > 0 ? visit_child(l, pid) : r;
}

/* Tells of it, and goes on with its children. */
static int visit_kin(struct member_look *l)
{
        struct kin *k = l->kin;
        struct membership *m = k->attached->membership;
        struct member_seen seen = {};
        int r;

        r = member_see(k->pid, l->wants_uids, &seen);
        if (r < 0 && r != -ESRCH && r != -EBUSY)
                return r;
        if (r != -EBUSY && (r < 0 || seen.stat.start_ticks != k->start_ticks || proc_is_dead(&seen.stat) ||
                                           attached_by_group(m, k->pid, &seen.stat))) {
                kin_drop(k); /* which goes on with the next one */
                return 0;
        }
        if (r >= 0 && kin_follow(k, &seen.stat))
                return 0;
        r = r >= 0 ? tell(l, k->pid, &seen) : tell_unseen(l, k->pid, k->parent, k->start_ticks);
        if (r != 0 || l->without_children) {
                next_kin(l);
                return r;
        }
        l->phase = LOOK_CHILDREN;
        r = child_list_open(&l->children, k->pid, seen.stat.n_threads == 1);
        return r < 0 ? r : visit_next_child(l); /* most have none */
}

void member_looks_pass(struct membership *m, struct kin *k)
{
        struct member_look *l;

        LIST_FOREACH (l, &m->looks, looks) {
                /* It had its turn before it, or never will. */
                l->is_restless |= l->attached == k->attached;
                if (l->kin == k)
                        next_kin(l);
        }
}

static int visit_in_group(struct member_look *l, pid_t pid)
{
        struct attached *a = l->attached;
        struct membership *m = a->membership;
        struct member_seen seen;
        int r;

        if (pid == process_pid(a->process) && !process_has_exited(a->process)) {
                l->found = true;
                return visit_itself(l);
        }
        if (attached_find(m, pid))
                return 0;
        /* If it is dead, it has died only now, because the group does not list dead processes. */
        r = member_see(pid, l->wants_uids, &seen);
        if (r == -EBUSY)
                return unread(l, r);
        if (r < 0 || proc_is_dead(&seen.stat))
                return gone(l);
        return attached_takes(m, a, &seen.stat) ? tell(l, pid, &seen) : 0;
}

void direct_look_stop(struct member_look *l)
{
        if (l->phase == LOOK_GROUP)
                group_list_close(&l->group);
        else if (l->phase == LOOK_CHILDREN || l->phase == LOOK_ORPHANS)
                child_list_close(&l->children);
        l->phase = LOOK_BEGIN;
        l->kin = NULL;
        l->found = false;
}

static void next_attached(struct member_look *l)
{
        direct_look_stop(l);
        l->attached = LIST_NEXT(l->attached, by_slot);
}

void member_looks_leave(struct membership *m, struct attached *a)
{
        struct member_look *l;

        LIST_FOREACH (l, &m->looks, looks)
                if (l->attached == a) {
                        l->is_restless = true;
                        next_attached(l);
                }
}

static int begin_group(struct member_look *l)
{
        if (!l->attached->cgroup)
                return 0;
        l->phase = LOOK_GROUP;
        return group_list_open(&l->group, own_cgroup_directory(l->attached->cgroup));
}

static void begin_dead(struct member_look *l, uint64_t before)
{
        l->dead = 0;
        l->dead_before = before;
}

static void end_dead(struct member_look *l, uint64_t *ret)
{
        if (l->without_children)
                return;
        l->is_restless |= l->dead != l->dead_before;
        *ret = l->dead;
}

static int begin_children(struct member_look *l)
{
        const struct process *p = l->attached->process;
        bool found = l->found;

        direct_look_stop(l);
        l->found = found;
        begin_dead(l, l->attached->dead);
        if (process_has_exited(p) || found || l->without_children) {
                next_kin(l);
                return 0;
        }
        l->phase = LOOK_CHILDREN;
        return child_list_open(&l->children, process_pid(p), false);
}

static int begin_orphans(struct member_look *l)
{
        bool found = l->found;
        int r;

        direct_look_stop(l);
        l->found = found;
        r = l->without_children ? 0 : orphans_open(l->attached, &l->children);
        begin_dead(l, l->attached->dead_orphans);
        if (r > 0)
                l->phase = LOOK_ORPHANS;
        return r == 0 ? begin_children(l) : r < 0 ? r : 0;
}

/* Makes one step at the attached process. */
static int step(struct member_look *l)
{
        pid_t pid;
        int r;

        switch (l->phase) {
        case LOOK_BEGIN:
                r = begin_group(l);
                return r < 0 || l->phase == LOOK_GROUP ? r : begin_orphans(l);
        case LOOK_GROUP:
                r = group_list_next(&l->group, &pid);
                return r > 0 ? visit_in_group(l, pid) : r < 0 ? r : begin_orphans(l);
        case LOOK_ORPHANS:
                r = child_list_next(&l->children, &pid);
                if (r == 0) {
                        end_dead(l, &l->attached->dead_orphans);
                        return begin_children(l);
                }
                if (r > 0)
                        r = orphan_visit(l->attached, pid, &l->dead);
                return r < 0 ? unread(l, r) : 0;
        case LOOK_CHILDREN:
                return visit_next_child(l);
        case LOOK_KIN:
                return visit_kin(l);
        case LOOK_ITSELF:
                r = l->found ? 0 : visit_itself(l);
                end_dead(l, &l->attached->dead);
                next_attached(l);
                return r;
        }
        return 0;
}

int direct_look(struct membership *m, struct member_look *l, uint32_t *budget)
{
        uint64_t waited_usec = proc_reader_waited_usec();
        struct member_slot *slot;
        int r;

        for (; *budget > 0; --*budget) {
                if (proc_reader_waited_usec() - waited_usec > LOOK_WAIT_USEC)
                        *budget = 1; /* for the last one */
                while (!l->attached) {
                        slot = member_look_next_slot(m, l);
                        if (!slot)
                                return 1;
                        l->attached = LIST_FIRST(&slot->attached);
                }
                r = step(l);
                if (r != 0 && r != -EAGAIN)
                        return r;
        }
        return 0;
}

struct pids {
        uint32_t *pids;
        size_t n, max;
};

static int add_pid(void *userdata, const struct member_record *record)
{
        struct pids *list = userdata;

        if (list->n == list->max)
                return 1;
        list->pids[list->n++] = record->pid;
        return 0;
}

size_t membership_pids(struct membership *m, struct anchor *anchor, uint32_t *pids, size_t n)
{
        struct pids list = {.pids = pids, .max = n};
        struct member_look l = {.cb = add_pid, .userdata = &list, .without_children = true};
        uint32_t budget = (uint32_t) n * 2;

        membership_want(m, anchor);
        if (member_look_begin(m, &l) >= 0)
                (void) member_look_go(m, &l, &budget);
        member_look_end(&l);
        return list.n;
}
