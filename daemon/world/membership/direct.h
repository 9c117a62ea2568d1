/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/world/membership/internal.h"
#include "daemon/world/membership/look.h"

/* What direct.c and direct-look.c share. Nobody else includes this. */

struct attached {
        struct membership *membership;
        struct process *process; /* a reference, watched */
        struct own_cgroup *cgroup;
        struct member_slot *slot;
        uint32_t policy;
        pid_t pid;            /* the key of the table, in which it stays until it exits */
        struct charge charge; /* of descriptors */
        LIST_ENTRY(attached) by_slot;
        UT_hash_handle hh;
};

/* The attached process that has that pid and has not exited, or NULL. */
struct attached *attached_find(struct membership *m, pid_t pid);
