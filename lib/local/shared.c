/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lib/local/patience.h"
#include "lib/local/shared.h"

/* What is the same for every shared context; lib/remote/ fills in the rest. */

__thread uint64_t patience_until_usec = CTX_NEVER;

static const _Atomic uint32_t kept; /* for a context that has no page */

void ctx_shared_init(struct ctx_shared *shared, const struct ctx_shared_ops *ops)
{
        *shared = (struct ctx_shared){
                        .wide.ctx =
                                        {
                                                        .nest.word = CTX_SHARED,
                                                        .end = END_SHARED,
                                                        .source = &shared->wide.ctx,
                                                        .child = {.refs = 1,
                                                                        .kind = CTX_KIND_SHARED,
                                                                        .flags = CHILD_WIDE},
                                                        .deadline_usec = CTX_NEVER,
                                        },
                        .wide.shared = &shared->wide.ctx,
                        .wide.done = &shared->wide.ctx,
                        .ops = ops,
                        .keeper = &kept,
        };
}
