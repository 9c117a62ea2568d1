/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What looks cost that take long, and not so long that one of them would be taken for one that hangs. Each
 * user (util/share.h) has an account. What is on it goes down with time. */

/* So much of a look costs nothing: a lock may be held, or a page not be there. */
#define LOOK_FREE_USEC 2000
/* So much an account holds, and so long that takes to go. */
#define LOOK_COST_MAX_USEC UINT64_C(500000)
#define LOOK_COST_GONE_USEC UINT64_C(10000000)
/* The accounts there are. Where they do not suffice, the one with the least on it goes. */
#define LOOK_ACCOUNTS 64

struct look_account {
        uint32_t party;
        pid_t pid; /* of root's, each process has its own: it may be anybody's */
        uint64_t usec, at_usec;
};

struct look_costs {
        struct look_account accounts[LOOK_ACCOUNTS];
};

/* A look at it has slept so long. True: that is too much in all; the account is empty then. */
bool look_cost_add(struct look_costs *costs, pid_t pid, uid_t uid, uint64_t slept_usec, uint64_t now_usec);
