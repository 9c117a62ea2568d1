/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a context ends, for C++: locks, channels, groups of threads, child processes. See <ctxclient.hpp> for
 * errors and exceptions. The blocking system calls are those of <ctxclient/blocking.h>:
 *     ssize_t n = ctx_read(ctx.get(), fd, buffer, size); */

#include <exception>
#include <mutex>
#include <optional>

#include "blocking.h"
#include "context.hpp"

namespace ctxclient {

/* Goes with std::unique_lock and std::lock_guard, which wait without a context. */
class mutex {
        ::ctx_mutex mutex_ = CTX_MUTEX_INIT;

public:
        mutex() = default;
        mutex(const mutex &) = delete;
        mutex &operator=(const mutex &) = delete;

        /* No error: locked. */
        [[nodiscard]] std::error_code lock(const context &ctx) noexcept
        {
                return detail::code(ctx_mutex_lock(ctx.get(), &mutex_));
        }
        void lock() { (void) lock(context()); }
        bool try_lock() noexcept { return ctx_mutex_trylock(&mutex_) == 0; }
        void unlock() noexcept { ctx_mutex_unlock(&mutex_); }
        ::ctx_mutex *get() noexcept { return &mutex_; }
};

class condition {
        ::ctx_cond cond_ = CTX_COND_INIT;

public:
        condition() = default;
        condition(const condition &) = delete;
        condition &operator=(const condition &) = delete;

        /* Waits until the predicate is true, or the context is done. The lock is held when it returns. */
        template <typename Predicate> [[nodiscard]] std::error_code wait(
                        const context &ctx, std::unique_lock<mutex> &lock, Predicate predicate)
        {
                while (!predicate()) {
                        int r = ctx_cond_wait(ctx.get(), &cond_, lock.mutex()->get());

                        if (r < 0)
                                return predicate() ? std::error_code() : detail::code(r);
                }
                return {};
        }
        void notify_one() noexcept { ctx_cond_signal(&cond_); }
        void notify_all() noexcept { ctx_cond_broadcast(&cond_); }
};

class semaphore {
        ::ctx_sem sem_;

public:
        explicit semaphore(std::uint32_t value = 0) noexcept : sem_ CTX_SEM_INIT(value) {}
        semaphore(const semaphore &) = delete;
        semaphore &operator=(const semaphore &) = delete;

        /* No error: took one off. */
        [[nodiscard]] std::error_code acquire(const context &ctx) noexcept
        {
                return detail::code(ctx_sem_wait(ctx.get(), &sem_));
        }
        bool try_acquire() noexcept { return ctx_sem_trywait(&sem_) == 0; }
        std::error_code release() noexcept { return detail::code(ctx_sem_post(&sem_)); }
};

/* A queue of items between threads. A copy is another reference to the same channel. */
template <typename T> class channel {
        static_assert(std::is_trivially_copyable_v<T>,
                        "items are copied as bytes: send a pointer, or what is trivially copyable");
        ::ctx_chan *chan_;

public:
        explicit channel(std::size_t capacity = 0)
            : chan_(detail::made(ctx_chan_new(sizeof(T), capacity), "ctx_chan_new"))
        {
        }
        channel(const channel &other) noexcept : chan_(ctx_chan_ref(other.chan_)) {}
        channel(channel &&other) noexcept : chan_(std::exchange(other.chan_, nullptr)) {}
        channel &operator=(channel other) noexcept
        {
                std::swap(chan_, other.chan_);
                return *this;
        }
        ~channel() { ctx_chan_unref(chan_); }

        ::ctx_chan *get() const noexcept { return chan_; }

        /* broken_pipe: it is closed. */
        [[nodiscard]] std::error_code send(const context &ctx, const T &item) noexcept
        {
                return detail::code(ctx_chan_send(ctx.get(), chan_, &item));
        }
        /* Nothing and no error: it is closed and empty. */
        std::optional<T> receive(const context &ctx, std::error_code &error)
        {
                std::remove_const_t<T> item;
                int r = ctx_chan_recv(ctx.get(), chan_, &item);

                error = detail::code(r);
                return r > 0 ? std::optional<T>(item) : std::nullopt;
        }
        /* As the two above, without waiting. resource_unavailable_try_again: they would wait. */
        [[nodiscard]] std::error_code try_send(const T &item) noexcept
        {
                return detail::code(ctx_chan_try_send(chan_, &item));
        }
        std::optional<T> try_receive(std::error_code &error)
        {
                std::remove_const_t<T> item;
                int r = ctx_chan_try_recv(chan_, &item);

                error = detail::code(r);
                return r > 0 ? std::optional<T>(item) : std::nullopt;
        }
        std::error_code close() noexcept { return detail::code(ctx_chan_close(chan_)); }
        /* Readable while a receive would not wait; borrowed, as in C. */
        int fd() const
        {
                int fd = ctx_chan_fd(chan_);

                if (fd < 0)
                        detail::fail(-fd, "ctx_chan_fd");
                return fd;
        }

        /* Cases of a select. The item and the channel have to stay until it has returned. */
        ::ctx_chan_case sending(const T &item) const noexcept
        {
                return {chan_, CTX_CHAN_SEND, 0, &item, nullptr};
        }
        ::ctx_chan_case receiving(T &item) const noexcept
        {
                return {chan_, CTX_CHAN_RECV, 0, nullptr, &item};
        }
};

/* What a select has done. */
struct selected {
        /* Which case has happened, counted from 0. */
        std::size_t index;
        /* The channel of that case is closed: nothing was sent or received. */
        bool closed;
        /* None has happened, and index means nothing. */
        std::error_code error;
};

namespace detail {

inline selected chosen(int r, const std::vector<::ctx_chan_case> &cases)
{
        if (r < 0)
                return {cases.size(), false, code(r)};
        return {static_cast<std::size_t>(r), cases[r].result != (cases[r].op == CTX_CHAN_RECV), {}};
}

} // namespace detail

/* Waits until one of several operations can happen, and does that one:
 *     switch (select(ctx, {numbers.receiving(number), words.sending(word)}).index) ... */
[[nodiscard]] inline selected select(const context &ctx, std::vector<::ctx_chan_case> cases)
{
        return detail::chosen(ctx_chan_select(ctx.get(), cases.data(), cases.size()), cases);
}
/* Without waiting. resource_unavailable_try_again: none can happen now. */
[[nodiscard]] inline selected try_select(std::vector<::ctx_chan_case> cases)
{
        return detail::chosen(ctx_chan_try_select(cases.data(), cases.size()), cases);
}

/* Threads that begin and end together. The destructor cancels those that still run, and waits for them. Their
 * functions return; they do not end the thread by pthread_exit(3), and nobody cancels it (pthread_cancel). */
class group {
        ::ctx_group *group_;
        std::mutex lock_;
        std::size_t running_ = 0;
        std::exception_ptr thrown_;

        struct work {
                group *owner;
                std::function<std::error_code(const context &)> fn;
        };

        static int run(::ctx *ctx, void *userdata) noexcept
        {
                std::unique_ptr<work> mine(static_cast<work *>(userdata));
                std::exception_ptr thrown;
                std::error_code error;

                try {
                        error = mine->fn(context::ref(ctx));
                } catch (...) {
                        thrown = std::current_exception();
                }

                std::lock_guard<std::mutex> guard(mine->owner->lock_);

                mine->owner->running_--;
                if (thrown && !mine->owner->thrown_)
                        mine->owner->thrown_ = thrown;
                if (thrown)
                        return -ECANCELED;
                return error ? -(error.value() > 0 ? error.value() : EIO) : 0;
        }

        template <typename F> std::unique_ptr<work> boxed(F fn)
        {
                auto shared = std::make_shared<F>(std::move(fn));

                return std::make_unique<work>(
                                work{this, [shared](const context &ctx) -> std::error_code {
                                             if constexpr (std::is_void_v<std::invoke_result_t<F &,
                                                                             const context &>>) {
                                                     (*shared)(ctx);
                                                     return {};
                                             } else {
                                                     return (*shared)(ctx);
                                             }
                                     }});
        }

        void count(std::size_t more)
        {
                std::lock_guard<std::mutex> guard(lock_);

                running_ += more;
        }

        /* While threads run, a later wait throws. */
        std::error_code waited(int r)
        {
                std::unique_lock<std::mutex> guard(lock_);
                std::exception_ptr thrown;

                if (running_ == 0)
                        thrown = std::exchange(thrown_, nullptr);
                guard.unlock();
                if (thrown)
                        std::rethrow_exception(thrown);
                return detail::code(r);
        }

public:
        explicit group(const context &parent)
            : group_(detail::made(ctx_group_new(parent.get()), "ctx_group_new"))
        {
        }
        group(const group &) = delete;
        group &operator=(const group &) = delete;
        ~group()
        {
                ctx_cancel(ctx_group_ctx(group_));
                ctx_group_wait(group_);
                ctx_group_unref(group_);
        }

        ::ctx_group *get() const noexcept { return group_; }
        context ctx() const noexcept { return context::ref(ctx_group_ctx(group_)); }

        /* At most n threads at one time, for which go() waits; 0, as at first: no limit. */
        void set_limit(unsigned n) noexcept { ctx_group_set_limit(group_, n); }

        /* Runs fn(const context &) on a thread of its own. fn returns nothing or a std::error_code. The first
         * error or exception cancels the group. Throws where no thread was started. */
        template <typename F> void go(F fn)
        {
                std::unique_ptr<work> mine = boxed(std::move(fn));
                int r;

                count(1);
                r = ctx_group_go(group_, run, mine.get());
                if (r < 0) {
                        count(-1);
                        detail::fail(-r, "ctx_group_go");
                }
                mine.release();
        }
        /* The same, without waiting. False: there is no room. */
        template <typename F> [[nodiscard]] bool try_go(F fn)
        {
                std::unique_ptr<work> mine = boxed(std::move(fn));
                int r;

                count(1);
                r = ctx_group_try_go(group_, run, mine.get());
                if (r <= 0)
                        count(-1);
                if (r < 0)
                        detail::fail(-r, "ctx_group_try_go");
                if (r > 0)
                        mine.release();
                return r > 0;
        }

        /* The group has failed, and this is why. True: it is the first failure. */
        bool fail(std::errc error, const std::string &message)
        {
                int r = ctx_group_fail(group_, static_cast<int>(error), message.c_str());

                if (r < 0)
                        detail::fail(-r, "ctx_group_fail");
                return r > 0;
        }
        /* The first failure; no error, and an empty message: there is none. An exception counts as
         * operation_canceled. */
        cause why() const
        {
                const char *message = "";
                int error = 0;

                ctx_group_cause(group_, &error, &message);
                return {detail::code(-error), message};
        }

        /* Waits until all have ended. The first error; what was thrown is thrown again. */
        std::error_code wait() { return waited(ctx_group_wait(group_)); }
        /* The end of a context ends the wait, with its error. The group goes on, and can be waited for. */
        std::error_code wait(const context &ctx) { return waited(ctx_group_wait_for(ctx.get(), group_)); }
};

/* A child process. For options start from CTX_SPAWN_OPTIONS; CTX_SPAWN_TREE is one of its flags. */
class task {
        ::ctx_task *task_;

        static ::ctx_task *spawn(const context &ctx, const std::vector<std::string> &command,
                        const ::ctx_spawn_options *options)
        {
                std::vector<char *> argv;

                for (const std::string &word : command)
                        argv.push_back(const_cast<char *>(word.c_str()));
                argv.push_back(nullptr);
                return detail::made(ctx_spawn(ctx.get(), argv.data(), options), "ctx_spawn");
        }

public:
        task(const context &ctx, const std::vector<std::string> &command,
                        const ::ctx_spawn_options *options = nullptr)
            : task_(spawn(ctx, command, options))
        {
        }
        task(task &&other) noexcept : task_(std::exchange(other.task_, nullptr)) {}
        task &operator=(task &&other) noexcept
        {
                std::swap(task_, other.task_);
                return *this;
        }
        ~task() { ctx_task_unref(task_); }

        ::ctx_task *get() const noexcept { return task_; }
        pid_t pid() const noexcept { return ctx_task_pid(task_); }
        int pidfd() const noexcept { return ctx_task_pidfd(task_); }
        /* Sends a signal, to no other process ever. no_such_process: it has ended and was waited for. */
        std::error_code kill(int signal) noexcept { return detail::code(ctx_task_kill(task_, signal)); }
        /* The status as waitpid(2) gives it. */
        int wait()
        {
                int status, r = ctx_task_wait(task_, &status);

                if (r < 0)
                        detail::fail(-r, "ctx_task_wait");
                return status;
        }
        /* Nothing: the context is done, or the error is another; the process runs on. */
        std::optional<int> wait(const context &ctx, std::error_code &error)
        {
                int status, r = ctx_task_wait_for(ctx.get(), task_, &status);

                error = detail::code(r);
                return r < 0 ? std::nullopt : std::optional<int>(status);
        }
};

} // namespace ctxclient
