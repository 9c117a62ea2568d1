/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctxclient.h>

int good(struct ctx *parent, struct ctx_mutex *mutex);
int good_guards(struct ctx *parent, char *const argv[]);

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

/* Every type is given up by its guard. */
int good_guards(struct ctx *parent, char *const argv[])
{
        CTX_AUTO_CLIENT_UNREF struct ctx_client *client = ctx_client_new(NULL);
        CTX_AUTO_CHAN_UNREF struct ctx_chan *chan = ctx_chan_new(1, 1);
        CTX_AUTO_GROUP_UNREF struct ctx_group *group = ctx_group_new(parent);
        CTX_AUTO_TASK_UNREF struct ctx_task *task = ctx_spawn(parent, argv, NULL);
        CTX_AUTO_AFTER_UNREF struct ctx_after *after = ctx_shutdown_on_cancel(parent, 0);
        CTX_AUTO_AFTER_STOP struct ctx_after *stopped = ctx_shutdown_on_cancel(parent, 1);

        return client && chan && group && task && after && stopped;
}
