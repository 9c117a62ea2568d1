/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/world/internal.h"
#include "util/proc.h"
#include "util/cleanup.h"

/* Members without the kernel's help: the processes that were attached, each known by its pidfd, and all that are in
 * their control groups, where they have one of their own (membership-cgroup.c); of those that have none, whenever
 * somebody asks, their children of that moment. A context is drained when the attached processes have exited and
 * their groups have emptied; counts are of processes.
 *
 * A process that was attached by itself is a member of its own context, and its children with it, in whose group
 * they may be. But that group has not emptied before they have left it as well. */

struct attached {
        struct process *process; /* a reference, watched */
        struct own_cgroup *cgroup;
        struct member_slot *slot;
        uint32_t policy;
        pid_t pid; /* the key, until it exits */
        struct charge charge;
        LIST_ENTRY(attached) by_slot;
        UT_hash_handle hh;
};

static struct attached *attached_find(struct effects *e, pid_t pid)
{
        struct attached *a;

        HASH_FIND_INT(e->membership.attached, &pid, a);
        return a;
}

static void forget_pid(struct attached *a)
{
        if (a->hh.tbl)
                HASH_DEL(a->process->effects->membership.attached, a);
        a->hh.tbl = NULL;
}

void attached_drop(struct attached *a)
{
        LIST_REMOVE(a, by_slot);
        forget_pid(a);
        own_cgroup_free(a->cgroup);
        a->process->attached = NULL;
        charge_deinit(&a->charge);
        process_unref(a->process);
        free(a);
}

void attached_free(struct effects *e, struct attached *a)
{
        struct member_slot *slot = a->slot;

        attached_drop(a);
        membership_look(e, slot);
}

void attached_exited(struct effects *e, struct attached *a)
{
        forget_pid(a);
        if (a->cgroup && own_cgroup_populated(a->cgroup))
                membership_look(e, a->slot);
        else
                attached_free(e, a);
}

void attached_looked_at(struct effects *e, struct attached *a)
{
        a->cgroup = own_cgroup_free(a->cgroup);
        if (a->process->exited)
                attached_free(e, a);
}

static int direct_slot_open(struct effects *e, struct member_slot *slot)
{
        return 0;
}

static bool direct_slot_close(struct effects *e, struct member_slot *slot)
{
        return LIST_EMPTY(&slot->attached);
}

static int attached_new(struct effects *e, struct member_slot *slot, struct process *p,
                struct refused *ret_refused, struct attached **ret)
{
        struct attached *a = calloc(1, sizeof *a);
        int r;

        if (!a)
                return -ENOMEM;
        r = tree_charge(e->tree, &a->charge, slot->context->user, RESOURCE_MEMBERS, 1, ret_refused);
        if (r < 0) {
                free(a);
                return r;
        }
        r = process_watch(p);
        if (r < 0)
                goto fail;
        a->pid = p->identity.pid;
        HASH_ADD_INT(e->membership.attached, pid, a);
        if (!a->hh.tbl) {
                r = -ENOMEM;
                goto fail;
        }
        a->process = process_ref(p);
        p->attached = a;
        *ret = a;
        return 0;
fail:
        charge_deinit(&a->charge);
        free(a);
        return r;
}

static int direct_attach(struct effects *e, struct member_slot *slot, struct process *p, uint32_t policy,
                struct refused *ret_refused)
{
        struct attached *a = p->attached;
        struct member_slot *from = NULL;
        int r;

        if (a) {
                from = a->slot;
                LIST_REMOVE(a, by_slot);
        } else {
                r = attached_new(e, slot, p, ret_refused, &a);
                if (r < 0)
                        return r;
        }
        a->slot = slot;
        a->policy = policy;
        LIST_INSERT_HEAD(&slot->attached, a, by_slot);
        if (!a->cgroup)
                a->cgroup = own_cgroup_new(e, a, p);
        if (from)
                membership_look(e, from);
        return 0;
}

/* Of a process that was not attached by itself. */
static struct attached *belongs_to(struct effects *e, pid_t pid, const struct proc_stat *stat)
{
        struct attached *a = attached_find(e, stat->ppid);

        if (a && a->process->identity.start_ticks <= stat->start_ticks)
                return a;
        a = own_cgroup_owner(e, pid);
        /* One that was put elsewhere as it was born is its parent's child all the same. */
        return a ? a : own_cgroup_owner(e, stat->ppid);
}

static struct member_slot *direct_look_up(struct effects *e, struct process *p, uint32_t *ret_policy)
{
        struct attached *a = p->attached;
        struct proc_stat stat;

        if (!a) {
                if (proc_stat_read(p->identity.pid, &stat) < 0 || stat.start_ticks != p->identity.start_ticks)
                        return NULL;
                a = belongs_to(e, p->identity.pid, &stat);
        }
        if (!a)
                return NULL;
        *ret_policy = a->policy;
        return a->slot;
}

static void direct_set_done(struct effects *e, struct member_slot *slot) {}

struct visit {
        struct effects *effects;
        struct attached *attached;
        member_cb cb;
        void *userdata;
        bool found; /* the attached one itself, in its group */
};

/* It may have left somebody behind, whom we have not seen. */
static int gone(struct effects *e)
{
        e->membership.restless = true;
        return 0;
}

static int tell(struct visit *v, pid_t pid, const struct proc_stat *stat)
{
        struct member_record record = {
                        .slot = v->attached->slot,
                        .policy = v->attached->policy,
                        .pid = (uint32_t) pid,
                        .tid = (uint32_t) pid,
                        .ppid = (uint32_t) stat->ppid,
                        .start_nsec = proc_ticks_to_nsec(stat->start_ticks),
                        .comm = stat->comm,
        };

        if (proc_is_dead(stat))
                return 0;
        if (proc_status_read(pid, record.uids, NULL) < 0)
                return gone(v->effects);
        record.leader_start_nsec = record.start_nsec;
        return v->cb(v->userdata, &record);
}

static int visit_itself(struct visit *v)
{
        const struct process *p = v->attached->process;
        struct proc_stat stat;

        if (p->exited || proc_stat_read(p->identity.pid, &stat) < 0 ||
                        stat.start_ticks != p->identity.start_ticks)
                return 0;
        return tell(v, p->identity.pid, &stat);
}

static int visit_child(void *userdata, pid_t pid)
{
        struct visit *v = userdata;
        struct proc_stat stat;

        if (attached_find(v->effects, pid))
                return 0;
        if (proc_stat_read(pid, &stat) < 0)
                return gone(v->effects);
        if (v->attached->cgroup && own_cgroup_owner(v->effects, pid) == v->attached)
                return 0; /* it stayed there when its parent was moved */
        return tell(v, pid, &stat);
}

static int visit_in_cgroup(void *userdata, pid_t pid)
{
        struct visit *v = userdata;
        struct proc_stat stat;
        struct attached *a;

        if (pid == v->attached->process->identity.pid && !v->attached->process->exited) {
                v->found = true;
                return visit_itself(v);
        }
        if (attached_find(v->effects, pid))
                return 0;
        if (proc_stat_read(pid, &stat) < 0 || proc_is_dead(&stat)) /* only just: such are not listed */
                return gone(v->effects);
        a = attached_find(v->effects, stat.ppid);
        if (a && a != v->attached && a->process->identity.start_ticks <= stat.start_ticks)
                return 0; /* that one's child */
        return tell(v, pid, &stat);
}

static int attached_each(struct visit *v)
{
        struct attached *a = v->attached;
        int r = 0;

        if (a->cgroup)
                r = own_cgroup_each(a->cgroup, visit_in_cgroup, v);
        if (r != 0 || a->process->exited || v->found)
                return r;
        /* Children first: a parent that gets a signal can no longer be asked for them. */
        r = proc_each_child(a->process->identity.pid, visit_child, v);
        return r != 0 ? r : visit_itself(v);
}

static int slot_each(struct effects *e, struct member_slot *slot, member_cb cb, void *userdata)
{
        struct attached *a;
        int r;

        LIST_FOREACH (a, &slot->attached, by_slot) {
                struct visit v = {.effects = e, .attached = a, .cb = cb, .userdata = userdata};

                r = attached_each(&v);
                if (r != 0)
                        return r;
        }
        return 0;
}

static int direct_each(struct effects *e, member_cb cb, void *userdata)
{
        struct member_slot *slot, *next;
        int r;

        HASH_ITER (hh, e->membership.by_id, slot, next) {
                r = slot->context ? slot_each(e, slot, cb, userdata) : 0;
                if (r != 0)
                        return r;
        }
        return 0;
}

static uint32_t direct_live(struct effects *e, struct member_slot *slot)
{
        struct attached *a;
        uint32_t n = 0;

        LIST_FOREACH (a, &slot->attached, by_slot)
                n += !a->process->exited || (a->cgroup && own_cgroup_populated(a->cgroup));
        return n;
}

static int count_one(void *userdata, const struct member_record *record)
{
        (*(uint32_t *) userdata)++;
        return 0;
}

static uint32_t direct_count(struct effects *e, struct member_slot *slot)
{
        uint32_t n = 0;

        (void) slot_each(e, slot, count_one, &n);
        return n;
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

size_t direct_pids(struct effects *e, struct member_slot *slot, uint32_t *pids, size_t n)
{
        struct pids list = {.pids = pids, .max = n};
        struct attached *a;

        LIST_FOREACH (a, &slot->attached, by_slot) {
                struct visit v = {.effects = e, .attached = a, .cb = add_pid, .userdata = &list};

                if (a->cgroup)
                        (void) own_cgroup_each(a->cgroup, visit_in_cgroup, &v);
                if (!v.found)
                        (void) visit_itself(&v);
        }
        return list.n;
}

const struct membership_backend membership_direct = {
                .name = "direct",
                .slot_open = direct_slot_open,
                .slot_close = direct_slot_close,
                .attach = direct_attach,
                .look_up = direct_look_up,
                .set_done = direct_set_done,
                .live = direct_live,
                .count = direct_count,
                .each = direct_each,
};
