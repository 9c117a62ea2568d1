/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "util/proc.h"

/* What a look needs to know of a process. */
struct member_seen {
        struct proc_stat stat;
        struct proc_status status; /* its uids alone, where they are wanted */
};

int member_see(pid_t pid, bool wants_uids, struct member_seen *ret); /* as proc_read() */
/* Where that gives -EBUSY: adds the command, the uids (-1: unknown) and, in status, the parent. */
void member_see_some(pid_t pid, struct member_seen *seen);
