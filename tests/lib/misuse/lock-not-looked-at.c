/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctxclient.h>

void bad(struct ctx *ctx, struct ctx_mutex *mutex);

/* Perhaps it is not locked. */
void bad(struct ctx *ctx, struct ctx_mutex *mutex)
{
        ctx_mutex_lock(ctx, mutex);
        ctx_mutex_unlock(mutex);
}
