/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bpf/look-cost.h"
#include "util/cleanup.h"
#include "util/share.h"

static void let_go(struct look_account *a, uint64_t now_usec)
{
        uint64_t gone = (now_usec - a->at_usec) / (LOOK_COST_GONE_USEC / LOOK_COST_MAX_USEC);

        a->usec -= gone < a->usec ? gone : a->usec;
        a->at_usec = now_usec;
}

static struct look_account *account_of(struct look_costs *costs, pid_t pid, uint32_t party, uint64_t now_usec)
{
        struct look_account *least = costs->accounts;

        for (unsigned i = 0; i < ELEMENTSOF(costs->accounts); i++) {
                struct look_account *a = costs->accounts + i;

                let_go(a, now_usec);
                if (a->party == party && a->pid == pid)
                        return a;
                if (a->usec < least->usec)
                        least = a;
        }
        *least = (struct look_account){.party = party, .pid = pid, .at_usec = now_usec};
        return least;
}

bool look_cost_add(struct look_costs *costs, pid_t pid, uid_t uid, uint64_t slept_usec, uint64_t now_usec)
{
        struct look_account *a;

        if (slept_usec <= LOOK_FREE_USEC)
                return false;
        a = account_of(costs, uid == 0 ? pid : 0, share_party(uid), now_usec);
        a->usec += slept_usec - LOOK_FREE_USEC;
        if (a->usec <= LOOK_COST_MAX_USEC)
                return false;
        a->usec = 0;
        return true;
}
