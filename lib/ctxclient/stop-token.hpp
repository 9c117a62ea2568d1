/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Contexts and std::stop_token, both ways. C++20; in an older version this header has nothing. */

#include "context.hpp"

#if __has_include(<version>)
#include <version>
#endif

#if defined(__cpp_lib_jthread)
#include <stop_token>

namespace ctxclient {

namespace detail {

struct on_stop {
        ::ctx *ctx;

        void operator()() const noexcept { ctx_cancel(ctx); }
};

inline constexpr ::ctx_key stop_key = CTX_KEY("std::stop_token");

} // namespace detail

/* A context under parent that is cancelled as soon as a stop is requested, or from the start if that was
 * before. It holds its registration with the token. It can be cancelled by itself, too. */
[[nodiscard]] inline context with_stop_token(const context &parent, std::stop_token token)
{
        using registration = std::stop_callback<detail::on_stop>;
        context stopped = parent.with_cancel();
        auto held = std::make_unique<registration>(std::move(token), detail::on_stop{stopped.get()});
        /* The value keeps `stopped` for as long as the registration leads to it. */
        context holder = context::adopt(ctx_with_value(stopped.get(), &detail::stop_key, held.get(),
                        [](void *p) noexcept { delete static_cast<registration *>(p); }));

        held.release();
        return holder.with_cancel();
}

/* A std::stop_source of which a stop is requested when a context is done. The token may outlive this object,
 * but then nobody requests a stop any more. The callbacks of the token run on a thread of the library. */
class stop_on_done {
        std::stop_source source_;
        callback callback_;

public:
        explicit stop_on_done(const context &ctx)
            : callback_(ctx, [source = source_]() mutable { source.request_stop(); })
        {
                if (ctx.done())
                        source_.request_stop();
        }

        std::stop_token token() const noexcept { return source_.get_token(); }
};

} // namespace ctxclient

#endif
