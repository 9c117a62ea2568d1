/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/world/internal.h"
#include "util/proc.h"
#include "util/cleanup.h"
#include "util/log.h"

/* The probe may come after the first attaches, or with other maps than the last one's. Whoever is a member
 * then is attached again, to the same context by the same policy; from the direct backend with all that
 * descends from it. */

struct moving {
        struct member_slot *slot;
        struct process *process;
        uint32_t policy;
};

struct moves {
        struct effects *effects;
        struct moving *list;
        size_t n, allocated;
        struct member_slot *slot; /* while children are added */
        uint32_t policy;
};

static int moves_add(struct moves *m, struct member_slot *slot, struct process *p, uint32_t policy)
{
        if (p->moving)
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
        p->moving = true;
        return 0;
}

static int moves_add_child(void *userdata, pid_t pid)
{
        struct moves *m = userdata;
        _cleanup_(process_unrefp) struct process *p = NULL;

        if (process_acquire_start(m->effects, pid, 0, &p) < 0 || p->attached)
                return 0;
        return moves_add(m, m->slot, p, m->policy);
}

static int moves_add_record(void *userdata, const struct member_record *record)
{
        struct moves *m = userdata;
        _cleanup_(process_unrefp) struct process *p = NULL;

        if (record->pid != record->tid || !record->slot->context ||
                        process_acquire_start(m->effects, (pid_t) record->pid,
                                        proc_nsec_to_ticks(record->leader_start_nsec), &p) < 0)
                return 0;
        return moves_add(m, record->slot, p, record->policy);
}

static void moves_done(struct moves *m)
{
        for (size_t i = 0; i < m->n; i++) {
                m->list[i].process->moving = false;
                process_unref(m->list[i].process);
        }
        free(m->list);
}

static void slots_look(struct effects *e)
{
        struct member_slot *slot, *next;

        HASH_ITER (hh, e->membership.by_id, slot, next)
                membership_look(e, slot);
}

/* From direct to BPF, or from the maps of one probe to those of another that could not use the former's. */
int membership_use_bpf(struct effects *e, const int fds[PROBE_FDS])
{
        _cleanup_(moves_done) struct moves moves = {.effects = e};
        struct bpf_membership *new_, *old = e->membership.bpf;
        struct member_slot *slot, *next;
        struct refused refused;
        int r;

        r = bpf_membership_new(e, fds, &new_);
        if (r < 0)
                return r;
        r = e->membership.backend->each(e, moves_add_record, &moves);
        if (r < 0) {
                bpf_membership_free(new_);
                return r;
        }
        membership_collect_stale(e);

        e->membership.bpf = new_;
        e->membership.backend = &membership_bpf;
        HASH_ITER (hh, e->membership.by_id, slot, next) {
                (void) membership_bpf.slot_open(e, slot);
                if (slot->context && context_is_done(slot->context))
                        membership_bpf.set_done(e, slot);
        }
        /* The list grows as it is walked: children follow their parents. */
        for (size_t i = 0; i < moves.n; i++) {
                struct moving m = moves.list[i];

                r = membership_bpf.attach(e, m.slot, m.process, m.policy, &refused);
                if (r < 0 && r != -ESRCH)
                        log_warning("Process %d is no member any more: %s", (int) m.process->identity.pid,
                                        strerror(-r));
                moves.slot = m.slot;
                moves.policy = m.policy;
                if (!old)
                        (void) proc_each_child(m.process->identity.pid, moves_add_child, &moves);
        }
        HASH_ITER (hh, e->membership.by_id, slot, next)
                while (!LIST_EMPTY(&slot->attached))
                        attached_drop(LIST_FIRST(&slot->attached));
        bpf_membership_free(old);
        slots_look(e);
        return 0;
}
