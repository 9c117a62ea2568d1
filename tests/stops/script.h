/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* What a client does while ctxd has bad luck, and whether what it was told is so. */

/* What was acknowledged; but a release counts also where the connection was lost with it. */
struct ledger {
        bool has_created, has_attached, has_canceled, has_released;
        int done, lifeline, drained; /* descriptors; -1: none */
        pid_t member;
};

void script_run(const char *address, struct ledger *l);
/* With nothing in the way any more. Puts all away. NULL, or what is not as it was told. */
const char *script_check(const char *address, struct ledger *l);
