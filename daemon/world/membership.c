/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include "daemon/world/internal.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* The contexts that have members, and what is asked about them. A context gets a slot when something is
 * attached to it for the first time, and gives it back when it is forgotten and nobody is counted in it.
 *
 * ctxd starts with the direct backend, which looks at control groups as well. What was attached before the probe has said HELLO is attached again,
 * through BPF, at that moment; until then its children are known as well as the direct backend knows them. */

int membership_init(struct effects *e)
{
        e->membership.backend = &membership_direct;
        LIST_INIT(&e->membership.leaky);
        e->membership.n_numbers = 1;
        return signals_init(e);
}

static void slot_free(struct effects *e, struct member_slot *slot);

void membership_deinit(struct effects *e)
{
        struct membership *m = &e->membership;
        struct member_slot *slot, *next;

        HASH_ITER (hh, m->by_id, slot, next) {
                leaks_drop(e, slot);
                while (!LIST_EMPTY(&slot->attached))
                        attached_drop(LIST_FIRST(&slot->attached));
                slot_free(e, slot);
        }
        m->bpf = bpf_membership_free(m->bpf);
        signals_deinit(e);
        free(m->by_number);
        free(m->free_numbers);
}

struct member_slot *membership_slot(const struct effects *e, uint64_t context_id)
{
        struct member_slot *slot;

        HASH_FIND(hh, e->membership.by_id, &context_id, sizeof context_id, slot);
        return slot;
}

struct member_slot *membership_slot_number(const struct effects *e, uint32_t number, uint64_t context_id)
{
        struct member_slot *slot = number < e->membership.n_numbers ? e->membership.by_number[number] : NULL;

        return slot && slot->context_id == context_id ? slot : NULL;
}

static struct member_slot *slot_of(const struct effects *e, const struct context *c)
{
        return c->slot > 0 ? membership_slot_number(e, c->slot, c->id) : NULL;
}

static void slot_free(struct effects *e, struct member_slot *slot)
{
        struct membership *m = &e->membership;

        signals_forget(e, slot);
        threads_drop_slot(slot);
        HASH_DEL(m->by_id, slot);
        m->by_number[slot->number] = NULL;
        m->free_numbers[m->n_free++] = slot->number;
        charge_deinit(&slot->charge);
        free(slot);
}

/* Slots whose context is gone, but which could not be given back then. */
void membership_collect_stale(struct effects *e)
{
        struct member_slot *slot, *next;

        if (e->membership.n_stale == 0)
                return;
        HASH_ITER (hh, e->membership.by_id, slot, next)
                if (!slot->context && e->membership.backend->slot_close(e, slot)) {
                        slot_free(e, slot);
                        e->membership.n_stale--;
                }
}

static int numbers_grow(struct membership *m)
{
        uint32_t n = m->allocated > 0 ? m->allocated * 2 : 64;
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
        m->allocated = n;
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
        if (m->n_numbers >= m->allocated) {
                r = numbers_grow(m);
                if (r < 0)
                        return r;
        }
        *ret = m->n_numbers++;
        return 0;
}

static int slot_new(
                struct effects *e, struct context *c, struct member_slot **ret, struct refused *ret_refused)
{
        struct membership *m = &e->membership;
        struct member_slot *slot;
        int r;

        membership_collect_stale(e);
        slot = calloc(1, sizeof *slot);
        if (!slot)
                return -ENOMEM;
        slot->context = c;
        slot->context_id = c->id;
        LIST_INIT(&slot->signalled);
        LIST_INIT(&slot->attached);
        LIST_INIT(&slot->entrances);
        TAILQ_INIT(&slot->leaks);
        r = tree_charge(e->tree, &slot->charge, c->user, RESOURCE_MEMBERS, 1, ret_refused);
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
        r = m->backend->slot_open(e, slot);
        if (r < 0) {
                slot_free(e, slot);
                return r;
        }
        *ret = slot;
        return 0;

fail:
        charge_deinit(&slot->charge);
        free(slot);
        return r;
}

/* Its context lets go of it; it is given back once nobody is counted in it. */
static void slot_leave(struct effects *e, struct member_slot *slot)
{
        threads_drop_slot(slot);
        slot->context = NULL;
        slot->signal = slot->kill = false;
        if (e->membership.backend->slot_close(e, slot))
                slot_free(e, slot);
        else
                e->membership.n_stale++;
}

int membership_slot_take(
                struct effects *e, struct context *c, struct member_slot **ret, struct refused *ret_refused)
{
        struct member_slot *slot = slot_of(e, c);
        int r;

        if (!slot) {
                r = slot_new(e, c, &slot, ret_refused);
                if (r < 0)
                        return r;
                tree_attached(e->tree, c, slot->number);
        }
        *ret = slot;
        return 0;
}

int membership_describe(struct effects *e, struct process *p, struct attachment *ret)
{
        struct member_slot *from = e->membership.backend->look_up(e, p, &ret->from_policy);
        char comm[16];

        ret->from = from ? from->context : NULL;
        return process_read(p, ret->uids, comm);
}

static int join(struct effects *e, struct context *c, struct process *p, uint32_t policy,
                struct refused *ret_refused)
{
        struct member_slot *slot = slot_of(e, c);
        bool is_new = !slot;
        int r;

        if (is_new) {
                r = slot_new(e, c, &slot, ret_refused);
                if (r < 0)
                        return r;
        }
        r = e->membership.backend->attach(e, slot, p, policy, ret_refused);
        if (r < 0 && is_new) {
                slot_leave(e, slot); /* as if nobody had asked: the context may be taken back */
                return r;
        }
        /* The number stays with the context; where the attach failed, nobody new is in it, and the end of the
         * context looks for itself. */
        tree_attached(e->tree, c, slot->number);
        return r;
}

int membership_join(struct effects *e, struct context *c, struct process *p, const struct attachment *a,
                struct refused *ret_refused)
{
        int r = join(e, c, p, a->policy, ret_refused);

        if (r < 0)
                tree_attach_undo(e->tree, c, a);
        return r;
}

int membership_attach(struct effects *e, const struct caller *caller, struct context *c, int pidfd,
                const struct policy *policy, struct refused *ret_refused)
{
        _cleanup_(process_unrefp) struct process *p = NULL;
        struct attachment a = {.wanted = *policy};
        int r;

        r = process_acquire(e, pidfd, &p);
        if (r >= 0)
                r = membership_describe(e, p, &a);
        if (r >= 0)
                r = tree_attach(e->tree, now_boottime_usec(), caller, c, &a, ret_refused);
        return r < 0 ? r : membership_join(e, c, p, &a, ret_refused);
}

uint32_t membership_done(struct effects *e, struct context *c)
{
        struct member_slot *slot = slot_of(e, c);
        uint32_t n, n_threads;

        if (!slot)
                return 0;
        e->membership.backend->set_done(e, slot);
        n_threads = threads_look(e, slot);
        if (e->membership.backend->live(e, slot) == 0 && n_threads == 0) {
                if (c->busy)
                        tree_left(e->tree, now_boottime_usec(), c);
                return 0;
        }
        n = e->membership.backend->count(e, slot) + n_threads;
        for (unsigned i = 0; i < c->n_policies; i++)
                if (c->policies[i].signal > 0)
                        slot->signal = e->membership.passes_wanted = true;
        probe_link_watch(e, slot);
        return n;
}

void membership_kill_due(struct effects *e, struct context *c)
{
        struct member_slot *slot = slot_of(e, c);

        if (slot && c->busy)
                slot->kill = e->membership.kills_wanted = true;
}

void membership_look(struct effects *e, struct member_slot *slot)
{
        struct context *c = slot->context;

        if (!c || !context_is_done(c) || !c->busy || e->membership.backend->live(e, slot) > 0 ||
                        slot->n_threads > 0)
                return;
        tree_left(e->tree, now_boottime_usec(), c);
        slot->signal = slot->kill = false;
        signals_forget(e, slot);
        leaks_left(e, slot);
        probe_link_forget(e, slot);
}

void membership_forget(struct effects *e, struct context *c)
{
        struct member_slot *slot = slot_of(e, c);

        if (!slot)
                return;
        leaks_drop(e, slot);
        probe_link_forget(e, slot);
        slot_leave(e, slot);
}

void membership_process_exited(struct effects *e, struct process *p)
{
        if (p->attached)
                attached_exited(e, p->attached);
}

uint32_t membership_count(struct effects *e, const struct context *c, bool recursive)
{
        struct member_slot *slot, *next;
        uint32_t n = 0;

        if (!recursive) {
                slot = slot_of(e, c);
                return slot ? e->membership.backend->count(e, slot) + threads_look(e, slot) : 0;
        }
        HASH_ITER (hh, e->membership.by_id, slot, next)
                if (slot->context && context_is_below(slot->context, c))
                        n += e->membership.backend->count(e, slot) + threads_look(e, slot);
        return n;
}

struct context *membership_of(struct effects *e, struct process *p)
{
        uint32_t policy;
        struct member_slot *slot = e->membership.backend->look_up(e, p, &policy);

        return slot ? slot->context : NULL;
}

const char *membership_backend(const struct effects *e)
{
        return e->membership.cgroups ? "cgroup" : e->membership.backend->name;
}
