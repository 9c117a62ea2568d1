/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctxclient.h>

void bad(struct ctx *ctx, void (*fn)(void *));

void bad(struct ctx *ctx, void (*fn)(void *))
{
        ctx_after_func(ctx, fn, NULL);
}
