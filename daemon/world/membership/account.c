/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "daemon/world/membership/internal.h"

/* How many members each user's contexts have. The backend knows that for each slot, and the charge in the
 * slot says how many there were at the last look. So what was born since is not counted yet, and what has
 * left may still be. When a user seems to be at the limit, the slots are looked at again, a few for each
 * call, those first at which nobody has looked for the longest time. */

#define LOOK_MAX 1024
#define KIN_MAX 256 /* without BPF so many are asked whether they have exited */

struct member_account {
        struct user *user; /* the key; the charges in the slots hold it */
        unsigned n_slots;
        TAILQ_HEAD(, member_slot) slots; /* those at which we have looked last are last */
        UT_hash_handle hh;
};

static struct member_account *account_find(const struct membership *m, const struct user *user)
{
        struct member_account *a;

        HASH_FIND_PTR(m->accounts, &user, a);
        return a;
}

int account_join(struct membership *m, struct member_slot *slot)
{
        struct member_account *a = account_find(m, slot->charge.user);

        if (!a) {
                a = calloc(1, sizeof *a);
                if (!a)
                        return -ENOMEM;
                a->user = slot->charge.user;
                TAILQ_INIT(&a->slots);
                HASH_ADD_PTR(m->accounts, user, a);
                if (!a->hh.tbl) {
                        free(a);
                        return -ENOMEM;
                }
        }
        a->n_slots++;
        TAILQ_INSERT_HEAD(&a->slots, slot, by_user);
        slot->account = a;
        return 0;
}

void account_leave(struct membership *m, struct member_slot *slot)
{
        struct member_account *a = slot->account;

        if (!a)
                return;
        TAILQ_REMOVE(&a->slots, slot, by_user);
        slot->account = NULL;
        if (--a->n_slots > 0)
                return;
        HASH_DEL(m->accounts, a);
        free(a);
}

void account_look(struct membership *m, const struct user *user)
{
        struct member_account *a = account_find(m, user);
        unsigned n = !a ? 0 : a->n_slots < LOOK_MAX ? a->n_slots : LOOK_MAX;
        uint32_t kin = KIN_MAX;

        /* A slot that is given back takes the account with it if it is the last one. */
        for (; n > 0 && (a = account_find(m, user)); n--) {
                struct member_slot *slot = TAILQ_FIRST(&a->slots);
                struct anchor *anchor = slot->anchor;

                TAILQ_REMOVE(&a->slots, slot, by_user);
                TAILQ_INSERT_TAIL(&a->slots, slot, by_user);
                direct_forget_gone(slot, &kin);
                member_slot_look(m, slot);
                if (anchor)
                        membership_trim(m, anchor);
        }
}
