/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/local/ctx.h"

/* Until when a call of this thread waits for the daemon (law 40), on CLOCK_BOOTTIME; CTX_NEVER: as long as
 * remote/ waits for an answer. A public call with a time-out, or under a context with a deadline, sets it:
 *
 *     uint64_t before = patience_begin(until);
 *     ...
 *     patience_end(before);
 */

extern __thread uint64_t patience_until_usec __attribute__((tls_model("initial-exec"), visibility("hidden")));

static inline uint64_t patience_begin(uint64_t until_usec)
{
        uint64_t before = patience_until_usec;

        if (until_usec < before)
                patience_until_usec = until_usec;
        return before;
}

/* The same, but what limited the call before does not count: it was a deadline that may have been moved. */
static inline uint64_t patience_begin_anew(uint64_t until_usec)
{
        uint64_t before = patience_until_usec;

        patience_until_usec = until_usec;
        return before;
}

static inline void patience_end(uint64_t before)
{
        patience_until_usec = before;
}

/* For a call on this context. If its deadline has passed, it limits nothing any more. */
static inline uint64_t patience_begin_ctx(struct ctx *ctx)
{
        uint64_t deadline = ctx_deadline_usec(ctx);

        return patience_begin(deadline != CTX_NEVER && deadline > now_boottime_usec() ? deadline : CTX_NEVER);
}
