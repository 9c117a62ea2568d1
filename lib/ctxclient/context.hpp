/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Contexts for C++: see <ctxclient.hpp> for errors and exceptions. */

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "contexts.h"

namespace ctxclient {

namespace detail {

inline std::error_code code(long r) noexcept
{
        return r < 0 ? std::error_code(static_cast<int>(-r), std::generic_category()) : std::error_code();
}

[[noreturn]] inline void fail(int error, const char *what)
{
        throw std::system_error(error, std::generic_category(), what);
}

template <typename T> T *made(T *object, const char *what)
{
        if (!object)
                fail(errno, what);
        return object;
}

/* Rounds up, so that nothing is early. What the clock cannot hold is never; what is not above 0 is now. */
template <typename Rep, typename Period>
std::uint64_t microseconds(const std::chrono::duration<Rep, Period> &duration)
{
        using namespace std::chrono;

        if (!(duration > duration.zero())) /* NaN is not, either */
                return 0;
        if (std::chrono::duration<long double, std::micro>(duration).count() >= 9.2e18L)
                return UINT64_MAX;
        return static_cast<std::uint64_t>(ceil<std::chrono::microseconds>(duration).count());
}

} // namespace detail

/* CLOCK_BOOTTIME, on which deadlines are: it goes on while the machine is suspended. */
struct boot_clock {
        using duration = std::chrono::microseconds;
        using rep = duration::rep;
        using period = duration::period;
        using time_point = std::chrono::time_point<boot_clock>;
        static constexpr bool is_steady = true;

        static time_point now() noexcept
        {
                std::timespec ts;

                clock_gettime(CLOCK_BOOTTIME, &ts);
                return time_point(std::chrono::duration_cast<duration>(
                                std::chrono::seconds(ts.tv_sec) + std::chrono::nanoseconds(ts.tv_nsec)));
        }
};

/* Names a value of type T. It is found by its address: make it static, or inline in a header. */
template <typename T> class key {
        ::ctx_key key_;

public:
        explicit constexpr key(const char *name) : key_{name} {}
        key(const key &) = delete;
        key &operator=(const key &) = delete;
        const ::ctx_key *get() const noexcept { return &key_; }
};

/* Why a context is done. */
struct cause {
        std::error_code error;
        std::string message;
};

/* A context. A copy is another reference to the same context. One that was moved from can only be assigned to
 * and destroyed. */
class context {
        ::ctx *ctx_;

        struct adopted {};
        context(::ctx *ctx, adopted) noexcept : ctx_(ctx) {}

public:
        /* The background. */
        context() noexcept : ctx_(ctx_background()) {}
        context(const context &other) noexcept : ctx_(ctx_ref(other.ctx_)) {}
        context(context &&other) noexcept : ctx_(std::exchange(other.ctx_, nullptr)) {}
        context &operator=(context other) noexcept
        {
                std::swap(ctx_, other.ctx_);
                return *this;
        }
        ~context() { ctx_unref(ctx_); }

        /* Takes the caller's reference. Throws if ctx is NULL: then errno says why. */
        static context adopt(::ctx *ctx) { return {detail::made(ctx, "ctx"), adopted()}; }
        /* Takes a reference of its own. */
        static context ref(::ctx *ctx) noexcept { return {ctx_ref(ctx), adopted()}; }
        /* The one that this thread has entered last. */
        static context current() noexcept { return ref(ctx_current()); }

        /* For the C functions; borrowed. */
        ::ctx *get() const noexcept { return ctx_; }
        /* Gives the reference to the caller. */
        [[nodiscard]] ::ctx *release() noexcept { return std::exchange(ctx_, nullptr); }

        [[nodiscard]] context with_cancel() const { return adopt(ctx_with_cancel(ctx_)); }
        template <typename Rep, typename Period>
        [[nodiscard]] context with_timeout(const std::chrono::duration<Rep, Period> &timeout) const
        {
                return adopt(ctx_with_timeout(ctx_, detail::microseconds(timeout)));
        }
        [[nodiscard]] context with_deadline(boot_clock::time_point deadline) const
        {
                return adopt(ctx_with_deadline(ctx_, detail::microseconds(deadline.time_since_epoch())));
        }
        /* fd stays the caller's, and open until the context is done or gone. */
        [[nodiscard]] context with_hangup(int fd) const { return adopt(ctx_with_hangup(ctx_, fd)); }
        [[nodiscard]] context with_signals(const std::vector<int> &signals) const
        {
                return adopt(ctx_with_signals(ctx_, signals.data(), signals.size()));
        }
        [[nodiscard]] context without_cancel() const { return adopt(ctx_without_cancel(ctx_)); }
        [[nodiscard]] context readonly() const { return adopt(ctx_readonly(ctx_)); }
        [[nodiscard]] context merge(const std::vector<context> &others) const
        {
                std::vector<::ctx *> pointers;

                for (const context &other : others)
                        pointers.push_back(other.ctx_);
                return adopt(ctx_merge(ctx_, pointers.data(), pointers.size()));
        }

        /* The value lives as long as the context. */
        template <typename T> [[nodiscard]] context with_value(const key<T> &key, T value) const
        {
                auto copy = std::make_unique<T>(std::move(value));
                context child = adopt(ctx_with_value(ctx_, key.get(), copy.get(),
                                [](void *p) noexcept { delete static_cast<T *>(p); }));

                copy.release();
                return child;
        }
        /* NULL: no context from here up has it. */
        template <typename T> const T *value(const key<T> &key) const noexcept
        {
                return static_cast<const T *>(ctx_value(ctx_, key.get()));
        }

        /* False in err(): active. operation_canceled or timed_out (std::errc): done. */
        std::error_code err() const noexcept { return detail::code(ctx_err(ctx_)); }
        bool done() const noexcept { return ctx_err(ctx_) != 0; }
        /* Throws std::system_error if the context is done. */
        void check() const
        {
                int r = ctx_err(ctx_);

                if (r < 0)
                        throw std::system_error(detail::code(r), why().message);
        }
        /* Of an active context: no error, and an empty message. */
        cause why() const
        {
                const char *message = "";
                int error = 0;

                ctx_cause(ctx_, &error, &message);
                return {detail::code(-error), message};
        }
        /* boot_clock::time_point::max(): there is none. */
        boot_clock::time_point deadline() const noexcept
        {
                std::uint64_t usec;

                if (ctx_deadline(ctx_, &usec) <= 0 || usec > INT64_MAX)
                        return boot_clock::time_point::max();
                return boot_clock::time_point(std::chrono::microseconds(usec));
        }

        /* True: this call ended it. Throws where a context cannot be cancelled by itself, or is read-only. */
        bool cancel() const { return canceled(ctx_cancel(ctx_)); }
        bool cancel(std::errc error, const std::string &message) const
        {
                return canceled(ctx_cancel_cause(ctx_, static_cast<int>(error), message.c_str()));
        }

        /* Moves the deadline, or gives it one; boot_clock::time_point::max(): it has none any more.
         * connection_already_in_progress: it is done. */
        [[nodiscard]] std::error_code extend(boot_clock::time_point deadline) const
        {
                return detail::code(ctx_extend(ctx_, detail::microseconds(deadline.time_since_epoch())));
        }

        /* Waits until it is done, and says why. Throws EDEADLK where it can never be done. */
        std::error_code wait() const { return waited(ctx_wait(ctx_, UINT64_MAX)); }
        /* No error: the time is up. */
        template <typename Rep, typename Period>
        std::error_code wait_for(const std::chrono::duration<Rep, Period> &timeout) const
        {
                return waited(ctx_wait(ctx_, detail::microseconds(timeout)));
        }
        /* Readable once it is done; borrowed, as in C. Throws where there can be none. */
        int done_fd() const
        {
                int fd = ctx_done_fd(ctx_);

                if (fd < 0)
                        detail::fail(-fd, "ctx_done_fd");
                return fd;
        }

        friend bool operator==(const context &a, const context &b) noexcept { return a.ctx_ == b.ctx_; }
        friend bool operator!=(const context &a, const context &b) noexcept { return a.ctx_ != b.ctx_; }

private:
        static bool canceled(int r)
        {
                if (r < 0)
                        detail::fail(-r, "ctx_cancel");
                return r > 0;
        }

        std::error_code waited(int r) const
        {
                if (r < 0 && r != ctx_err(ctx_))
                        detail::fail(-r, "ctx_wait");
                return detail::code(r);
        }
};

/* A context that is cancelled at the end of the block: Go's `defer cancel()`. */
class scoped_context : public context {
public:
        explicit scoped_context(context ctx) noexcept : context(std::move(ctx)) {}
        scoped_context(scoped_context &&) noexcept = default;
        scoped_context &operator=(scoped_context &&) = delete;
        ~scoped_context()
        {
                if (get())
                        ctx_cancel(get());
        }
};

/* Calls a function once when a context is done; on a thread of the library, and soon if it is done already.
 * The destructor stops it: after that it does not run, and has returned if it ran. Inside the function itself
 * the destructor does not wait. */
class callback {
        using function = std::shared_ptr<std::function<void()>>;

        std::unique_ptr<function> function_;
        ::ctx_after *after_;

        static void run(void *userdata) noexcept
        {
                /* This reference keeps the function while it runs, even if it destroys the callback. */
                function mine = *static_cast<function *>(userdata);

                (*mine)();
        }

        template <typename F> static std::unique_ptr<function> boxed(F &&fn)
        {
                /* So that a function that can only be moved will do, too. */
                auto shared = std::make_shared<std::decay_t<F>>(std::forward<F>(fn));

                return std::make_unique<function>(
                                std::make_shared<std::function<void()>>([shared] { (*shared)(); }));
        }

public:
        template <typename F> callback(const context &ctx, F &&fn)
            : function_(boxed(std::forward<F>(fn))),
              after_(detail::made(ctx_after_func(ctx.get(), run, function_.get()), "ctx_after_func"))
        {
        }
        callback(callback &&other) noexcept
            : function_(std::move(other.function_)), after_(std::exchange(other.after_, nullptr))
        {
        }
        callback &operator=(callback &&) = delete;
        ~callback()
        {
                if (after_)
                        ctx_after_stop_wait(after_);
                ctx_after_unref(after_);
        }

        /* True: it will not run. False: it has begun, or was stopped before. Does not wait. */
        bool stop() noexcept { return ctx_after_stop(after_) > 0; }
};

/* This thread works for the context until the end of the block. */
class scope {
        ::ctx *ctx_;

public:
        explicit scope(const context &ctx) : ctx_(ctx.get())
        {
                int r = ctx_enter(ctx_);

                if (r < 0)
                        detail::fail(-r, "ctx_enter");
        }
        scope(const scope &) = delete;
        scope &operator=(const scope &) = delete;
        ~scope() { ctx_leave(ctx_); }
};

} // namespace ctxclient
