/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctxclient.h>

void bad(void);

/* A context that is made and thrown away. */
void bad(void)
{
        ctx_with_cancel(ctx_background());
}
