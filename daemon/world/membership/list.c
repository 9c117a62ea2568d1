/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "daemon/world/membership/internal.h"

/* Lists the members of the contexts that were asked for. */

void member_slot_want(struct membership *m, struct member_slot *slot)
{
        if (slot->is_wanted)
                return;
        slot->is_wanted = true;
        LIST_INSERT_HEAD(&m->wanted, slot, wanted);
        m->backend->want(m, slot, true);
}

void membership_unwant(struct membership *m)
{
        struct member_slot *slot;

        while ((slot = LIST_FIRST(&m->wanted))) {
                LIST_REMOVE(slot, wanted);
                slot->is_wanted = false;
                m->backend->want(m, slot, false);
        }
}

struct list {
        struct member *members;
        size_t n, n_allocated;
};

static int list_add(void *userdata, const struct member_record *record)
{
        struct list *l = userdata;
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
                        .anchor = record->slot->anchor,
                        .pid = record->pid,
                        .tid = record->tid,
                        .uid = record->uids[1],
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

int membership_list(struct membership *m, struct member **ret, size_t *ret_n)
{
        struct list l = {};
        int r;

        r = m->backend->each(m, list_add, &l);
        membership_unwant(m);
        if (r < 0) {
                free(l.members);
                return r;
        }
        *ret = l.members;
        *ret_n = l.n;
        return 0;
}
