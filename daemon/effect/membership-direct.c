/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/effect/internal.h"
#include "daemon/effect/proc.h"
#include "daemon/util/cleanup.h"

/* Members without the kernel's help: the processes that were attached, each known by its pidfd, and, whenever
 * somebody asks, their children of that moment. A context is drained when the attached processes have exited;
 * counts are of processes. */

struct attached {
        struct process *process; /* a reference, watched */
        struct member_slot *slot;
        uint32_t policy;
        struct charge charge;
        LIST_ENTRY(attached) by_slot;
};

void attached_drop(struct attached *a)
{
        LIST_REMOVE(a, by_slot);
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

static int direct_slot_open(struct effects *e, struct member_slot *slot)
{
        return 0;
}

static bool direct_slot_close(struct effects *e, struct member_slot *slot)
{
        return LIST_EMPTY(&slot->attached);
}

static int direct_attach(struct effects *e, struct member_slot *slot, struct process *p, uint32_t policy,
                struct refused *ret_refused)
{
        struct attached *a = p->attached;
        int r;

        if (a) {
                struct member_slot *from = a->slot;

                LIST_REMOVE(a, by_slot);
                a->slot = slot;
                a->policy = policy;
                LIST_INSERT_HEAD(&slot->attached, a, by_slot);
                membership_look(e, from);
                return 0;
        }
        a = calloc(1, sizeof *a);
        if (!a)
                return -ENOMEM;
        r = tree_charge(e->tree, &a->charge, slot->context->user, RESOURCE_MEMBERS, 1, ret_refused);
        if (r < 0) {
                free(a);
                return r;
        }
        r = process_watch(p);
        if (r < 0) {
                charge_deinit(&a->charge);
                free(a);
                return r;
        }
        a->process = process_ref(p);
        a->slot = slot;
        a->policy = policy;
        LIST_INSERT_HEAD(&slot->attached, a, by_slot);
        p->attached = a;
        return 0;
}

static struct member_slot *direct_look_up(struct effects *e, struct process *p)
{
        struct process *parent;
        struct proc_stat stat;

        if (p->attached)
                return p->attached->slot;
        if (proc_stat_read(p->identity.pid, &stat) < 0 || stat.start_ticks != p->identity.start_ticks)
                return NULL;
        /* A child of one that is attached. */
        for (parent = e->processes; parent; parent = parent->hh.next)
                if (parent->attached && !parent->exited && parent->identity.pid == stat.ppid &&
                                parent->identity.start_ticks <= stat.start_ticks)
                        return parent->attached->slot;
        return NULL;
}

static void direct_set_done(struct effects *e, struct member_slot *slot) {}

static uint32_t direct_live(struct effects *e, struct member_slot *slot)
{
        struct attached *a;
        uint32_t n = 0;

        LIST_FOREACH (a, &slot->attached, by_slot)
                n += !a->process->exited;
        return n;
}

struct visit {
        struct effects *effects;
        struct attached *attached;
        member_cb cb;
        void *userdata;
};

static int visit_one(struct visit *v, pid_t pid, uint64_t start_ticks)
{
        struct member_record record = {
                        .slot = v->attached->slot,
                        .policy = v->attached->policy,
                        .pid = (uint32_t) pid,
                        .tid = (uint32_t) pid,
        };
        struct proc_stat stat;

        if (proc_stat_read(pid, &stat) < 0 || proc_status_read(pid, record.uids, NULL) < 0)
                return 0; /* it has gone */
        if (stat.state == 'Z' || stat.state == 'X' || (start_ticks > 0 && stat.start_ticks != start_ticks))
                return 0;
        record.ppid = (uint32_t) stat.ppid;
        record.start_nsec = record.leader_start_nsec = proc_ticks_to_nsec(stat.start_ticks);
        record.comm = stat.comm;
        return v->cb(v->userdata, &record);
}

static int visit_child(void *userdata, pid_t pid)
{
        struct visit *v = userdata;
        struct process *p;

        /* One that was attached by itself is visited for itself. */
        for (p = v->effects->processes; p; p = p->hh.next)
                if (p->attached && !p->exited && p->identity.pid == pid)
                        return 0;
        return visit_one(v, pid, 0);
}

static int slot_each(struct effects *e, struct member_slot *slot, member_cb cb, void *userdata)
{
        struct attached *a;
        int r;

        LIST_FOREACH (a, &slot->attached, by_slot) {
                struct visit v = {e, a, cb, userdata};

                if (a->process->exited)
                        continue;
                /* Children first: a parent that gets a signal can no longer be asked for them. */
                r = proc_each_child(a->process->identity.pid, visit_child, &v);
                if (r == 0)
                        r = visit_one(&v, a->process->identity.pid, a->process->identity.start_ticks);
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

size_t direct_pids(const struct member_slot *slot, uint32_t *pids, size_t n)
{
        struct attached *a;
        size_t i = 0;

        LIST_FOREACH (a, &slot->attached, by_slot)
                if (i < n && !a->process->exited)
                        pids[i++] = (uint32_t) a->process->identity.pid;
        return i;
}

int direct_each_attached(struct effects *e,
                int (*cb)(void *userdata, struct member_slot *slot, struct process *p, uint32_t policy),
                void *userdata)
{
        struct member_slot *slot, *next;
        struct attached *a;
        int r;

        HASH_ITER (hh, e->membership.by_id, slot, next)
                LIST_FOREACH (a, &slot->attached, by_slot) {
                        r = cb(userdata, slot, a->process, a->policy);
                        if (r != 0)
                                return r;
                }
        return 0;
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
