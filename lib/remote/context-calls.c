/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "lib/local/patience.h"
#include "lib/local/spawn-options.h"
#include "lib/local/thread.h"
#include "lib/remote/context.h"

/* The public calls on a shared context that go to the daemon. */

struct remote_context *remote_context_of(struct ctx *ctx)
{
        return ctx && ctx->source->child.kind == CTX_KIND_SHARED ? (struct remote_context *) ctx->source
                                                                 : NULL;
}

const char *ctx_path(struct ctx *ctx)
{
        struct remote_context *remote = remote_context_of(ctx);

        return remote ? remote->reference : NULL;
}

const char *ctx_value_string(struct ctx *ctx, const char *key)
{
        THREAD_STAYS;
        struct remote_context *remote = remote_context_above(ctx);

        const char *value;
        uint64_t before;

        errno = ctx && key ? 0 : EINVAL;
        if (!remote || !key)
                return NULL;
        before = patience_begin_ctx(ctx);
        value = remote_context_value(remote, key);
        patience_end(before);
        return value;
}

int remote_context_writable(struct ctx *ctx, struct remote_context **ret)
{
        struct remote_context *remote = remote_context_of(ctx);

        if (!remote)
                return -EINVAL;
        if (ctx->child.kind == CTX_KIND_READONLY)
                return -EPERM;
        *ret = remote;
        return 0;
}

static int extend(struct remote_context *remote, uint64_t deadline_usec)
{
        int r = remote_context_begin(remote);

        if (r < 0)
                return r;
        r = client_call(remote->client, NULL, "Extend", "st", remote->reference, deadline_usec);
        client_end(remote->client);
        return r;
}

int remote_context_extend(struct ctx_shared *shared, uint64_t deadline_usec)
{
        THREAD_STAYS;
        struct remote_context *remote = (struct remote_context *) shared;
        uint64_t before = patience_begin_ctx(&shared->wide.ctx);
        int r = extend(remote, deadline_usec);

        patience_end(before);
        if (r < 0)
                return r;
        if (!remote->shared.word)
                atomic_store_explicit(&remote->own_deadline_usec, deadline_usec, memory_order_relaxed);
        return 0;
}

static int append_attach(sd_bus_message *m, struct remote_context *remote, int pidfd, int signal,
                uint64_t kill_after_usec)
{
        int r;

        r = sd_bus_message_append(m, "sh", remote->reference, pidfd);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = message_append_option(m, "signal", "i", signal);
        if (r >= 0 && kill_after_usec != CTX_KILL_AFTER_DEFAULT)
                r = message_append_option(m, "kill-after-usec", "t", kill_after_usec);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int remote_context_attach(struct ctx_shared *shared, int pidfd, int signal, uint64_t kill_after_usec)
{
        THREAD_STAYS;
        struct remote_context *remote = (struct remote_context *) shared;
        sd_bus_message *m = NULL;
        int r;

        r = remote_context_begin(remote);
        if (r < 0)
                return r;
        r = client_message(remote->client, &m, "Attach");
        if (r >= 0)
                r = append_attach(m, remote, pidfd, signal, kill_after_usec);
        if (r < 0)
                client_set_error(remote->client, r, NULL);
        else
                r = client_send(remote->client, m, NULL);
        sd_bus_message_unref(m);
        client_end(remote->client);
        return r < 0 ? r : 0;
}

int ctx_attach(struct ctx *ctx, int pidfd, const struct ctx_spawn_options *options)
{
        THREAD_STAYS;
        struct remote_context *remote = remote_context_above(ctx);
        struct ctx_spawn_options o;
        uint64_t before;
        int r;

        if (!remote || pidfd < 0)
                return -EINVAL;
        r = spawn_take_options(options, 0, &o);
        if (r < 0)
                return r;
        before = patience_begin_ctx(ctx);
        r = remote_context_attach(&remote->shared, pidfd, o.signal, o.kill_after_usec);
        patience_end(before);
        return r;
}
