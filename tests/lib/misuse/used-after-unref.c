/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctxclient.h>

int bad(void);

int bad(void)
{
        struct ctx *ctx = ctx_with_cancel(ctx_background());

        ctx_unref(ctx);
        return ctx_cancel(ctx);
}
