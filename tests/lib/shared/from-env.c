/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "lib/ctxclient.h"

/* What ctx_from_env() gives: "background", the path, or "nothing". Has the library in it, so that it can be
 * setuid. */

int main(void)
{
        struct ctx *ctx = ctx_from_env();

        puts(ctx == ctx_background() ? "background" : ctx ? ctx_path(ctx) : "nothing");
        ctx_unref(ctx);
        return 0;
}
