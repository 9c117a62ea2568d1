/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "use.hpp"

#include <atomic>
#include <csignal>
#include <optional>
#include <stdexcept>
#include <thread>

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

/* Locks, channels, groups of threads, child processes. */

static void locks()
{
        context ctx = context().with_cancel();
        ctxclient::mutex mutex;
        ctxclient::condition condition;
        bool ready = false;
        std::thread setter;

        EXPECT(!mutex.lock(ctx));
        EXPECT(!mutex.try_lock());
        mutex.unlock();
        {
                std::unique_lock<ctxclient::mutex> lock(mutex);

                setter = std::thread([&] {
                        std::lock_guard<ctxclient::mutex> guard(mutex);

                        ready = true;
                        condition.notify_all();
                });
                EXPECT(!condition.wait(ctx, lock, [&] { return ready; }));
                ctx.cancel();
                EXPECT(condition.wait(ctx, lock, [] { return false; }) == std::errc::operation_canceled);
        }
        setter.join();
        EXPECT(ctxclient::semaphore().acquire(ctx) == std::errc::operation_canceled);
}

static void channels()
{
        context ctx = context().with_cancel();
        ctxclient::channel<int> chan(2);
        ctxclient::channel<int> copy = chan;
        std::error_code error;

        EXPECT(!chan.send(ctx, 1) && !copy.send(ctx, 2));
        EXPECT(copy.receive(ctx, error) == 1 && chan.receive(ctx, error) == 2);
        EXPECT(!chan.close());
        EXPECT(!chan.receive(ctx, error).has_value() && !error);
        EXPECT(chan.send(ctx, 3) == std::errc::broken_pipe);
        ctx.cancel();
        EXPECT(!ctxclient::channel<int>().receive(ctx, error).has_value());
        EXPECT(error == std::errc::operation_canceled);
}

static void selects()
{
        context ctx = context().with_cancel();
        ctxclient::channel<int> numbers(1), closed;
        ctxclient::channel<char> letters(1);
        std::error_code error;
        pollfd fd = {numbers.fd(), POLLIN, 0};
        int got = 0;
        char letter = 'x';

        EXPECT(poll(&fd, 1, 0) == 0);
        EXPECT(!numbers.try_receive(error).has_value());
        EXPECT(error == std::errc::resource_unavailable_try_again);
        EXPECT(!numbers.try_send(1));
        EXPECT(numbers.try_send(2) == std::errc::resource_unavailable_try_again);
        EXPECT(poll(&fd, 1, 0) == 1);

        ctxclient::selected did = ctxclient::select(ctx, {numbers.sending(3), numbers.receiving(got)});
        EXPECT(!did.error && did.index == 1 && !did.closed && got == 1);
        did = ctxclient::select(ctx, {numbers.receiving(got), letters.sending('a')});
        EXPECT(!did.error && did.index == 1 && !did.closed);
        did = ctxclient::try_select({numbers.receiving(got), letters.sending('b')});
        EXPECT(did.error == std::errc::resource_unavailable_try_again);
        did = ctxclient::try_select({numbers.receiving(got), letters.receiving(letter)});
        EXPECT(!did.error && did.index == 1 && letter == 'a');

        EXPECT(!closed.close());
        did = ctxclient::select(ctx, {numbers.receiving(got), closed.receiving(got)});
        EXPECT(!did.error && did.index == 1 && did.closed);
        did = ctxclient::select(ctx, {closed.sending(5)});
        EXPECT(!did.error && did.index == 0 && did.closed);
        EXPECT(!closed.try_receive(error).has_value() && !error);
        ctx.cancel();
        did = ctxclient::select(ctx, {numbers.receiving(got)});
        EXPECT(did.error == std::errc::operation_canceled);
}

static void groups()
{
        std::atomic<int> sum{0};

        {
                ctxclient::group group{context()};

                for (int i = 1; i <= 4; i++)
                        group.go([&sum, i](const context &) { sum += i; });
                EXPECT(!group.wait());
                EXPECT(sum == 10);
        }
        {
                ctxclient::group group{context()};

                group.go([](const context &ctx) { return ctx.wait(); });
                group.go([](const context &) { return std::make_error_code(std::errc::io_error); });
                EXPECT(group.wait() == std::errc::io_error);
                EXPECT(group.ctx().done());
        }
        {
                ctxclient::group group{context()};
                bool caught = false;

                group.go([](const context &ctx) { ctx.wait(); });
                group.go([](const context &) { throw std::runtime_error("no luck"); });
                try {
                        group.wait();
                } catch (const std::runtime_error &e) {
                        caught = std::string(e.what()) == "no luck";
                }
                EXPECT(caught);
        }
        {
                ctxclient::group group{context()};

                group.go([&](const context &ctx) {
                        ctx.wait();
                        sum = 100;
                });
        }
        EXPECT(sum == 100);
}

static void failing_groups()
{
        context done = context().with_timeout(0s);
        ctxclient::group group{context()};
        std::atomic<bool> go_on{false};
        bool caught = false;

        group.set_limit(1);
        group.go([&](const context &ctx) {
                ctx.wait();
                while (!go_on)
                        std::this_thread::yield();
                throw std::runtime_error("too late");
        });
        EXPECT(!group.try_go([](const context &) {}));
        EXPECT(group.wait(done) == std::errc::timed_out);
        EXPECT(!group.why().error && group.why().message.empty());
        EXPECT(group.fail(std::errc::no_space_on_device, "the disk is full"));
        EXPECT(!group.fail(std::errc::io_error, "something else"));
        EXPECT(group.wait(done) == std::errc::timed_out);
        go_on = true;
        try {
                (void) group.wait(context());
        } catch (const std::runtime_error &) {
                caught = true;
        }
        EXPECT(caught);
        EXPECT(group.wait() == std::errc::no_space_on_device);
        EXPECT(group.why().error == std::errc::no_space_on_device);
        EXPECT(group.why().message == "the disk is full");
        EXPECT(errno_of([&] { group.go([](const context &) {}); }) == 0);
}

static void tasks()
{
        context ctx = context().with_cancel();
        ctxclient::task task(ctx, {"sh", "-c", "exit 7"});
        ctx_spawn_options options = CTX_SPAWN_OPTIONS;
        std::error_code error;

        EXPECT(task.pidfd() >= 0);
        EXPECT(WEXITSTATUS(task.wait()) == 7);
        EXPECT(task.kill(0) == std::errc::no_such_process);
        options.flags = CTX_SPAWN_TREE;
        ctxclient::task tree(ctx, {"sh", "-c", "sleep 60 & sleep 60"}, &options);
        EXPECT(getpgid(tree.pid()) == tree.pid());
        EXPECT(!tree.wait(context().with_timeout(1ms), error).has_value());
        EXPECT(error == std::errc::timed_out);
        EXPECT(!tree.kill(SIGKILL));
        std::optional<int> status = tree.wait(ctx, error);
        EXPECT(status && !error && WTERMSIG(*status) == SIGKILL);
        EXPECT(errno_of([&] { ctxclient::task none(ctx, {"/does/not/exist"}); }) == ENOENT);
}

void use_blocking()
{
        locks();
        channels();
        selects();
        groups();
        failing_groups();
        tasks();
}
