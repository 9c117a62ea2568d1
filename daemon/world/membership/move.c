/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/world/membership/internal.h"
#include "daemon/world/membership/look.h"
#include "util/proc.h"
#include "util/cleanup.h"
#include "util/log.h"

/* Moves all members to the maps of a probe. The probe may come when some processes are members already, or it
 * may bring other maps than the last one. Every member is then attached again, to the same context with the
 * same policy. If it comes from the direct backend, all its descendants are attached, too. */

struct moving {
        struct member_slot *slot;
        struct process *process;
        uint32_t policy;
};

struct moves {
        struct membership *membership;
        struct moving *list;
        size_t n, allocated;
        struct member_slot *slot; /* while children are added */
        uint32_t policy;
};

static int moves_add(struct moves *m, struct member_slot *slot, struct process *p, uint32_t policy)
{
        if (process_ties(p)->is_moving)
                return 0;
        if (m->n == m->allocated) {
                size_t n = m->allocated > 0 ? m->allocated * 2 : 64;
                struct moving *list = reallocarray(m->list, n, sizeof *list);

                if (!list)
                        return -ENOMEM;
                m->list = list;
                m->allocated = n;
        }
        m->list[m->n++] = (struct moving){slot, process_ref(p), policy};
        process_ties(p)->is_moving = true;
        return 0;
}

static int moves_add_child(void *userdata, pid_t pid)
{
        struct moves *m = userdata;
        _cleanup_(process_unrefp) struct process *p = NULL;

        if (process_acquire_pid(m->membership->processes, pid, 0, &p) < 0 || process_ties(p)->attached)
                return 0;
        return moves_add(m, m->slot, p, m->policy);
}

static int moves_add_record(void *userdata, const struct member_record *record)
{
        struct moves *m = userdata;
        _cleanup_(process_unrefp) struct process *p = NULL;
        struct processes *all = m->membership->processes;
        uint64_t ticks = proc_nsec_to_ticks(record->leader_start_nsec);
        int r;

        if (record->pid != record->tid || !record->slot->anchor)
                return 0;
        r = process_acquire_pid(all, (pid_t) record->pid, ticks, &p);
        if (r == -EBUSY)
                r = process_acquire_child(all, (pid_t) record->pid, ticks, (pid_t) record->ppid, &p);
        return r < 0 ? 0 : moves_add(m, record->slot, p, record->policy);
}

static void moves_done(struct moves *m)
{
        for (size_t i = 0; i < m->n; i++) {
                process_ties(m->list[i].process)->is_moving = false;
                process_unref(m->list[i].process);
        }
        free(m->list);
}

static void slots_look(struct membership *m)
{
        struct member_slot *slot, *next;

        HASH_ITER (hh, m->by_id, slot, next)
                member_slot_look(m, slot);
}

int membership_use_bpf(struct membership *m, const int fds[])
{
        _cleanup_(moves_done) struct moves moves = {.membership = m};
        struct bpf_membership *new_, *old = m->bpf;
        struct member_look look = {.cb = moves_add_record, .userdata = &moves};
        struct member_slot *slot, *next;
        uint32_t all = UINT32_MAX;
        int r, ignored;

        r = bpf_membership_new(m, fds, &new_);
        if (r < 0)
                return r;
        HASH_ITER (hh, m->by_id, slot, next)
                member_slot_want(m, slot);
        r = member_look_begin(m, &look);
        if (r >= 0)
                r = member_look_go(m, &look, &all);
        member_look_end(&look);
        if (r < 0) {
                bpf_membership_free(new_);
                return r;
        }

        m->bpf = new_;
        m->backend = &membership_bpf;
        m->n_moves++;
        HASH_ITER (hh, m->by_id, slot, next) {
                (void) membership_bpf.slot_open(m, slot);
                if (slot->anchor && slot->anchor->is_done)
                        membership_bpf.set_done(m, slot);
        }
        /* The list grows during this walk, because the children of each process are added to its end. */
        for (size_t i = 0; i < moves.n; i++) {
                struct moving moving = moves.list[i];

                r = membership_bpf.attach(m, moving.slot, moving.process, moving.policy, &ignored);
                if (r < 0 && r != -ESRCH)
                        log_warning("Process %d is no member any more: %s", (int) process_pid(moving.process),
                                        strerror(-r));
                moves.slot = moving.slot;
                moves.policy = moving.policy;
                if (!old)
                        (void) proc_each_child(process_pid(moving.process), moves_add_child, &moves);
        }
        HASH_ITER (hh, m->by_id, slot, next)
                while (!LIST_EMPTY(&slot->attached))
                        attached_drop(LIST_FIRST(&slot->attached));
        bpf_membership_free(old);
        slots_look(m);
        return 0;
}
