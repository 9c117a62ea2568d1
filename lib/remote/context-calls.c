/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "lib/local/spawn-options.h"
#include "lib/remote/context.h"

/* The public calls on a shared context that the core does not have. */

struct shared *shared_itself(struct ctx *ctx)
{
        return ctx && ctx->source->child.kind == CTX_KIND_SHARED ? (struct shared *) ctx->source : NULL;
}

const char *ctx_path(struct ctx *ctx)
{
        struct shared *shared = shared_itself(ctx);

        return shared ? shared->reference : NULL;
}

const char *ctx_value_string(struct ctx *ctx, const char *key)
{
        struct shared *shared = shared_of(ctx);

        errno = ctx && key ? 0 : EINVAL;
        return shared && key ? shared_value(shared, key) : NULL;
}

int shared_writable(struct ctx *ctx, struct shared **ret)
{
        struct shared *shared = shared_itself(ctx);

        if (!shared)
                return -EINVAL;
        if (ctx->child.kind == CTX_KIND_READONLY)
                return -EPERM;
        *ret = shared;
        return 0;
}

int ctx_extend(struct ctx *ctx, uint64_t boottime_usec)
{
        struct shared *shared;
        int r = shared_writable(ctx, &shared);

        if (r < 0)
                return r;
        r = shared_begin(shared);
        if (r < 0)
                return r;
        r = client_call(shared->client, NULL, "Extend", "st", shared->reference, boottime_usec);
        client_end(shared->client);
        if (r < 0)
                return r;
        if (!shared->ctx.word)
                atomic_store_explicit(&shared->own_deadline_usec, boottime_usec, memory_order_relaxed);
        return 0;
}

int ctx_release(struct ctx *ctx)
{
        struct shared *shared;
        int r = shared_writable(ctx, &shared);

        if (r < 0)
                return r;
        r = shared_begin(shared);
        if (r < 0)
                return r;
        r = client_call(shared->client, NULL, "Release", "s", shared->reference);
        client_end(shared->client);
        if (r < 0)
                return r;
        shared_finish(shared);
        return 0;
}

static int append_attach(
                sd_bus_message *m, struct shared *shared, int pidfd, int signal, uint64_t kill_after_usec)
{
        int r;

        r = sd_bus_message_append(m, "sh", shared->reference, pidfd);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = append_option(m, "signal", "i", signal);
        if (r >= 0 && kill_after_usec != CTX_KILL_AFTER_DEFAULT)
                r = append_option(m, "kill-after-usec", "t", kill_after_usec);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int shared_attach(struct ctx_shared *base, int pidfd, int signal, uint64_t kill_after_usec)
{
        struct shared *shared = (struct shared *) base;
        sd_bus_message *m = NULL;
        int r;

        r = shared_begin(shared);
        if (r < 0)
                return r;
        r = client_message(shared->client, &m, "Attach");
        if (r >= 0)
                r = append_attach(m, shared, pidfd, signal, kill_after_usec);
        if (r < 0)
                client_failed(shared->client, r, NULL);
        else
                r = client_send(shared->client, m, NULL);
        sd_bus_message_unref(m);
        client_end(shared->client);
        return r < 0 ? r : 0;
}

int ctx_attach(struct ctx *ctx, int pidfd, const struct ctx_spawn_options *options)
{
        struct shared *shared = shared_of(ctx);
        struct ctx_spawn_options o;
        int r;

        if (!shared || pidfd < 0)
                return -EINVAL;
        r = spawn_take_options(options, 0, &o);
        return r < 0 ? r : shared_attach(&shared->ctx, pidfd, o.signal, o.kill_after_usec);
}
