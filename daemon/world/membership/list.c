/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "daemon/world/membership/internal.h"
#include "daemon/world/membership/look.h"

/* Lists the members of the contexts that were asked for. */

void member_slot_want(struct membership *m, struct member_slot *slot)
{
        if (slot->is_wanted)
                return;
        slot->is_wanted = true;
        LIST_INSERT_HEAD(&m->wanted, slot, wanted);
}

void membership_unwant(struct membership *m)
{
        struct member_slot *slot;

        while ((slot = LIST_FIRST(&m->wanted))) {
                LIST_REMOVE(slot, wanted);
                slot->is_wanted = false;
        }
}

struct member_list {
        struct member_look look;
        struct member *members;
        size_t n, n_allocated;
};

static int list_add(void *userdata, const struct member_record *record)
{
        struct member_list *l = userdata;
        struct member *member;

        if (l->n == l->n_allocated) {
                size_t n = l->n_allocated > 0 ? l->n_allocated * 2 : 64;

                member = reallocarray(l->members, n, sizeof *member);
                if (!member)
                        return -ENOMEM;
                l->members = member;
                l->n_allocated = n;
        }
        member = &l->members[l->n++];
        *member = (struct member){
                        .context_id = record->slot->context_id,
                        .pid = record->pid,
                        .tid = record->tid,
                        .ppid = record->ppid,
                        .policy = record->policy,
                        .pending = record->pending,
                        .uids = {record->uids[0], record->uids[1], record->uids[2]},
                        .start_nsec = record->start_nsec,
                        .leader_start_nsec = record->leader_start_nsec,
        };
        memcpy(member->comm, record->comm, strnlen(record->comm, sizeof member->comm - 1));
        return 0;
}

void membership_want(struct membership *m, struct anchor *anchor)
{
        if (anchor->slot)
                member_slot_want(m, anchor->slot);
}

int membership_list(struct membership *m, bool with_uids, struct member_list **ret)
{
        struct member_list *l = calloc(1, sizeof *l);

        if (!l) {
                membership_unwant(m);
                return -ENOMEM;
        }
        l->look = (struct member_look){.cb = list_add, .userdata = l, .wants_uids = with_uids};
        if (member_look_begin(m, &l->look) < 0) {
                free(l);
                return -ENOMEM;
        }
        *ret = l;
        return 0;
}

int member_list_go(struct membership *m, struct member_list *l, uint32_t *budget)
{
        int r = member_look_go(m, &l->look, budget);

        if (r != -ESTALE)
                return r;
        l->n = 0;
        return member_look_go(m, &l->look, budget);
}

struct member *member_list_members(const struct member_list *l, size_t *ret_n)
{
        *ret_n = l->n;
        return l->members;
}

struct member_list *member_list_free(struct member_list *l)
{
        if (!l)
                return NULL;
        member_look_end(&l->look);
        free(l->members);
        free(l);
        return NULL;
}

static int count_one(void *userdata, const struct member_record *record)
{
        (*(uint32_t *) userdata)++;
        return 0;
}

uint32_t membership_count(struct membership *m, const struct anchor *anchor)
{
        uint32_t n = 0, all = UINT32_MAX;
        struct member_look l = {.cb = count_one, .userdata = &n};

        if (!anchor->slot)
                return 0;
        if (m->backend->count)
                return m->backend->count(m, anchor->slot);
        member_slot_want(m, anchor->slot);
        if (member_look_begin(m, &l) >= 0)
                (void) member_look_go(m, &l, &all);
        member_look_end(&l);
        return n;
}

bool membership_count_takes_looks(const struct membership *m)
{
        return !m->backend->count;
}
