/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctxclient.h>

int good(struct ctx *parent, struct ctx_mutex *mutex);

/* What must not be warned of. */
int good(struct ctx *parent, struct ctx_mutex *mutex)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_timeout(parent, 1000);
        CTX_AUTO_UNREF struct ctx *view = NULL;
        int r;

        if (!ctx)
                return -1;
        view = ctx_readonly(ctx);
        if (!view)
                return -1;
        CTX_SCOPE(view);
        r = ctx_mutex_lock(view, mutex);
        if (r < 0)
                return r;
        ctx_mutex_unlock(mutex);
        ctx_cancel_cause(ctx, 32, "no more");
        return ctx_err(view);
}
