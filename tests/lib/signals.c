/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/lib/outside.h"

/* Contexts that end with a signal. */

static struct ctx *on_signals(int one, int two)
{
        struct ctx *ctx = ctx_with_signals(ctx_background(), (int[]){one, two}, 2);

        ck_assert_ptr_nonnull(ctx);
        return ctx;
}

static void (*disposition(int s))(int)
{
        struct sigaction action;

        ck_assert_int_eq(sigaction(s, NULL, &action), 0);
        return action.sa_handler;
}

static _Atomic int handled;

static void handler(int s)
{
        atomic_fetch_add(&handled, 1);
}

START_TEST(a_signal_comes)
{
        CTX_AUTO_UNREF struct ctx *ctx = NULL;
        CTX_AUTO_UNREF struct ctx *second = NULL;
        CTX_AUTO_UNREF struct ctx *other = NULL;
        char message[40];

        ck_assert(signal(SIGHUP, SIG_DFL) != SIG_ERR); /* nohup has set its own */
        ctx = on_signals(SIGUSR1, SIGHUP);
        second = on_signals(SIGUSR1, SIGUSR1);
        other = on_signals(SIGUSR2, SIGRTMIN + 1);
        ck_assert_int_eq(kill(getpid(), SIGUSR1), 0);
        ck_assert_int_eq(ctx_wait(ctx, 60000000), -ECANCELED);
        ck_assert_happens(ctx_err(second) == -ECANCELED);
        assert_cause(ctx, EINTR, "SIGUSR1 received");
        ck_assert_int_eq(ctx_err(other), 0);
        ck_assert_happens(disposition(SIGUSR1) == SIG_DFL && disposition(SIGHUP) == SIG_DFL);
        ck_assert(disposition(SIGUSR2) != SIG_DFL);
        ck_assert_int_eq(kill(getpid(), SIGRTMIN + 1), 0);
        ck_assert_happens(ctx_err(other) == -ECANCELED);
        snprintf(message, sizeof(message), "signal %d received", SIGRTMIN + 1);
        assert_cause(other, EINTR, message);
}
END_TEST

START_TEST(what_was_set_before_comes_back)
{
        struct ctx *ctx, *longer;

        ck_assert(signal(SIGINT, SIG_DFL) != SIG_ERR); /* check has set its own */
        ck_assert(signal(SIGUSR1, handler) != SIG_ERR);
        ctx = on_signals(SIGUSR1, SIGINT);
        longer = on_signals(SIGUSR1, SIGUSR1);
        ctx_unref(ctx);
        ck_assert(disposition(SIGINT) == SIG_DFL);
        ck_assert_int_eq(kill(getpid(), SIGUSR1), 0);
        ck_assert_happens(ctx_err(longer) == -ECANCELED && disposition(SIGUSR1) == handler);
        ck_assert_int_eq(handled, 0);
        raise(SIGUSR1);
        ck_assert_int_eq(handled, 1);
        ctx_unref(longer);

        /* The program sets its own meanwhile. */
        ck_assert(signal(SIGUSR1, SIG_DFL) == handler);
        ctx = on_signals(SIGUSR1, SIGUSR1);
        ck_assert(signal(SIGUSR1, handler) != SIG_ERR);
        ctx_unref(ctx);
        ck_assert(disposition(SIGUSR1) == handler);

        /* It is done, and was not given up: the signal is the program's again. */
        ctx = on_signals(SIGUSR1, SIGUSR1);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_int_eq(kill(getpid(), SIGUSR1), 0);
        ck_assert_happens(handled == 2);
        ck_assert(disposition(SIGUSR1) == handler);
        ctx_unref(ctx);
}
END_TEST

START_TEST(an_ignored_signal)
{
        CTX_AUTO_UNREF struct ctx *ctx = NULL;

        ck_assert(signal(SIGHUP, SIG_IGN) != SIG_ERR);
        ctx = on_signals(SIGHUP, SIGUSR1);
        ck_assert_int_eq(kill(getpid(), SIGHUP), 0);
        ck_assert(disposition(SIGHUP) == SIG_IGN);
        settle();
        ck_assert_int_eq(ctx_err(ctx), 0);
        ck_assert_int_eq(kill(getpid(), SIGUSR1), 0);
        ck_assert_happens(ctx_err(ctx) == -ECANCELED);
        assert_cause(ctx, EINTR, "SIGUSR1 received");
}
END_TEST

START_TEST(signals_that_are_refused)
{
        const int refused[] = {
                        0, -1, 65, 32, SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};

        for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
                ck_assert_ptr_null(ctx_with_signals(ctx_background(), (int[]){SIGUSR1, refused[i]}, 2));
                ck_assert_int_eq(errno, EINVAL);
        }
        ck_assert_ptr_null(ctx_with_signals(ctx_background(), refused, 0));
        ck_assert_ptr_null(ctx_with_signals(ctx_background(), NULL, 1));
        ck_assert_ptr_null(ctx_with_signals(NULL, (int[]){SIGUSR1}, 1));
        ck_assert(disposition(SIGUSR1) == SIG_DFL);
}
END_TEST

static int status_of(pid_t pid)
{
        int status;

        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        return status;
}

START_TEST(children_and_their_signals)
{
        CTX_AUTO_UNREF struct ctx *ctx = NULL;
        pid_t pid;

        ck_assert(signal(SIGTERM, SIG_DFL) != SIG_ERR); /* check has set its own */
        ctx = on_signals(SIGTERM, SIGUSR1);
        pid = fork_tied();
        if (pid == 0) {
                raise(SIGTERM);
                _exit(0);
        }
        ck_assert_int_eq(status_of(pid), SIGTERM);

        pid = vfork();
        if (pid == 0) {
                kill(getpid(), SIGTERM);
                _exit(0);
        }
        ck_assert_int_eq(status_of(pid), SIGTERM);
        settle();
        ck_assert_int_eq(ctx_err(ctx), 0);

        /* The second one kills. In the child it is all new. */
        pid = fork_tied();
        if (pid == 0) {
                struct ctx *own = on_signals(SIGTERM, SIGTERM);

                raise(SIGTERM);
                if (!HAPPENS(ctx_err(own) == -ECANCELED && disposition(SIGTERM) == SIG_DFL))
                        _exit(1);
                raise(SIGTERM);
                _exit(2);
        }
        ck_assert_int_eq(status_of(pid), SIGTERM);
        ck_assert_int_eq(ctx_err(ctx), 0);
        ck_assert_int_eq(kill(getpid(), SIGTERM), 0);
        ck_assert_happens(ctx_err(ctx) == -ECANCELED);
}
END_TEST

/* The handler is the library's all the time, while contexts come and go. */
static void *come_and_go(void *userdata)
{
        for (int i = 0; i < 3000; i++)
                ctx_unref(on_signals(SIGUSR1, SIGUSR2));
        return NULL;
}

START_TEST(signals_while_contexts_come_and_go)
{
        pthread_t threads[2];

        ck_assert(signal(SIGUSR1, handler) != SIG_ERR);
        for (int i = 0; i < 2; i++)
                ck_assert_int_eq(pthread_create(&threads[i], NULL, come_and_go, NULL), 0);
        for (int i = 0; i < 500; i++) {
                kill(getpid(), SIGUSR1);
                sched_yield();
        }
        for (int i = 0; i < 2; i++)
                pthread_join(threads[i], NULL);
        ck_assert_happens(disposition(SIGUSR1) == handler && disposition(SIGUSR2) == SIG_DFL);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        a_signal_comes,
                        what_was_set_before_comes_back,
                        an_ignored_signal,
                        signals_that_are_refused,
                        children_and_their_signals,
                        signals_while_contexts_come_and_go,
                        NULL,
        };

        warm = outside_warm_up;
        return run_laws("contexts that end with a signal", tests);
}
