/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "tests/law/local.h"

/* The descriptors that the library's calls poll are used again, and nobody sees another's signal. The linker
 * leads the library's calls here (--wrap). */

static _Atomic unsigned n_made, n_polls;

int __real_eventfd(unsigned count, int flags);
int __wrap_eventfd(unsigned count, int flags);
int __wrap_eventfd(unsigned count, int flags)
{
        atomic_fetch_add(&n_made, 1);
        return __real_eventfd(count, flags);
}

int __real_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask);
int __wrap_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask);
int __wrap_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *ts, const sigset_t *mask)
{
        atomic_fetch_add(&n_polls, 1);
        return __real_ppoll(fds, n, ts, mask);
}

/* A thread that polls a context alone. */
struct poller {
        struct ctx *ctx;
        pthread_t thread;
        _Atomic pid_t tid;
        int result;
};

static void *run_poller(void *userdata)
{
        struct poller *p = userdata;

        atomic_store(&p->tid, gettid());
        p->result = ctx_poll(p->ctx, NULL, 0, UINT64_MAX);
        return NULL;
}

static void poller_start(struct poller *p, struct ctx *ctx)
{
        *p = (struct poller){.ctx = ctx};
        ck_assert_int_eq(pthread_create(&p->thread, NULL, run_poller, p), 0);
        ck_assert_happens(p->tid != 0 && strchr("SX", task_state(getpid(), p->tid))); /* X: it has ended */
}

static int poller_result(struct poller *p)
{
        ck_assert_int_eq(pthread_join(p->thread, NULL), 0);
        return p->result;
}

/* A fresh context that is not done: a poll of it sleeps, once, until the time is over. */
static void assert_quiet(void)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        unsigned before = n_polls;

        ck_assert_int_eq(ctx_poll(ctx, NULL, 0, 2000), 0);
        ck_assert_uint_eq(n_polls - before, 1);
}

START_TEST(one_is_enough_for_one_thread)
{
        int pair[2];
        char byte;

        ck_assert_int_eq(pipe(pair), 0);
        for (int i = 0; i < 1000; i++) {
                CTX_AUTO_UNREF struct ctx *top = ctx_with_cancel(ctx_background());
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(top, 3600000000);
                struct pollfd fd = {.fd = pair[1], .events = POLLOUT};

                ck_assert_int_eq(ctx_poll(i % 3 ? ctx : top, NULL, 0, 1), 0);
                ck_assert_int_eq(ctx_poll(ctx, &fd, 1, UINT64_MAX), 1);
                ck_assert_int_eq(ctx_write(ctx, pair[1], "x", 1), 1);
                fd = (struct pollfd){.fd = pair[0], .events = POLLIN};
                ck_assert_int_eq(ctx_poll(top, &fd, 1, UINT64_MAX), 1);
                ck_assert_int_eq(ctx_read(ctx, pair[0], &byte, 1), 1);
                ctx_cancel(i % 2 ? top : ctx);
        }
        ck_assert_uint_eq(n_made, 1);
        close(pair[0]);
        close(pair[1]);
}
END_TEST

START_TEST(a_cancel_wakes_all_and_nobody_later)
{
        enum { N = 20 };

        for (int round = 0; round < 5; round++) {
                CTX_AUTO_UNREF struct ctx *top = ctx_with_cancel(ctx_background());
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(top);
                CTX_AUTO_UNREF struct ctx *other = ctx_with_cancel(ctx_background());
                struct poller pollers[N], outside;

                poller_start(&outside, other);
                for (int i = 0; i < N; i++)
                        poller_start(&pollers[i], i % 2 ? ctx : top);
                ctx_cancel(round % 2 ? ctx : top);
                for (int i = 1; i < N; i += 2)
                        ck_assert_int_eq(poller_result(&pollers[i]), -ECANCELED);
                ctx_cancel(top);
                for (int i = 0; i < N; i += 2)
                        ck_assert_int_eq(poller_result(&pollers[i]), -ECANCELED);
                ck_assert(sleeps(outside.tid));
                assert_quiet();
                ctx_cancel(other);
                ck_assert_int_eq(poller_result(&outside), -ECANCELED);
        }
        for (int i = 0; i < 10; i++)
                assert_quiet();
}
END_TEST

START_TEST(the_deadline_ends_it)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 3000);
        uint64_t deadline;

        ck_assert_int_eq(ctx_deadline(ctx, &deadline), 1);
        ck_assert_int_eq(ctx_poll(ctx, NULL, 0, UINT64_MAX), -ETIMEDOUT);
        ck_assert_uint_ge(now_boottime_usec(), deadline);
}
END_TEST

/* Whichever comes first, the descriptor of the program stays the same, and a cancel fills both. */
START_TEST(the_programs_descriptor_is_another)
{
        for (int i = 0; i < 4; i++) {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
                int before = i % 2 ? ctx_done_fd(ctx) : -1, after;
                struct poller poller;

                poller_start(&poller, ctx);
                after = ctx_done_fd(ctx);
                ck_assert(before < 0 || before == after);
                if (i / 2)
                        ck_assert_int_eq(pthread_cancel(poller.thread), 0);
                else
                        ctx_cancel(ctx);
                poller_result(&poller);
                ctx_cancel(ctx);
                ck_assert(is_readable(after));
        }
}
END_TEST

START_TEST(a_deadline_that_is_moved)
{
        for (int i = 0; i < 3; i++) {
                CTX_AUTO_UNREF struct ctx *top = i == 0 ? ctx_with_cancel(ctx_background())
                                                        : ctx_with_timeout(ctx_background(), 3600000000);
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(top);
                struct poller poller;

                poller_start(&poller, i == 2 ? top : ctx);
                ck_assert_int_eq(ctx_extend(top, now_boottime_usec() + 3000), 0);
                ck_assert_int_eq(poller_result(&poller), -ETIMEDOUT);
        }
        WITH_MORE_TIME(margin)
        {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), margin);
                struct poller poller;

                poller_start(&poller, ctx);
                if (ctx_extend(ctx, now_boottime_usec() + 3600000000) < 0) {
                        poller_result(&poller);
                        continue;
                }
                nap(2 * margin);
                ck_assert_int_eq(ctx_cancel(ctx), 1);
                ck_assert_int_eq(poller_result(&poller), -ECANCELED);
                return;
        }
        ck_abort_msg("the machine is too slow");
}
END_TEST

/* The timers' descriptors stay. */
static void warm_up(void)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 3600000000);

        ck_assert_int_eq(ctx_extend(ctx, now_boottime_usec() + 1800000000), 0);
        atomic_store(&n_made, 0);
}

/* A child of a fork has descriptors of its own, whether the parent's were kept or polled at the time. */
START_TEST(a_child_of_a_fork_shares_none)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct poller poller;
        int status;
        pid_t pid;

        assert_quiet();
        poller_start(&poller, ctx);
        assert_quiet();
        pid = fork();
        if (pid == 0) {
                struct poller mine;

                alarm(60);
                if (count_eventfds() > 2) /* that which the parent's thread polls, and one that wakes */
                        _exit(1);
                assert_quiet();
                poller_start(&mine, ctx);
                ctx_cancel(ctx);
                _exit(poller_result(&mine) == -ECANCELED ? 0 : 2);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
        ck_assert(sleeps(poller.tid));
        assert_quiet();
        ctx_cancel(ctx);
        ck_assert_int_eq(poller_result(&poller), -ECANCELED);
}
END_TEST

START_TEST(a_thread_that_is_cancelled_while_it_polls)
{
        for (int i = 0; i < 20; i++) {
                struct ctx *ctx = ctx_with_cancel(ctx_background());
                struct poller poller;

                poller_start(&poller, ctx);
                ck_assert_int_eq(pthread_cancel(poller.thread), 0);
                ck_assert_int_eq(pthread_join(poller.thread, NULL), 0);
                if (i % 2)
                        ctx_cancel(ctx);
                ctx_unref(ctx);
                assert_quiet();
        }
        ck_assert_uint_eq(n_made, 1);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        one_is_enough_for_one_thread,
                        a_cancel_wakes_all_and_nobody_later,
                        the_deadline_ends_it,
                        the_programs_descriptor_is_another,
                        a_deadline_that_is_moved,
                        a_child_of_a_fork_shares_none,
                        a_thread_that_is_cancelled_while_it_polls,
                        NULL,
        };

        warm = warm_up;
        return run_laws("what is polled until a context is done", tests);
}
