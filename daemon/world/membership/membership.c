/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "daemon/world/membership/internal.h"
#include "util/cleanup.h"

/* The slots of contexts that have members. A context gets a slot when something is attached to it, and gives
 * it back when the last member has left. The kernel tells of that, or a pidfd.
 *
 * ctxd starts with the direct backend, which knows control groups, too. When the probe has said HELLO, all
 * members that were attached before are attached again through BPF (move.c). */

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
        LIST_INIT(&m->wanted);
        LIST_INIT(&m->looks);
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
        signals_end(m, slot);
        signals_forget(m, slot);
        account_leave(m, slot);
        HASH_DEL(m->by_id, slot);
        m->by_number[slot->number] = NULL;
        m->free_numbers[m->n_free++] = slot->number;
        charge_deinit(&slot->members);
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

/* The user pays for the slot, and for as many members as it will have. */
static int slot_charge(struct membership *m, struct member_slot *slot, struct user *user)
{
        int r = charge_init(&slot->charge, user->users, user, RESOURCE_SLOTS, 1);

        if (r == -EDQUOT) {
                account_look(m, user);
                r = charge_init(&slot->charge, user->users, user, RESOURCE_SLOTS, 1);
        }
        if (r >= 0)
                r = charge_init(&slot->members, user->users, user, RESOURCE_MEMBERS, 0);
        return r;
}

static int slot_new(struct membership *m, struct anchor *anchor, struct user *user, struct member_slot **ret)
{
        struct member_slot *slot = calloc(1, sizeof *slot);
        int r;

        if (!slot)
                return -ENOMEM;
        slot->anchor = anchor;
        slot->context_id = anchor->context_id;
        LIST_INIT(&slot->signalled);
        LIST_INIT(&slot->attached);
        r = slot_charge(m, slot, user);
        if (r >= 0)
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
        *ret = slot;
        return 0;

fail:
        charge_deinit(&slot->members);
        charge_deinit(&slot->charge);
        free(slot);
        return r;
}

int membership_open(struct membership *m, struct anchor *anchor, struct user *user)
{
        struct member_slot *slot;
        int r;

        if (anchor->slot)
                return 0;
        r = slot_new(m, anchor, user, &slot);
        if (r < 0)
                return r;
        r = account_join(m, slot);
        if (r >= 0)
                r = m->backend->slot_open(m, slot);
        if (r < 0) {
                slot_free(m, slot);
                return r;
        }
        anchor->slot = slot;
        return 0;
}

/* Somebody may still be counted in it. Then it stays until that one has left. */
static void slot_detach(struct membership *m, struct member_slot *slot)
{
        if (slot->anchor)
                slot->anchor->slot = NULL;
        slot->anchor = NULL;
        slot->signal = slot->kill = false;
        signals_end(m, slot);
}

void membership_close(struct membership *m, struct anchor *anchor)
{
        struct member_slot *slot = anchor->slot;

        if (!slot)
                return;
        slot_detach(m, slot);
        fact_withdraw(&m->world->facts, &anchor->member_left);
        if (m->backend->slot_close(m, slot))
                slot_free(m, slot);
}

void membership_trim(struct membership *m, struct anchor *anchor)
{
        struct member_slot *slot = anchor->slot;

        if (!slot || slot->is_joining || !LIST_EMPTY(&anchor->entrances) || m->backend->live(m, slot) > 0 ||
                        !m->backend->slot_close(m, slot))
                return;
        slot_detach(m, slot);
        slot_free(m, slot);
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

int membership_room(struct membership *m, struct user *user)
{
        if (user_is_at_limit(user, RESOURCE_MEMBERS, 1))
                account_look(m, user);
        return user_is_at_limit(user, RESOURCE_MEMBERS, 1) ? -EDQUOT : 0;
}

/* The slot in which the process is counted; or NULL. Without BPF nobody has counted a descendant that was not
 * seen. */
static struct member_slot *counted_in(struct membership *m, struct process *p)
{
        struct member_slot *slot;
        uint32_t ignored;

        if (m->backend == &membership_direct && !direct_is_counted(m, p))
                return NULL;
        return m->backend->look_up(m, p, &slot, &ignored) > 0 ? slot : NULL;
}

int membership_attach(struct membership *m, struct anchor *anchor, struct process *p, uint32_t index,
                const struct policy *policy, int *ret_resource)
{
        struct member_slot *slot = anchor->slot, *from;
        uint32_t from_number;
        uint64_t from_id;
        int r;

        r = slot_set_policy(slot, index, policy);
        if (r < 0)
                return r;
        from = counted_in(m, p);
        from_number = from ? from->number : 0;
        from_id = from ? from->context_id : 0;
        *ret_resource = RESOURCE_MEMBERS;
        slot->is_joining = true;
        r = from && from->charge.user == slot->charge.user ? 0 : membership_room(m, slot->charge.user);
        if (r >= 0)
                r = m->backend->attach(m, slot, p, index, ret_resource);
        slot->is_joining = false;
        member_slot_look(m, slot);
        from = member_slot_get(m, from_number, from_id);
        if (from && from != slot)
                member_slot_look(m, from);
        return r;
}

int membership_look_up(struct membership *m, struct process *p, struct anchor **ret, uint32_t *ret_index)
{
        struct member_slot *slot;
        int r = m->backend->look_up(m, p, &slot, ret_index);

        if (r <= 0)
                return r;
        *ret = slot->anchor;
        return slot->anchor ? 1 : 0;
}

uint32_t membership_done(struct membership *m, struct anchor *anchor, uint64_t done_usec, bool counts)
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
                        slot->signal = true;
        slot->counts = counts && !m->backend->count;
        if (slot->signal || slot->counts)
                signals_begin(m, slot);
        return m->backend->count ? m->backend->count(m, slot) : 0;
}

void membership_kill_due(struct membership *m, struct anchor *anchor)
{
        if (!anchor->slot)
                return;
        anchor->slot->kill = true;
        signals_soon(m, anchor->slot);
}

struct signal_pass *membership_signal(struct membership *m, uint32_t *ret_n)
{
        return signals_run(m, ret_n);
}

int membership_signal_go(struct signal_pass *p, uint32_t budget, uint32_t *ret_n)
{
        return signals_go(p, budget, ret_n);
}

void membership_signal_let_go(struct signal_pass *p)
{
        signals_let_go(p);
}

void membership_signal_finish(struct membership *m)
{
        signals_finish(m);
}

uint32_t membership_live(struct membership *m, const struct anchor *anchor)
{
        return anchor->slot ? m->backend->live(m, anchor->slot) : 0;
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
        signals_end(m, anchor->slot);
        signals_forget(m, anchor->slot);
        membership_trim(m, anchor);
}

void member_slot_look(struct membership *m, struct member_slot *slot)
{
        uint32_t n = m->backend->live(m, slot);

        charge_set(&slot->members, n);
        if (n > 0)
                return;
        if (slot->anchor)
                fact_raise(&m->world->facts, &slot->anchor->member_left);
        else if (m->backend->slot_close(m, slot))
                slot_free(m, slot);
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
