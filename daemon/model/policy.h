/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* How the members that came in by one kind of Attach are ended. A context keeps few of them: alike ones are
 * one. */
struct policy {
        int signal;               /* 0: none */
        uint64_t kill_after_usec; /* after done; UINT64_MAX: never */
        uid_t uid;                /* who attached: a member that uid may not signal is not signalled */
};

#define CONTEXT_POLICIES_MAX 32
