/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#include "tests/lib/shared/daemon.h"
#include "tests/lib/shared/keeping-daemon.h"

/* A daemon that is killed, and comes back with its contexts: nobody is told anything, and all goes on with
 * the new one. */

/* What is said here holds for a daemon that comes back in time. Where this machine was too slow for that,
 * there is nothing to be seen. */
static void in_time(uint64_t killed_usec)
{
        if (boottime_usec() - killed_usec > CTX_DAEMON_GRACE_USEC / 2)
                exit(0);
}

struct watcher {
        struct ctx *ctx;
        _Atomic int called;
        _Atomic bool returned;
        int r;
        pthread_t thread;
};

static void *wait_in_thread(void *userdata)
{
        struct watcher *w = userdata;

        w->r = ctx_wait(w->ctx, UINT64_MAX);
        w->returned = true;
        return NULL;
}

static void count(void *userdata)
{
        atomic_fetch_add((_Atomic int *) userdata, 1);
}

static void watch(struct watcher *w, struct ctx *ctx)
{
        *w = (struct watcher){.ctx = ctx};
        ctx_after_unref(ctx_after_func(ctx, count, &w->called));
        ck_assert_int_eq(pthread_create(&w->thread, NULL, wait_in_thread, w), 0);
}

static void was_not_told(struct watcher *w)
{
        ck_assert_int_eq(ctx_err(w->ctx), 0);
        ck_assert(!w->returned);
        ck_assert_int_eq(w->called, 0);
        ck_assert(!is_readable(ctx_done_fd(w->ctx)));
}

static void was_told(struct watcher *w)
{
        ck_assert_int_eq(pthread_join(w->thread, NULL), 0);
        ck_assert_int_eq(w->r, -ECANCELED);
        while (w->called == 0)
                usleep(1000);
        ck_assert(is_readable(ctx_done_fd(w->ctx)));
        ck_assert_int_eq(ctx_err(w->ctx), -ECANCELED);
}

static struct ctx *open_kept(struct kept *kept, struct ctx_client **ret_client)
{
        struct ctx *ctx;

        *ret_client = ctx_client_new(kept->address);
        ck_assert_msg(*ret_client, "%s", ctx_client_error(NULL));
        ctx = ctx_create(*ret_client, "kept", NULL);
        ck_assert_msg(ctx, "%s", ctx_client_error(*ret_client));
        return ctx;
}

static void has_cause(struct ctx *ctx, const char *wanted)
{
        const char *message;

        ck_assert_int_eq(ctx_cause(ctx, NULL, &message), 1);
        ck_assert_str_eq(message, wanted);
}

START_TEST(a_crash_is_no_cancel)
{
        struct ctx_client *client;
        struct watcher w, below;
        struct ctx *ctx, *local;
        struct kept kept;
        pid_t pid;

        kept_init(&kept);
        pid = keeping_daemon_start(&kept, 1, true);
        ctx = open_kept(&kept, &client);
        local = ctx_with_cancel(ctx);
        watch(&w, ctx);
        watch(&below, local);
        for (uint64_t epoch = 2; epoch < 5; epoch++) {
                uint64_t killed = boottime_usec();

                keeping_daemon_kill(pid);
                usleep(300000); /* it is missed, and looked for */
                pid = keeping_daemon_start(&kept, epoch, true);
                usleep(300000);
                in_time(killed);
                was_not_told(&w);
                was_not_told(&below);
        }
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        was_told(&w);
        was_told(&below);
        has_cause(local, "by daemon 4");
        keeping_daemon_kill(pid);
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_client_unref(client);
        kept_deinit(&kept);
}
END_TEST

/* Who calls nobody has the page alone: each time that it is left alone counts by itself. */
static void outlive(struct ctx *ctx, struct kept *kept)
{
        uint64_t since = boottime_usec(), epoch = 2;
        pid_t pid = -1;

        while (boottime_usec() - since < CTX_DAEMON_GRACE_USEC * 3 / 2) {
                uint64_t gone = boottime_usec();

                if (pid > 0)
                        keeping_daemon_kill(pid);
                for (int i = 0; i < 100; i++) {
                        int r = ctx_err(ctx);

                        in_time(gone);
                        ck_assert_int_eq(r, 0);
                        usleep(10000);
                }
                pid = keeping_daemon_start(kept, epoch++, true);
                in_time(gone);
                ck_assert_int_eq(ctx_err(ctx), 0);
        }
        keeping_daemon_kill(pid);
}

START_TEST(often_for_who_only_looks)
{
        struct ctx_client *client;
        struct kept kept;
        struct ctx *ctx;
        pid_t pid;

        kept_init(&kept);
        pid = keeping_daemon_start(&kept, 1, true);
        ctx = open_kept(&kept, &client);
        keeping_daemon_kill(pid);
        outlive(ctx, &kept);
        ck_assert_uint_eq(kept.state->n_asked, 0);
        ctx_unref(ctx);
        ctx_client_unref(client);
        kept_deinit(&kept);
}
END_TEST

START_TEST(canceled_by_another_while_it_was_not_looked_for)
{
        struct ctx_client *client, *other;
        struct ctx *ctx, *same;
        struct kept kept;
        struct watcher w;
        uint64_t killed;
        pid_t pid;

        kept_init(&kept);
        pid = keeping_daemon_start(&kept, 1, true);
        ctx = open_kept(&kept, &client);
        watch(&w, ctx);
        killed = boottime_usec();
        keeping_daemon_kill(pid);
        pid = keeping_daemon_start(&kept, 2, true);
        in_time(killed);
        same = open_kept(&kept, &other);
        ck_assert_int_eq(ctx_cancel(same), 1);
        was_told(&w);
        has_cause(ctx, "by daemon 2");
        keeping_daemon_kill(pid);
        ctx_unref(same);
        ctx_unref(ctx);
        ctx_client_unref(other);
        ctx_client_unref(client);
        kept_deinit(&kept);
}
END_TEST

START_TEST(one_that_comes_back_without_it)
{
        struct ctx_client *client;
        struct kept kept;
        struct watcher w;
        struct ctx *ctx;
        uint64_t killed;
        pid_t pid;

        kept_init(&kept);
        pid = keeping_daemon_start(&kept, 1, true);
        ctx = open_kept(&kept, &client);
        watch(&w, ctx);
        killed = boottime_usec();
        keeping_daemon_kill(pid);
        pid = keeping_daemon_start(&kept, 2, true);
        usleep(300000);
        in_time(killed);
        was_not_told(&w);
        keeping_daemon_kill(pid);
        pid = keeping_daemon_start(&kept, 3, false);
        was_told(&w);
        has_cause(ctx, "ctxd was stopped");
        keeping_daemon_kill(pid);
        ctx_unref(ctx);
        ctx_client_unref(client);
        kept_deinit(&kept);
}
END_TEST

/* A context without a page is lost when the new daemon says that it does not know it. It is asked until it
 * does, whoever found it, and whatever time that one had. */
static pid_t start_without_a_page(struct kept *kept)
{
        kept_init(kept);
        kept->state->no_page = true;
        return keeping_daemon_start(kept, 1, true);
}

static pid_t another_that_says_nothing(struct kept *kept, pid_t first)
{
        keeping_daemon_kill(first);
        kept->state->says_nothing = true;
        return keeping_daemon_start(kept, 2, false);
}

START_TEST(one_that_is_slow_to_say_that_it_does_not_know_it)
{
        struct ctx_client *client;
        _Atomic int called = 0;
        struct kept kept;
        struct ctx *ctx;
        pid_t pid;

        pid = start_without_a_page(&kept);
        ctx = open_kept(&kept, &client);
        ctx_after_unref(ctx_after_func(ctx, count, &called));
        pid = another_that_says_nothing(&kept, pid);
        ck_assert_happens(kept.state->n_calls >= 3);
        ck_assert_int_eq(called, 0);
        kept.state->says_nothing = false;
        ck_assert_happens(called == 1);
        has_cause(ctx, "ctxd was stopped");
        keeping_daemon_kill(pid);
        ctx_unref(ctx);
        ctx_client_unref(client);
        kept_deinit(&kept);
}
END_TEST

/* No thread of the library looks for it. */
START_TEST(one_that_is_slow_and_those_who_ask_have_no_time)
{
        struct ctx_client *client;
        struct kept kept;
        struct ctx *ctx;
        uint64_t usec = 0;
        pid_t pid;
        int r;

        pid = start_without_a_page(&kept);
        ctx = open_kept(&kept, &client);
        ck_assert_int_eq(ctx_wait(ctx, 1000), 0);
        pid = another_that_says_nothing(&kept, pid);
        for (unsigned n = kept.state->n_calls; kept.state->n_calls < n + 3; usec += 20000) {
                ck_assert_uint_lt(usec, 30000000);
                ck_assert_int_eq(ctx_wait(ctx, 20000), 0);
        }
        ck_assert_uint_eq(count_threads(), 1);
        kept.state->says_nothing = false;
        while ((r = ctx_wait(ctx, 20000)) == 0 && usec < 30000000)
                usec += 20000;
        ck_assert_int_eq(r, -ECANCELED);
        has_cause(ctx, "ctxd was stopped");
        keeping_daemon_kill(pid);
        ctx_unref(ctx);
        ctx_client_unref(client);
        kept_deinit(&kept);
}
END_TEST

/* It is told when it is back, and nobody calls anything for that. The context and the client are given up. */
START_TEST(law_41_a_cancel_while_it_is_away)
{
        struct ctx_client *client;
        struct ctx *ctx, *local;
        struct kept kept;
        uint64_t killed;
        pid_t pid;

        for (int unref_early = 0; unref_early < 2; unref_early++) {
                kept_init(&kept);
                pid = keeping_daemon_start(&kept, 1, true);
                ctx = open_kept(&kept, &client);
                local = ctx_with_cancel(ctx);
                killed = boottime_usec();
                keeping_daemon_kill(pid);
                ck_assert_int_eq(ctx_cancel_cause(ctx, 0, "mine"), 1);
                has_cause(ctx, "mine");
                has_cause(local, "mine");
                ck_assert_int_eq(ctx_cancel(ctx), 0);
                if (unref_early) {
                        ctx_unref(local);
                        ctx_unref(ctx);
                        ctx_client_unref(client);
                }
                pid = keeping_daemon_start(&kept, 2, true);
                while (strcmp(kept.state->cause, "by daemon 2") != 0) {
                        in_time(killed);
                        usleep(1000);
                }
                if (!unref_early) {
                        has_cause(ctx, "mine"); /* and not that of the daemon */
                        has_cause(local, "mine");
                        ctx_unref(local);
                        ctx_unref(ctx);
                        ctx_client_unref(client);
                }
                keeping_daemon_kill(pid);
                kept_deinit(&kept);
        }
}
END_TEST

static struct ctx *to_cancel;
static int cancelled;

static void cancel_it(int signal)
{
        cancelled = ctx_cancel(to_cancel);
}

/* The daemon is told in the end: without another call if it was no handler, or if the library has its thread;
 * else with the next call. */
START_TEST(law_42_a_cancel_in_a_handler_while_it_is_away)
{
        enum { NO_HANDLER, WITH_THREAD, WITHOUT_THREAD, WAYS };
        struct ctx_client *client;
        struct ctx *local;
        struct kept kept;
        uint64_t killed;
        pid_t pid;

        signal(SIGUSR1, cancel_it);
        for (int way = 0; way < WAYS; way++) {
                kept_init(&kept);
                pid = keeping_daemon_start(&kept, 1, true);
                to_cancel = open_kept(&kept, &client);
                local = ctx_with_cancel(to_cancel);
                if (way == WITH_THREAD)
                        ck_assert_int_ge(ctx_done_fd(local), 0);
                killed = boottime_usec();
                keeping_daemon_kill(pid);
                if (way == NO_HANDLER)
                        cancel_it(0);
                else
                        raise(SIGUSR1);
                ck_assert_int_eq(cancelled, 1);
                ck_assert_int_eq(ctx_err(to_cancel), -ECANCELED);
                ck_assert_int_eq(ctx_err(local), -ECANCELED);
                if (way == WITHOUT_THREAD)
                        local = ctx_unref(local);
                pid = keeping_daemon_start(&kept, 2, true);
                while (strcmp(kept.state->cause, "by daemon 2") != 0) {
                        in_time(killed);
                        usleep(1000);
                }
                ctx_unref(local);
                ctx_unref(to_cancel);
                ctx_client_unref(client);
                keeping_daemon_kill(pid);
                kept_deinit(&kept);
        }
}
END_TEST

/* One client finds the new daemon before the other does, and has the context from it a second time. The
 * daemon has one done handle for this process, which both need. */
START_TEST(two_clients_have_one_handle)
{
        for (int is_late = 0; is_late < 2; is_late++) {
                struct ctx_client *clients[2];
                struct ctx *first, *second;
                uint64_t killed;
                struct kept kept;
                pid_t pid;

                kept_init(&kept);
                pid = keeping_daemon_start(&kept, 1, true);
                first = open_kept(&kept, &clients[0]);
                ck_assert_int_eq(ctx_wait(first, 10000), 0);
                killed = boottime_usec();
                keeping_daemon_kill(pid);
                pid = keeping_daemon_start(&kept, 2, true);
                second = open_kept(&kept, &clients[1]);
                ck_assert_int_eq(ctx_wait(second, 10000), 0);
                if (!is_late)
                        ck_assert_int_eq(ctx_wait(first, 300000), 0);
                in_time(killed);
                ctx_unref(second);
                usleep(100000); /* for what must not be said */
                ck_assert_uint_eq(kept.state->n_undone, 0);
                ctx_unref(first);
                ctx_client_unref(clients[0]);
                ctx_client_unref(clients[1]);
                keeping_daemon_kill(pid);
                kept_deinit(&kept);
        }
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        a_crash_is_no_cancel,
                        often_for_who_only_looks,
                        canceled_by_another_while_it_was_not_looked_for,
                        one_that_comes_back_without_it,
                        one_that_is_slow_to_say_that_it_does_not_know_it,
                        one_that_is_slow_and_those_who_ask_have_no_time,
                        law_41_a_cancel_while_it_is_away,
                        law_42_a_cancel_in_a_handler_while_it_is_away,
                        two_clients_have_one_handle,
                        NULL,
        };

        return run_tests_with_daemon("shared-recovery", tests);
}
