/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctxclient.h>

void bad(struct ctx *ctx);

void bad(struct ctx *ctx)
{
        ctx_err(ctx);
}
