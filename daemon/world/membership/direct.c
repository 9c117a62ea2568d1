/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/world/membership/internal.h"
#include "util/cleanup.h"
#include "util/proc.h"

/* Membership without the kernel's help. The attached processes are members, each known by its pidfd. If an
 * attached process has a control group of its own (cgroup.c), all processes in the group are members. If it
 * has none, its children are, but only those that it has when somebody asks. A context is drained when the
 * attached processes have exited and their groups have emptied. Processes are counted here, not threads.
 *
 * A process that was attached itself is a member of its own context, and so are its children, even if they
 * are in the control group of another attached process. But that group is not empty before they have left it,
 * too. */

/* That an attached process costs: its own, and that of its control group. */
#define DESCRIPTORS 2

struct attached {
        struct membership *membership;
        struct process *process; /* a reference, watched */
        struct own_cgroup *cgroup;
        struct member_slot *slot;
        uint32_t policy;
        pid_t pid;            /* the key of the table, in which it stays until it exits */
        struct charge charge; /* of descriptors */
        LIST_ENTRY(attached) by_slot;
        UT_hash_handle hh;
};

static struct attached *attached_find(struct membership *m, pid_t pid)
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
        LIST_REMOVE(a, by_slot);
        forget_pid(a);
        own_cgroup_free(a->cgroup);
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

void attached_exited(struct membership *m, struct attached *a)
{
        forget_pid(a);
        if (a->cgroup && own_cgroup_is_populated(a->cgroup))
                member_slot_look(m, a->slot);
        else
                attached_end(m, a);
}

void attached_cgroup_emptied(struct membership *m, struct attached *a)
{
        a->cgroup = own_cgroup_free(a->cgroup);
        if (process_has_exited(a->process))
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

static int attached_new(struct membership *m, struct process *p, struct attached **ret)
{
        struct attached *a = calloc(1, sizeof *a);
        int r;

        if (!a)
                return -ENOMEM;
        r = process_watch(p);
        if (r < 0)
                goto fail;
        a->membership = m;
        a->pid = process_pid(p);
        HASH_ADD_INT(m->attached, pid, a);
        if (!a->hh.tbl) {
                r = -ENOMEM;
                goto fail;
        }
        a->process = process_ref(p);
        process_ties(p)->attached = a;
        *ret = a;
        return 0;
fail:
        free(a);
        return r;
}

static int direct_attach(struct membership *m, struct member_slot *slot, struct process *p, uint32_t policy,
                int *ret_resource)
{
        struct attached *a = process_ties(p)->attached;
        struct user *user = slot->charge.user;
        struct charge charge = {};
        int r;

        if (!a || a->charge.user != user) {
                *ret_resource = RESOURCE_DESCRIPTORS;
                r = charge_init(&charge, user->users, user, RESOURCE_DESCRIPTORS, DESCRIPTORS);
                if (r < 0)
                        return r;
        }
        if (a) {
                LIST_REMOVE(a, by_slot);
        } else {
                r = attached_new(m, p, &a);
                if (r < 0) {
                        charge_deinit(&charge);
                        return r;
                }
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
        return 0;
}

/* The attached process to which one that was not attached itself belongs, or NULL. */
static struct attached *belongs_to(struct membership *m, pid_t pid, const struct proc_stat *stat)
{
        struct attached *a = attached_find(m, stat->ppid);

        if (a && process_start_ticks(a->process) <= stat->start_ticks)
                return a;
        a = own_cgroup_owner(m, pid);
        /* A process that was put into another group when it was born is still its parent's child. */
        return a ? a : own_cgroup_owner(m, stat->ppid);
}

static struct member_slot *direct_look_up(struct membership *m, struct process *p, uint32_t *ret_policy)
{
        struct attached *a = process_ties(p)->attached;
        struct proc_stat stat;

        if (!a) {
                if (proc_stat_read(process_pid(p), &stat) < 0 || stat.start_ticks != process_start_ticks(p))
                        return NULL;
                a = belongs_to(m, process_pid(p), &stat);
        }
        if (!a)
                return NULL;
        *ret_policy = a->policy;
        return a->slot;
}

static void direct_set_done(struct membership *m, struct member_slot *slot) {}

static void direct_want(struct membership *m, struct member_slot *slot, bool wanted) {}

struct visit {
        struct membership *membership;
        struct attached *attached;
        member_cb cb;
        void *userdata;
        bool found; /* the attached process was seen in its own group */
};

/* A process has gone while we looked. It may have left children behind that we have not seen. */
static int gone(struct membership *m)
{
        m->is_restless = true;
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
                return gone(v->membership);
        record.leader_start_nsec = record.start_nsec;
        return v->cb(v->userdata, &record);
}

static int visit_itself(struct visit *v)
{
        const struct process *p = v->attached->process;
        struct proc_stat stat;

        if (process_has_exited(p) || proc_stat_read(process_pid(p), &stat) < 0 ||
                        stat.start_ticks != process_start_ticks(p))
                return 0;
        return tell(v, process_pid(p), &stat);
}

static int visit_child(void *userdata, pid_t pid)
{
        struct visit *v = userdata;
        struct proc_stat stat;

        if (attached_find(v->membership, pid))
                return 0;
        if (proc_stat_read(pid, &stat) < 0)
                return gone(v->membership);
        /* It stayed in the group when its parent was moved out, and the walk over the group has seen it. */
        if (v->attached->cgroup && own_cgroup_owner(v->membership, pid) == v->attached)
                return 0;
        return tell(v, pid, &stat);
}

static int visit_in_cgroup(void *userdata, pid_t pid)
{
        struct visit *v = userdata;
        struct proc_stat stat;
        struct attached *a;

        if (pid == process_pid(v->attached->process) && !process_has_exited(v->attached->process)) {
                v->found = true;
                return visit_itself(v);
        }
        if (attached_find(v->membership, pid))
                return 0;
        /* If it is dead, it has died only now, because the group does not list dead processes. */
        if (proc_stat_read(pid, &stat) < 0 || proc_is_dead(&stat))
                return gone(v->membership);
        /* The child of another attached process belongs to that one. */
        a = attached_find(v->membership, stat.ppid);
        if (a && a != v->attached && process_start_ticks(a->process) <= stat.start_ticks)
                return 0;
        return tell(v, pid, &stat);
}

static int attached_each(struct visit *v)
{
        struct attached *a = v->attached;
        int r = 0;

        if (a->cgroup)
                r = own_cgroup_each(a->cgroup, visit_in_cgroup, v);
        if (r != 0 || process_has_exited(a->process) || v->found)
                return r;
        /* The children come first, because a parent that gets a signal may exit, and then nobody knows
         * them. */
        r = proc_each_child(process_pid(a->process), visit_child, v);
        return r != 0 ? r : visit_itself(v);
}

static int slot_each(struct membership *m, struct member_slot *slot, member_cb cb, void *userdata)
{
        struct attached *a;
        int r;

        LIST_FOREACH (a, &slot->attached, by_slot) {
                struct visit v = {.membership = m, .attached = a, .cb = cb, .userdata = userdata};

                r = attached_each(&v);
                if (r != 0)
                        return r;
        }
        return 0;
}

static int direct_each(struct membership *m, member_cb cb, void *userdata)
{
        struct member_slot *slot;
        int r;

        LIST_FOREACH (slot, &m->wanted, wanted) {
                r = slot->anchor ? slot_each(m, slot, cb, userdata) : 0;
                if (r != 0)
                        return r;
        }
        return 0;
}

static uint32_t direct_live(struct membership *m, struct member_slot *slot)
{
        struct attached *a;
        uint32_t n = 0;

        LIST_FOREACH (a, &slot->attached, by_slot)
                n += !process_has_exited(a->process) || (a->cgroup && own_cgroup_is_populated(a->cgroup));
        return n;
}

static int count_one(void *userdata, const struct member_record *record)
{
        (*(uint32_t *) userdata)++;
        return 0;
}

static uint32_t direct_count(struct membership *m, struct member_slot *slot)
{
        uint32_t n = 0;

        (void) slot_each(m, slot, count_one, &n);
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

size_t membership_pids(struct membership *m, struct anchor *anchor, uint32_t *pids, size_t n)
{
        struct member_slot *slot = anchor->slot;
        struct pids list = {.pids = pids, .max = n};
        struct attached *a;

        if (!slot)
                return 0;
        LIST_FOREACH (a, &slot->attached, by_slot) {
                struct visit v = {.membership = m, .attached = a, .cb = add_pid, .userdata = &list};

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
                .want = direct_want,
                .live = direct_live,
                .count = direct_count,
                .each = direct_each,
};
