/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "daemon/world/membership/internal.h"
#include "util/cleanup.h"

/* The contexts that have members. A context gets a slot when something is attached to it for the first time,
 * and gives it back when it is forgotten and nobody is counted in it.
 *
 * ctxd starts with the direct backend, which looks at control groups as well. What was attached before the
 * probe has said HELLO is attached again then, through BPF (move.c); until then its children are known as
 * well as the direct backend knows them. */

int membership_new(struct membership **ret, struct world *world, struct processes *processes)
{
        struct membership *m = calloc(1, sizeof *m);
        int r;

        if (!m)
                return -ENOMEM;
        m->world = world;
        m->processes = processes;
        m->backend = &membership_direct;
        m->n_numbers = 1;
        r = signals_new(m);
        if (r < 0) {
                free(m);
                return r;
        }
        *ret = m;
        return 0;
}

static void slot_free(struct membership *m, struct member_slot *slot)
{
        signals_forget(m, slot);
        HASH_DEL(m->by_id, slot);
        m->by_number[slot->number] = NULL;
        m->free_numbers[m->n_free++] = slot->number;
        charge_deinit(&slot->charge);
        free(slot->policies);
        free(slot);
}

struct membership *membership_free(struct membership *m)
{
        struct member_slot *slot, *next;

        if (!m)
                return NULL;
        HASH_ITER (hh, m->by_id, slot, next) {
                while (!LIST_EMPTY(&slot->attached))
                        attached_drop(LIST_FIRST(&slot->attached));
                slot_free(m, slot);
        }
        m->bpf = bpf_membership_free(m->bpf);
        signals_free(m);
        free(m->by_number);
        free(m->free_numbers);
        free(m);
        return NULL;
}

struct member_slot *member_slot_get(const struct membership *m, uint32_t number, uint64_t context_id)
{
        struct member_slot *slot = number < m->n_numbers ? m->by_number[number] : NULL;

        return slot && slot->context_id == context_id ? slot : NULL;
}

/* Slots whose context is gone, but which could not be given back then. */
void membership_collect_stale(struct membership *m)
{
        struct member_slot *slot, *next;

        if (m->n_stale == 0)
                return;
        HASH_ITER (hh, m->by_id, slot, next)
                if (!slot->anchor && m->backend->slot_close(m, slot)) {
                        slot_free(m, slot);
                        m->n_stale--;
                }
}

static int numbers_grow(struct membership *m)
{
        uint32_t n = m->n_allocated > 0 ? m->n_allocated * 2 : 64;
        struct member_slot **by_number;
        uint32_t *free_numbers;

        if (n > MEMBERSHIP_SLOTS_MAX)
                n = MEMBERSHIP_SLOTS_MAX;
        by_number = reallocarray(m->by_number, n, sizeof *by_number);
        if (!by_number)
                return -ENOMEM;
        m->by_number = by_number;
        free_numbers = reallocarray(m->free_numbers, n, sizeof *free_numbers);
        if (!free_numbers)
                return -ENOMEM;
        m->free_numbers = free_numbers;
        by_number[0] = NULL;
        m->n_allocated = n;
        return 0;
}

static int number_take(struct membership *m, uint32_t *ret)
{
        int r;

        if (m->n_free > 0) {
                *ret = m->free_numbers[--m->n_free];
                return 0;
        }
        if (m->n_numbers == MEMBERSHIP_SLOTS_MAX)
                return -ENOSPC;
        if (m->n_numbers >= m->n_allocated) {
                r = numbers_grow(m);
                if (r < 0)
                        return r;
        }
        *ret = m->n_numbers++;
        return 0;
}

int membership_open(struct membership *m, struct anchor *anchor, struct user *user)
{
        struct member_slot *slot;
        int r;

        if (anchor->slot)
                return 0;
        membership_collect_stale(m);
        slot = calloc(1, sizeof *slot);
        if (!slot)
                return -ENOMEM;
        slot->anchor = anchor;
        slot->context_id = anchor->context_id;
        LIST_INIT(&slot->signalled);
        LIST_INIT(&slot->attached);
        r = charge_init(&slot->charge, user->users, user, RESOURCE_MEMBERS, 1);
        if (r < 0) {
                free(slot);
                return r;
        }
        r = number_take(m, &slot->number);
        if (r < 0)
                goto fail;
        HASH_ADD(hh, m->by_id, context_id, sizeof slot->context_id, slot);
        if (!slot->hh.tbl) {
                m->free_numbers[m->n_free++] = slot->number;
                r = -ENOMEM;
                goto fail;
        }
        m->by_number[slot->number] = slot;
        r = m->backend->slot_open(m, slot);
        if (r < 0) {
                slot_free(m, slot);
                return r;
        }
        anchor->slot = slot;
        return 0;

fail:
        charge_deinit(&slot->charge);
        free(slot);
        return r;
}

void membership_close(struct membership *m, struct anchor *anchor)
{
        struct member_slot *slot = anchor->slot;

        if (!slot)
                return;
        anchor->slot = NULL;
        slot->anchor = NULL;
        slot->signal = slot->kill = slot->is_wanted = false;
        fact_withdraw(&m->world->facts, &anchor->member_left);
        if (m->backend->slot_close(m, slot))
                slot_free(m, slot);
        else
                m->n_stale++;
}

void membership_forget(struct membership *m, struct anchor *anchor)
{
        membership_close(m, anchor);
}

static int slot_set_policy(struct member_slot *slot, uint32_t index, const struct policy *policy)
{
        struct policy *policies;

        if (index >= slot->n_policies) {
                policies = reallocarray(slot->policies, index + 1U, sizeof *policies);
                if (!policies)
                        return -ENOMEM;
                for (uint32_t i = slot->n_policies; i < index; i++)
                        policies[i] = (struct policy){.kill_after_usec = CTXD_USEC_INFINITY};
                slot->policies = policies;
                slot->n_policies = index + 1;
        }
        slot->policies[index] = *policy;
        return 0;
}

int membership_attach(struct membership *m, struct anchor *anchor, struct process *p, uint32_t index,
                const struct policy *policy, struct user *user)
{
        int r = slot_set_policy(anchor->slot, index, policy);

        return r < 0 ? r : m->backend->attach(m, anchor->slot, p, index, user);
}

struct anchor *membership_look_up(struct membership *m, struct process *p, uint32_t *ret_index)
{
        struct member_slot *slot = m->backend->look_up(m, p, ret_index);

        return slot ? slot->anchor : NULL;
}

uint32_t membership_done(struct membership *m, struct anchor *anchor, uint64_t done_usec)
{
        struct member_slot *slot = anchor->slot;

        if (!slot)
                return 0;
        slot->done_usec = done_usec;
        m->backend->set_done(m, slot);
        if (m->backend->live(m, slot) == 0)
                return 0;
        for (uint32_t i = 0; i < slot->n_policies; i++)
                if (slot->policies[i].signal > 0)
                        slot->signal = m->passes_wanted = true;
        return m->backend->count(m, slot);
}

void membership_kill_due(struct membership *m, struct anchor *anchor)
{
        if (anchor->slot)
                anchor->slot->kill = m->kills_wanted = true;
}

void membership_signal(struct membership *m)
{
        if (m->passes_wanted)
                signals_run(m);
        if (m->kills_wanted)
                signals_soon(m);
}

uint32_t membership_live(struct membership *m, const struct anchor *anchor)
{
        return anchor->slot ? m->backend->live(m, anchor->slot) : 0;
}

uint32_t membership_count(struct membership *m, const struct anchor *anchor)
{
        return anchor->slot ? m->backend->count(m, anchor->slot) : 0;
}

struct anchor *membership_next_context(const struct membership *m, const struct anchor *after)
{
        const struct member_slot *slot = after ? after->slot->hh.next : m->by_id;

        while (slot && !slot->anchor)
                slot = slot->hh.next;
        return slot ? slot->anchor : NULL;
}

void membership_left(struct membership *m, struct anchor *anchor)
{
        if (!anchor->slot)
                return;
        anchor->slot->signal = anchor->slot->kill = false;
        signals_forget(m, anchor->slot);
}

void member_slot_look(struct membership *m, struct member_slot *slot)
{
        if (slot->anchor && slot->anchor->is_done && m->backend->live(m, slot) == 0)
                fact_raise(&m->world->facts, &slot->anchor->member_left);
}

void membership_process_exited(struct membership *m, struct process *p)
{
        struct attached *a = process_ties(p)->attached;

        if (a)
                attached_exited(m, a);
}

const char *membership_backend_name(const struct membership *m)
{
        return m->cgroups ? "cgroup" : m->backend->name;
}

const int *membership_bpf_fds(const struct membership *m)
{
        return bpf_membership_fds(m->bpf);
}

uint32_t membership_slot_number(const struct membership *m, const struct anchor *anchor)
{
        return anchor->slot && m->backend == &membership_bpf ? anchor->slot->number : 0;
}
