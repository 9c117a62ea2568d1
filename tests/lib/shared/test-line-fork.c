/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "tests/lib/shared/daemon.h"

/* A handler that has interrupted a call over a line, and forks: the child returns into that call, but the
 * line is the parent's. */

static pid_t child;

static void fork_in_handler(int signal)
{
        child = fork();
        if (child != 0)
                kill(the_daemon.pid, SIGCONT);
}

/* The answer is the parent's. */
START_TEST(law_42_a_fork_in_a_handler_that_has_interrupted_a_line)
{
        struct ctx_client *client = new_client();
        struct itimerval soon = {.it_value.tv_usec = 50000};
        struct ctx *ctx = make(client, fresh_path());
        int r;

        signal(SIGALRM, fork_in_handler);
        daemon_freeze();
        ck_assert_int_eq(setitimer(ITIMER_REAL, &soon, NULL), 0);
        r = ctx_cancel(ctx);
        if (child == 0)
                _exit(r == -ECHILD ? 0 : 1);
        ck_assert_int_eq(r, 1);
        ck_assert_int_eq(wait_child(child), 0);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

static volatile int is_child, n_forks;

static void fork_anywhere(int signal)
{
        pid_t pid;

        if (is_child)
                return;
        pid = fork();
        if (pid < 0)
                return;
        is_child = pid == 0;
        n_forks += pid > 0;
}

#define AT_ONCE 50

/* Each child returns into the call that was interrupted, wherever that was. */
START_TEST(law_42_forks_in_handlers_that_have_interrupted_anything)
{
        struct ctx_client *client = new_client();
        struct itimerval soon = {}, never = {};
        struct ctx *ctx[AT_ONCE];
        int status, r, n_all = 0;

        signal(SIGALRM, fork_anywhere);
        for (int i = 0; i < 30; i++) {
                for (int k = 0; k < AT_ONCE; k++)
                        ctx[k] = make(client, fresh_path());
                for (int k = 0; k < AT_ONCE; k++) {
                        soon.it_value.tv_usec = 1 + (i * AT_ONCE + k) * 37 % 250;
                        ck_assert_int_eq(setitimer(ITIMER_REAL, &soon, NULL), 0);
                        r = ctx_cancel(ctx[k]);
                        if (is_child)
                                _exit(r == -ECHILD || r == 1 ? 0 : 1);
                        ck_assert_int_eq(r, 1);
                        setitimer(ITIMER_REAL, &never, NULL);
                        if (is_child)
                                _exit(0);
                }
                for (int k = 0; k < AT_ONCE; k++)
                        ctx_unref(ctx[k]);
                for (; n_forks > 0; n_forks--, n_all++) {
                        ck_assert_int_gt(waitpid(-1, &status, 0), 0);
                        ck_assert_int_eq(status, 0);
                }
        }
        ck_assert_int_gt(n_all, 0);
        ctx_client_unref(client);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {law_42_a_fork_in_a_handler_that_has_interrupted_a_line,
                        law_42_forks_in_handlers_that_have_interrupted_anything, NULL};

        return run_tests_with_daemon("shared-line-fork", tests);
}
