/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctxclient.h>

void bad(void);

void bad(void)
{
        struct ctx *ctx = ctx_with_cancel(ctx_background());

        ctx_unref(ctx);
        ctx_unref(ctx);
}
