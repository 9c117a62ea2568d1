/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctxclient.h>

int bad(int x);

/* No unref on one of the ways out. */
int bad(int x)
{
        struct ctx *ctx = ctx_with_timeout(ctx_background(), 1000);

        if (!ctx)
                return -1;
        if (x > 3)
                return -2;
        ctx_unref(ctx);
        return 0;
}
