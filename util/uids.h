/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* Whether the real, effective and saved uid of a process are all this one. They are not in a setuid
 * program, nor in one that can become another user again. */
static inline bool uids_are_all(const uid_t uids[3], uid_t uid)
{
        return uids[0] == uid && uids[1] == uid && uids[2] == uid;
}
