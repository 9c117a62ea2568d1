/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "daemon/world/membership/internal.h"

/* Lists the members of the contexts that were asked for. */

struct list {
        struct member *members;
        size_t n, n_allocated;
};

static int list_add(void *userdata, const struct member_record *record)
{
        struct list *l = userdata;
        struct member *member;

        if (!record->slot->is_wanted)
                return 0;
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
                anchor->slot->is_wanted = true;
}

int membership_list(struct membership *m, struct member **ret, size_t *ret_n)
{
        struct member_slot *slot, *next;
        struct list l = {};
        int r;

        r = m->backend->each(m, false, list_add, &l);
        HASH_ITER (hh, m->by_id, slot, next)
                slot->is_wanted = false;
        if (r < 0) {
                free(l.members);
                return r;
        }
        *ret = l.members;
        *ret_n = l.n;
        return 0;
}
