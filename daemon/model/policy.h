/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* How a member ends when its context is done. A context has few policies, because members that were attached
 * alike share one. */
struct policy {
        int signal;               /* 0: none */
        uint64_t kill_after_usec; /* after done; UINT64_MAX: never */
        uid_t uid;                /* who attached; a member that this uid may not signal gets no signal */
};

#define CONTEXT_POLICIES_MAX 32
