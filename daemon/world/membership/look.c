/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include "daemon/world/membership/internal.h"
#include "daemon/world/membership/look.h"

struct looked_slot {
        uint32_t number;
        uint64_t context_id;
};

int member_look_begin(struct membership *m, struct member_look *l)
{
        struct member_slot *slot;
        size_t n = 0;

        LIST_FOREACH (slot, &m->wanted, wanted)
                n++;
        l->slots = calloc(n + 1, sizeof *l->slots);
        if (l->slots)
                LIST_FOREACH (slot, &m->wanted, wanted)
                        l->slots[l->n_slots++] = (struct looked_slot){slot->number, slot->context_id};
        membership_unwant(m);
        if (!l->slots)
                return -ENOMEM;
        l->backend = m->backend;
        l->n_moves = m->n_moves;
        LIST_INSERT_HEAD(&m->looks, l, looks);
        return 0;
}

struct member_slot *member_look_next_slot(struct membership *m, struct member_look *l)
{
        while (l->next_slot < l->n_slots) {
                const struct looked_slot *s = &l->slots[l->next_slot++];
                struct member_slot *slot = member_slot_get(m, s->number, s->context_id);

                if (slot && slot->anchor)
                        return slot;
        }
        return NULL;
}

int member_look_go(struct membership *m, struct member_look *l, uint32_t *budget)
{
        int r;

        if (l->n_moves != m->n_moves) {
                l->backend->look_stop(l);
                l->backend = m->backend;
                l->n_moves = m->n_moves;
                l->next_slot = 0;
                return -ESTALE;
        }
        r = m->backend->look(m, l, budget);
        return r > 0 ? 1 : r;
}

void member_look_end(struct member_look *l)
{
        if (!l->slots)
                return;
        l->backend->look_stop(l);
        LIST_REMOVE(l, looks);
        free(l->slots);
        l->slots = NULL;
}
