/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "use.hpp"

#include <atomic>
#include <cmath>
#include <csignal>
#include <exception>
#include <memory>
#include <stdexcept>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

/* Contexts, callbacks, exceptions, stop tokens, and the daemon. */

static void references()
{
        context background, ctx = background.with_cancel(), copy = ctx, moved = std::move(copy);

        EXPECT(background.get() == ctx_background());
        EXPECT(ctx == moved && ctx != background);
        copy = moved;
        EXPECT(copy.get() == ctx.get());
        EXPECT(ctx.cancel());
        EXPECT(!moved.cancel());
        EXPECT(copy.done());
        EXPECT(errno_of([] { (void) context::adopt(ctx_with_cancel(nullptr)); }) == EINVAL);
        EXPECT(errno_of([&] { background.cancel(); }) == EINVAL);
        EXPECT(errno_of([&] { background.with_cancel().readonly().cancel(); }) == EPERM);
        EXPECT(context::ref(ctx.release()).done());
}

static void errors_and_causes()
{
        context ctx = context().with_cancel();

        EXPECT(!ctx.err());
        EXPECT(!ctx.why().error && ctx.why().message.empty());
        ctx.check();
        ctx.cancel(std::errc::broken_pipe, "the client went away");
        EXPECT(ctx.err() == std::errc::operation_canceled);
        EXPECT(ctx.why().error == std::errc::broken_pipe);
        EXPECT(ctx.why().message == "the client went away");
        try {
                ctx.check();
                EXPECT(false);
        } catch (const std::system_error &e) {
                EXPECT(e.code() == std::errc::operation_canceled);
                EXPECT(std::string(e.what()).find("the client went away") != std::string::npos);
        }
}

static void times()
{
        context late = context().with_timeout(0s), never = context().with_timeout(std::chrono::hours::max());
        context tick = context().with_timeout(1ns), hour = context().with_timeout(1h);
        context at = context().with_deadline(ctxclient::boot_clock::now() - 1s);

        EXPECT(late.err() == std::errc::timed_out);
        EXPECT(context().with_timeout(-1s).err() == std::errc::timed_out);
        EXPECT(context().with_timeout(std::chrono::duration<double>(NAN)).err() == std::errc::timed_out);
        EXPECT(at.err() == std::errc::timed_out);
        EXPECT(never.deadline() == ctxclient::boot_clock::time_point::max());
        EXPECT(hour.deadline() > ctxclient::boot_clock::now() + 50min);
        EXPECT(hour.deadline() < ctxclient::boot_clock::now() + 61min);
        EXPECT(tick.wait() == std::errc::timed_out);
        EXPECT(!hour.wait_for(1ms));
        EXPECT(errno_of([] { context().wait(); }) == EDEADLK);
        EXPECT(hour.done_fd() >= 0);
        EXPECT(errno_of([] { context().done_fd(); }) == EOPNOTSUPP);
        EXPECT(!hour.without_cancel().done());
        context moved = context().with_timeout(1h);
        EXPECT(!moved.extend(ctxclient::boot_clock::time_point::max()));
        EXPECT(moved.deadline() == ctxclient::boot_clock::time_point::max());
        EXPECT(!moved.extend(ctxclient::boot_clock::now() - 1s));
        EXPECT(moved.err() == std::errc::timed_out);
        EXPECT(moved.extend(ctxclient::boot_clock::now() + 1h) == std::errc::connection_already_in_progress);
        hour.cancel();
        EXPECT(context().with_cancel().merge({never, hour}).err() == std::errc::operation_canceled);
}

static const ctxclient::key<std::string> user("user");
static const ctxclient::key<std::unique_ptr<int>> number("number");

static void values()
{
        context alice = context().with_value(user, std::string("alice"));
        context both = alice.with_cancel().with_value(number, std::make_unique<int>(7));

        EXPECT(*both.value(user) == "alice");
        EXPECT(**both.value(number) == 7);
        EXPECT(alice.value(number) == nullptr);
}

static void scopes()
{
        context outer = context().with_cancel(), seen;

        {
                ctxclient::scope entered(outer);
                ctxclient::scoped_context inner(context::current().with_cancel());

                seen = inner;
                EXPECT(context::current() == outer);
                EXPECT(!inner.done());
        }
        EXPECT(seen.done() && !outer.done());
        EXPECT(context::current() == context());
}

static void callbacks()
{
        context ctx = context().with_cancel();
        std::atomic<int> calls{0}, stopped{0};
        ctxclient::semaphore ran;
        std::unique_ptr<ctxclient::callback> itself;

        {
                ctxclient::callback never(ctx, [&] { stopped++; });
                ctxclient::callback stop(ctx, [&] { stopped++; });
                ctxclient::callback moved(std::move(stop));

                EXPECT(moved.stop());
                EXPECT(!moved.stop());
        }
        ctxclient::callback counted(ctx, [&, only = std::make_unique<int>(1)] {
                calls += *only;
                ran.release();
        });
        itself = std::make_unique<ctxclient::callback>(ctx, [&] {
                itself.reset(); /* inside itself it does not wait */
                calls++;
                ran.release();
        });
        ctx.cancel();
        EXPECT(!ran.acquire(context()));
        EXPECT(!ran.acquire(context()));
        EXPECT(calls == 2 && stopped == 0);
}

static void outside()
{
        int fds[2];

        EXPECT(pipe(fds) == 0);
        context reader = context().with_hangup(fds[0]);
        context signalled = context().with_signals({SIGUSR1, SIGUSR2});
        close(fds[1]);
        EXPECT(reader.wait() == std::errc::operation_canceled);
        EXPECT(reader.why().message == "peer hung up");
        raise(SIGUSR2);
        EXPECT(signalled.wait() == std::errc::operation_canceled);
        EXPECT(signalled.why().message == "SIGUSR2 received");
        EXPECT(errno_of([&] { (void) context().with_signals({SIGKILL}); }) == EINVAL);
        EXPECT(errno_of([&] { (void) context().with_hangup(-1); }) == EBADF);
        reader = context();
        close(fds[0]);
}

template <typename F> static int status_of(F child)
{
        int status = 0;
        pid_t pid = fork();

        if (pid == 0) {
                child();
                _exit(0);
        }
        EXPECT(waitpid(pid, &status, 0) == pid);
        return status;
}

static std::atomic<int> times_thrown, times_run;

static void throw_it(void *)
{
        times_thrown++;
        throw std::runtime_error("from a callback");
}

static int throw_in_a_group(ctx *, void *)
{
        throw std::runtime_error("from a thread of a group");
}

static void run_it(void *)
{
        times_run++;
}

/* Callbacks of the C functions. */
static void exceptions(const char *address)
{
        int status = status_of([] {
                context ctx = context().with_cancel();

                std::set_terminate([] { _exit(7); });
                ctx_after_unref(ctx_after_func(ctx.get(), throw_it, nullptr));
                ctx.cancel();
                sleep(60);
        });
        EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 7);

        status = status_of([] {
                ctxclient::group group{context()};

                std::set_terminate([] { _exit(7); });
                EXPECT(ctx_group_go(group.get(), throw_in_a_group, nullptr) == 0);
                sleep(60);
        });
        EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 7);

        status = status_of([address] {
                ctx_client *client = ctx_client_new(address);
                context ctx = context().with_cancel();
                ctx_after *after[3];
                int caught = 0;

                EXPECT(client && ctx_client_get_fd(client) >= 0);
                for (ctx_after *&a : after)
                        EXPECT((a = ctx_after_func(ctx.get(), &a == &after[1] ? run_it : throw_it, nullptr)));
                ctx.cancel();
                for (int i = 0; i < 3; i++) {
                        try {
                                EXPECT(ctx_client_process(client) >= 0);
                        } catch (const std::runtime_error &) {
                                caught++;
                        }
                }
                EXPECT(caught == 2 && times_thrown == 2 && times_run == 1);
                for (ctx_after *a : after) {
                        EXPECT(ctx_after_stop_wait(a) == 0);
                        ctx_after_unref(a);
                }
                ctx_client_unref(client);
        });
        EXPECT(status == 0);
}

static void without_a_daemon()
{
        EXPECT(errno_of([] { ctxclient::client none("unix:path=/does/not/exist"); }) == ENOENT);
        EXPECT(ctxclient::path_of(context()).empty());
}

static void with_a_daemon(const char *address)
{
        ctxclient::client client(address);
        ctx_create_options options = CTX_CREATE_OPTIONS;
        std::string path;

        options.flags = CTX_CREATE_PARENTS;
        context shared = client.create("cxx/" + std::to_string(getpid()), &options);
        context made_up = client.create("cxx/");
        path = ctxclient::path_of(shared);
        EXPECT(ctxclient::path_of(client.open(path)) == path);
        EXPECT(ctxclient::path_of(made_up).compare(0, 4, "cxx/") == 0);
        context local = shared.with_cancel();
        EXPECT(client.open(path).cancel(std::errc::interrupted, "by another"));
        EXPECT(local.wait() == std::errc::operation_canceled);
        EXPECT(shared.why().message == "by another");
        EXPECT(ctxclient::canceled_by(local)->pid == getpid());
        EXPECT(ctxclient::canceled_by(shared)->uid == getuid());
        EXPECT(!ctxclient::canceled_by(made_up));
        EXPECT(!client.backend().empty());
        EXPECT(errno_of([&] { (void) client.open("no/such"); }) == ENOENT);
}

#if defined(__cpp_lib_jthread)
static void stop_tokens()
{
        std::stop_source source;
        context ctx = context().with_cancel();
        context stopped = ctxclient::with_stop_token(ctx, source.get_token());
        context kept = ctxclient::with_stop_token(ctx, source.get_token());
        context given_up = ctxclient::with_stop_token(ctx, source.get_token());

        given_up = context();
        EXPECT(kept.cancel());
        EXPECT(!stopped.done());
        source.request_stop();
        EXPECT(stopped.err() == std::errc::operation_canceled);
        EXPECT(!ctx.done());
        EXPECT(ctxclient::with_stop_token(ctx, source.get_token()).done());

        ctxclient::semaphore ran;
        ctxclient::stop_on_done bridge(ctx);
        std::jthread thread([&, token = bridge.token()] {
                std::stop_callback call(token, [&] { ran.release(); });

                (void) ran.acquire(context());
                EXPECT(token.stop_requested());
        });
        EXPECT(!bridge.token().stop_requested());
        ctx.cancel();
        thread.join();
        EXPECT(ctxclient::stop_on_done(ctx).token().stop_requested());
}
#else
static void stop_tokens()
{
}
#endif

int main(int argc, char *argv[])
{
        references();
        errors_and_causes();
        times();
        values();
        scopes();
        callbacks();
        use_blocking();
        without_a_daemon();
        stop_tokens();
        outside();
        if (argc > 1) {
                exceptions(argv[1]);
                with_a_daemon(argv[1]);
        }
        return 0;
}
