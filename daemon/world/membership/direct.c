/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/world/membership/direct.h"
#include "util/cleanup.h"
#include "util/proc.h"

/* Membership without the kernel's help. The attached processes are members, each known by its pidfd. If an
 * attached process has a control group of its own (cgroup.c), all processes in the group are members. If it
 * has none, all that descend from it are, as far as they were seen (kin.c). A context is drained when the
 * attached processes and their known kin have exited and their groups have emptied. Processes are counted
 * here, not threads.
 *
 * Whoever was forked and left behind between two looks was not seen. So this backend cannot promise that
 * nobody is left.
 *
 * A process that was attached itself is a member of its own context, and so are its descendants, even if they
 * are in the control group of another attached process. But that group is not empty before they have left it,
 * too. */

/* That an attached process costs: its own, and that of its control group. */
#define DESCRIPTORS 2
#define AGAIN_USEC 20000 /* after what has failed */

struct attached *attached_find(struct membership *m, pid_t pid)
{
        struct attached *a;

        HASH_FIND_INT(m->attached, &pid, a);
        return a;
}

static void forget_pid(struct attached *a)
{
        if (a->hh.tbl)
                HASH_DEL(a->membership->attached, a);
        a->hh.tbl = NULL;
}

void attached_drop(struct attached *a)
{
        struct membership *m = a->membership;

        while (!TAILQ_EMPTY(&a->kin))
                kin_drop(TAILQ_FIRST(&a->kin));
        member_looks_leave(m, a);
        attached_leave_reaper(a);
        sd_event_source_disable_unref(a->again);
        LIST_REMOVE(a, by_slot);
        forget_pid(a);
        own_cgroup_free(a->cgroup);
        m->n_in_groups -= a->is_in_group;
        process_ties(a->process)->attached = NULL;
        charge_deinit(&a->charge);
        process_unref(a->process);
        free(a);
}

/* It has exited, and nobody is left in its group. */
static void attached_end(struct membership *m, struct attached *a)
{
        struct member_slot *slot = a->slot;

        attached_drop(a);
        member_slot_look(m, slot);
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct attached *a = userdata;

        a->again = sd_event_source_disable_unref(a->again);
        process_exit_again(a->process);
        facts_wake(&a->membership->world->facts);
        return 0;
}

/* What it lacks, a descriptor or memory, may be there by then. */
static int try_later(struct attached *a)
{
        if (a->again)
                return 0;
        return sd_event_add_time_relative(
                        a->membership->world->event, &a->again, CLOCK_MONOTONIC, AGAIN_USEC, 1, on_again, a);
}

void attached_exited(struct membership *m, struct attached *a)
{
        int r;

        forget_pid(a);
        r = attached_succeed(m, a);
        if (r == 0 && (r = orphans_look(a)) > 0 && (r = attached_succeed(m, a)) == 0)
                r = -EAGAIN; /* there may be more */
        if (r < 0 && (r == -EAGAIN || try_later(a) < 0))
                process_exit_again(a->process);
        else if (r < 0)
                return;
        else if (r > 0 || (a->cgroup && own_cgroup_is_populated(a->cgroup)))
                member_slot_look(m, a->slot);
        else
                attached_end(m, a);
}

void attached_cgroup_emptied(struct membership *m, struct attached *a)
{
        a->cgroup = own_cgroup_free(a->cgroup);
        if (process_has_exited(a->process) && TAILQ_EMPTY(&a->kin))
                attached_end(m, a);
}

static int direct_slot_open(struct membership *m, struct member_slot *slot)
{
        return 0;
}

static bool direct_slot_close(struct membership *m, struct member_slot *slot)
{
        return LIST_EMPTY(&slot->attached);
}

int attached_become(struct attached *a, struct process *p)
{
        struct membership *m = a->membership;
        bool is_first = !m->attached && !m->kin;
        int r;

        r = process_watch(p);
        if (r < 0)
                return r;
        a->pid = process_pid(p);
        HASH_ADD_INT(m->attached, pid, a);
        if (!a->hh.tbl)
                return -ENOMEM;
        if (is_first || process_start_ticks(p) < m->oldest_ticks)
                m->oldest_ticks = process_start_ticks(p);
        if (a->process)
                process_ties(a->process)->attached = NULL;
        process_unref(a->process);
        a->process = process_ref(p);
        process_ties(p)->attached = a;
        return 0;
}

static int attached_new(struct membership *m, struct process *p, struct attached **ret)
{
        struct attached *a = calloc(1, sizeof *a);
        int r;

        if (!a)
                return -ENOMEM;
        a->membership = m;
        TAILQ_INIT(&a->kin);
        r = attached_become(a, p);
        if (r < 0) {
                free(a);
                return r;
        }
        *ret = a;
        return 0;
}

static int direct_attach(struct membership *m, struct member_slot *slot, struct process *p, uint32_t policy,
                int *ret_resource)
{
        struct attached *a = process_ties(p)->attached;
        struct user *user = slot->charge.user;
        struct charge charge = {};
        struct kin *k;
        int r;

        if (!a || a->charge.user != user) {
                *ret_resource = RESOURCE_DESCRIPTORS;
                r = charge_init(&charge, user->users, user, RESOURCE_DESCRIPTORS,
                                DESCRIPTORS + (a && a->reaper));
                if (r < 0)
                        return r;
        }
        if (a) {
                member_looks_leave(m, a);
                LIST_REMOVE(a, by_slot);
        } else {
                r = attached_new(m, p, &a);
                if (r < 0) {
                        charge_deinit(&charge);
                        return r;
                }
                k = kin_find(m, process_pid(p), process_start_ticks(p));
                if (k)
                        kin_drop(k);
        }
        if (charge.user) {
                charge_deinit(&a->charge);
                a->charge = charge;
        }
        a->slot = slot;
        a->policy = policy;
        LIST_INSERT_HEAD(&slot->attached, a, by_slot);
        if (!a->cgroup)
                a->cgroup = own_cgroup_new(m, a, p);
        if (!a->cgroup && !a->is_in_group && own_cgroup_owner(m, process_pid(p))) {
                a->is_in_group = true;
                m->n_in_groups++;
        }
        return 0;
}

bool attached_takes(struct membership *m, const struct attached *a, const struct proc_stat *stat)
{
        struct attached *above = attached_find(m, stat->ppid), *owner;
        /* Most groups hold nobody who was attached elsewhere. */
        bool are_mixed = m->n_in_groups > 0 || m->has_parted;
        struct proc_stat child = *stat, parent;
        pid_t pid = stat->ppid;

        if (above) {
                uint64_t start_ticks = process_start_ticks(above->process);

                if (orphan_owner(m, pid, start_ticks, stat->start_ticks, &owner) && !owner)
                        return false;
                return above == a || start_ticks > stat->start_ticks;
        }
        for (unsigned n = 0; are_mixed && n < DEPTH_MAX && pid > 0; n++, pid = parent.ppid) {
                if (proc_stat_read(pid, &parent) < 0)
                        break;
                if (orphan_owner(m, pid, parent.start_ticks, child.start_ticks, &owner) && !owner)
                        return false;
                child = parent;
                above = attached_known(m, pid, parent.start_ticks);
                if (above)
                        return above == a;
        }
        return true;
}

struct attached *attached_by_group(struct membership *m, pid_t pid, const struct proc_stat *stat)
{
        struct attached *a = m->cgroups ? own_cgroup_owner(m, pid) : NULL;

        return a && attached_takes(m, a, stat) ? a : NULL;
}

/* 1: *ret is the attached process to which one that was not attached itself belongs; 0: there is none; or
 * -errno. */
static int belongs_to(struct membership *m, pid_t pid, const struct proc_stat *stat, struct attached **ret)
{
        int r;

        *ret = attached_by_group(m, pid, stat);
        if (*ret)
                return 1;
        r = kin_look_up(m, pid, stat, ret);
        if (r != 0)
                return r;
        /* A process that was put into another group when it was born is still its parent's child. */
        *ret = own_cgroup_owner(m, stat->ppid);
        return *ret ? 1 : 0;
}

bool direct_is_counted(struct membership *m, struct process *p)
{
        return process_ties(p)->attached || kin_find(m, process_pid(p), process_start_ticks(p));
}

static int direct_look_up(
                struct membership *m, struct process *p, struct member_slot **ret, uint32_t *ret_policy)
{
        struct attached *a = process_ties(p)->attached;
        struct proc_stat stat;
        int r;

        if (!a && (m->attached || m->kin || m->cgroups)) {
                r = proc_stat_read(process_pid(p), &stat);
                if (r == -ESRCH || (r >= 0 && stat.start_ticks != process_start_ticks(p)))
                        return 0;
                if (r >= 0)
                        r = belongs_to(m, process_pid(p), &stat, &a);
                if (r < 0)
                        return r;
        }
        if (!a)
                return 0;
        *ret = a->slot;
        *ret_policy = a->policy;
        return 1;
}

static void direct_set_done(struct membership *m, struct member_slot *slot) {}

/* One that has exited counts as long as it is not known whether it has left somebody behind. */
static uint32_t direct_live(struct membership *m, struct member_slot *slot)
{
        struct attached *a;
        uint32_t n = 0;

        LIST_FOREACH (a, &slot->attached, by_slot)
                n += 1 + a->n_kin;
        return n;
}

const struct membership_backend membership_direct = {
                .name = "direct",
                .slot_open = direct_slot_open,
                .slot_close = direct_slot_close,
                .attach = direct_attach,
                .look_up = direct_look_up,
                .set_done = direct_set_done,
                .live = direct_live,
                .look = direct_look,
                .look_stop = direct_look_stop,
};
