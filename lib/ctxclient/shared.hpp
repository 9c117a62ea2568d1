/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Contexts that ctxd keeps for all processes, for C++. See <ctxclient.hpp> for errors and exceptions. */

#include <optional>

#include "context.hpp"
#include "shared.h"

namespace ctxclient {

/* A connection to the daemon. A context that was made with it may outlive it. */
class client {
        ::ctx_client *client_;

        /* What the daemon said is part of what(). */
        ::ctx *made(::ctx *ctx, const std::string &path) const
        {
                int error = errno;

                if (!ctx)
                        detail::fail(error, (path + ": " + ctx_client_error(client_)).c_str());
                return ctx;
        }

public:
        /* NULL: where the daemon usually is. */
        explicit client(const char *address = nullptr) : client_(ctx_client_new(address))
        {
                int error = errno;

                if (!client_)
                        detail::fail(error, ctx_client_error(nullptr));
        }
        client(client &&other) noexcept : client_(std::exchange(other.client_, nullptr)) {}
        client &operator=(client &&other) noexcept
        {
                std::swap(client_, other.client_);
                return *this;
        }
        ~client() { ctx_client_unref(client_); }

        ::ctx_client *get() const noexcept { return client_; }

        [[nodiscard]] context create(const std::string &path,
                        const ::ctx_create_options *options = nullptr) const
        {
                return context::adopt(made(ctx_create(client_, path.c_str(), options), path));
        }
        [[nodiscard]] context open(const std::string &path) const
        {
                return context::adopt(made(ctx_open(client_, path.c_str()), path));
        }

        /* How far the daemon sees the members of contexts: "bpf", "cgroup" or "direct". */
        std::string backend() const
        {
                const char *backend = ctx_client_backend(client_);
                int error = errno;

                if (!backend)
                        detail::fail(error, ctx_client_error(client_));
                return backend;
        }
};

/* The context that this process works for. */
[[nodiscard]] inline context from_env()
{
        ::ctx *ctx = ctx_from_env();
        int error = errno;

        if (!ctx)
                detail::fail(error, ctx_client_error(nullptr));
        return context::adopt(ctx);
}

/* Who cancelled a context. */
struct canceler {
        uid_t uid;
        pid_t pid;
        std::string command;
};

/* Who cancelled a shared context, or the one that has ended this local context. Nothing: it is not done, a
 * deadline or a process that is gone ended it, or a local context was ended here. */
inline std::optional<canceler> canceled_by(const context &ctx)
{
        const char *command = "";
        canceler who{};
        int r = ctx_canceled_by(ctx.get(), &who.uid, &who.pid, &command);

        if (r < 0)
                detail::fail(-r, "ctx_canceled_by");
        if (r == 0)
                return std::nullopt;
        who.command = command;
        return who;
}

/* path#id; empty for a local context. */
inline std::string path_of(const context &ctx)
{
        const char *path = ctx_path(ctx.get());

        return path ? path : "";
}

} // namespace ctxclient
