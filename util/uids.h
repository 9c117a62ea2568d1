/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* Whether a process, by its real, effective and saved uid, is this user's and nobody else's: a setuid program, or
 * one that may become another user again, is not. */
static inline bool uids_are_all(const uid_t uids[3], uid_t uid)
{
        return uids[0] == uid && uids[1] == uid && uids[2] == uid;
}
