/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

#include "tests/lib/shared/company.h"

/* What becomes of shared contexts when their daemon is killed and does not come back, is stopped in good
 * order, or is not there when a deadline passes. */

/* -- Nobody comes back. Those who wait do it side by side, since it takes as long as it takes.
 * -------------------- */

/* Nothing but loads: no thread, no descriptor, no call. */
static int who_only_looks(void *userdata)
{
        struct stage *s = userdata;
        struct ctx_client *client;
        uint64_t since;
        struct ctx *ctx;

        close(s->go[1]);
        client = new_client();
        ctx = make(client, "looks");
        since = wait_for_go(s);
        while (ctx_err(ctx) == 0)
                usleep(5000);
        ck_assert_uint_ge(boottime_usec() - since, CTX_DAEMON_GRACE_USEC * 9 / 10);
        ck_assert_uint_eq(count_threads(), 1);
        is_lost(ctx);
        ck_assert(is_readable(ctx_done_fd(ctx)));
        return 0;
}

static int who_inherited(void *userdata)
{
        struct stage *s = userdata;
        uint64_t since;

        close(s->go[1]);
        since = wait_for_go(s);
        ck_assert_int_eq(ctx_wait(s->inherited, UINT64_MAX), -ECANCELED);
        ck_assert_uint_ge(boottime_usec() - since, CTX_DAEMON_GRACE_USEC * 9 / 10);
        is_lost(s->inherited);
        ck_assert_int_eq(ctx_cancel(s->inherited), -ECHILD);
        return 0;
}

static int who_waits(void *userdata)
{
        struct stage *s = userdata;
        struct ctx_client *client;
        struct company company;
        struct ctx *other;

        close(s->go[1]);
        client = new_client();
        other = make(client, "not-it");
        gather(&company, make(client, "waits"), other);
        nobody_was_told(&company, wait_for_go(s));
        all_were_told(&company);
        ck_assert_ptr_null(ctx_create(client, "c", NULL));
        ck_assert_str_ne(ctx_client_error(client), "");
        return 0;
}

/* It cannot even look for the daemon. */
static int who_has_no_descriptor_left(void *userdata)
{
        struct stage *s = userdata;
        struct ctx_client *client;
        struct ctx *ctx;

        close(s->go[1]);
        client = new_client();
        ctx = make(client, "full");
        ck_assert_int_ge(ctx_done_fd(ctx), 0);
        while (fcntl(0, F_DUPFD_CLOEXEC, 3) >= 0)
                ;
        wait_for_go(s);
        ck_assert_int_eq(ctx_wait(ctx, UINT64_MAX), -ECANCELED);
        is_lost(ctx);
        ck_assert(becomes_readable(ctx_done_fd(ctx)));
        return 0;
}

static int another_user(void *userdata)
{
        struct stage *s = userdata;
        struct ctx_client *client;
        struct company company;
        struct ctx *other, *ctx;

        close(s->go[1]);
        if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
                return 1;
        client = new_client();
        other = make(client, "~/x");
        ctx = ctx_open(client, "shown");
        ck_assert_msg(ctx, "%s", ctx_client_error(client));
        gather(&company, ctx, other);
        nobody_was_told(&company, wait_for_go(s));
        all_were_told(&company);
        return 0;
}

START_TEST(nobody_comes_back)
{
        int (*const children[])(void *) = {
                        who_only_looks, who_inherited, who_waits, who_has_no_descriptor_left, another_user};
        size_t n = sizeof children / sizeof *children - (getuid() != 0);
        struct ctx_client *client;
        struct stage s = {};
        struct ctx *shown;
        pid_t pids[5];
        char byte;

        daemon_start(&s.daemon, NULL);
        ck_assert_int_eq(chmod(s.daemon.directory, 0711), 0);
        client = new_client();
        s.inherited = make(client, "inherited");
        shown = show(client);
        ck_assert_int_ge(ctx_done_fd(s.inherited), 0);
        ck_assert_int_eq(pipe2(s.ready, O_CLOEXEC), 0);
        ck_assert_int_eq(pipe2(s.go, O_CLOEXEC), 0);
        for (size_t i = 0; i < n; i++)
                pids[i] = run_child(children[i], &s);
        close(s.ready[1]);
        for (size_t i = 0; i < n; i++)
                ck_assert_int_eq(read(s.ready[0], &byte, 1), 1);
        daemon_kill(&s.daemon);
        close(s.go[1]);
        for (size_t i = 0; i < n; i++)
                ck_assert_msg(wait_child(pids[i]) == 0, "child %zu", i);
        daemon_again(&s.daemon);
        ctx_unref(shown);
        ctx_unref(s.inherited);
        ctx_client_unref(client);
        daemon_stop(&s.daemon);
}
END_TEST

/* -- A stop in good order
 * ---------------------------------------------------------------------------------------- */

START_TEST(a_daemon_that_is_stopped_says_so)
{
        struct ctx *other, *before, *asked;
        struct ctx_client *client;
        struct company company;
        struct daemon daemon = {};
        const char *message;

        daemon_start(&daemon, NULL);
        client = new_client();
        other = make(client, "b");
        before = make(client, "before");
        asked = make(client, "asked");
        gather(&company, make(client, "a"), other);
        ck_assert_int_eq(ctx_cancel_cause(before, EPIPE, "nobody asks in time"), 1);
        ck_assert_int_eq(ctx_cancel_cause(asked, EPIPE, "went away"), 1);
        ck_assert_int_eq(ctx_cause(asked, NULL, &message), 1);
        daemon_stop(&daemon);
        is_lost(company.ctx); /* at once */
        all_were_told(&company);
        is_lost(other);
        ck_assert_int_eq(ctx_cause(asked, NULL, &message), 1);
        ck_assert_str_eq(message, "went away");
        ck_assert_int_eq(ctx_cause(before, NULL, &message), 1);
        ck_assert_str_eq(message, "context canceled");
        ctx_unref(asked);
        ctx_unref(before);
        ctx_unref(other);
        ctx_client_unref(client);
}
END_TEST

/* A deadline passes although nobody is there who watches it. */
START_TEST(a_deadline_while_nobody_is_there)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx_client *client;
        struct daemon daemon = {};
        struct waiter waiters[N_WAYS];
        struct ctx *ctx;
        int fd;

        daemon_start(&daemon, NULL);
        client = new_client();
        options.timeout_usec = 3000000;
        ctx = ctx_create(client, "a", &options);
        ck_assert_ptr_nonnull(ctx);
        fd = ctx_done_fd(ctx);
        start_waiting(waiters, ctx);
        daemon_kill(&daemon);
        for (size_t i = 0; i < N_WAYS; i++) {
                ck_assert_int_eq(pthread_join(waiters[i].thread, NULL), 0);
                ck_assert_int_eq(waiters[i].r, -ETIMEDOUT);
        }
        ck_assert(becomes_readable(fd));
        ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
        daemon_again(&daemon);
        ctx_unref(ctx);
        ctx_client_unref(client);
        daemon_stop(&daemon);
}
END_TEST

/* Old kernels never report a hang-up for the descriptor of Alive, and new ones only once it was reaped. */
START_TEST(a_daemon_that_has_ended_and_is_not_reaped)
{
        struct waiter waiters[N_WAYS];
        struct ctx_client *client;
        struct daemon daemon = {};
        struct ctx *ctx;
        int fd;

        daemon_start(&daemon, NULL);
        client = new_client();
        ctx = make(client, "a");
        fd = ctx_done_fd(ctx);
        start_waiting(waiters, ctx);
        ck_assert_int_eq(kill(daemon.pid, SIGKILL), 0);
        for (size_t i = 0; i < N_WAYS; i++) {
                ck_assert_int_eq(pthread_join(waiters[i].thread, NULL), 0);
                ck_assert_int_eq(waiters[i].r, -ECANCELED);
        }
        ck_assert(becomes_readable(fd));
        is_lost(ctx);
        daemon_kill(&daemon);
        daemon_again(&daemon);
        ctx_unref(ctx);
        ctx_client_unref(client);
        daemon_stop(&daemon);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        nobody_comes_back,
                        a_daemon_that_is_stopped_says_so,
                        a_deadline_while_nobody_is_there,
                        a_daemon_that_has_ended_and_is_not_reaped,
                        NULL,
        };

        return run_tests_with_daemon("shared-gone", tests);
}
