/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "tests/lib/shared/daemon.h"

struct daemon the_daemon;
const char *the_configuration;

struct ctx_client *new_client(void)
{
        struct ctx_client *client = ctx_client_new(NULL);

        ck_assert_msg(client, "%s", ctx_client_error(NULL));
        return client;
}

const char *fresh_path(void)
{
        static char path[64];
        static unsigned n;

        snprintf(path, sizeof path, "t-%d-%u", getpid(), n++);
        return path;
}

struct ctx *make(struct ctx_client *client, const char *path)
{
        struct ctx *ctx = ctx_create(client, path, NULL);

        ck_assert_msg(ctx, "%s", ctx_client_error(client));
        return ctx;
}

void wait_for_other_threads(void)
{
        unsigned same = 0;

        ck_assert_happens((same = process_sleeps(getpid(), gettid()) ? same + 1 : 0) >= 20);
}

pid_t run_child(int (*fn)(void *userdata), void *userdata)
{
        pid_t pid = fork();

        ck_assert_int_ge(pid, 0);
        if (pid == 0)
                _exit(fn(userdata));
        return pid;
}

int wait_child(pid_t pid)
{
        int status;

        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void start(void)
{
        daemon_start(&the_daemon, the_configuration);
}

static void stop(void)
{
        if (daemon_stop(&the_daemon) != 0)
                give_up("ctxd did not end well", EIO);
}

int run_tests_with_daemon_and(
                const char *name, const TTest *const *tests, void (*setup)(void), void (*teardown)(void))
{
        Suite *suite = suite_create(name);
        TCase *c = add_case(suite, name, tests);

        tcase_add_unchecked_fixture(c, start, stop);
        if (setup)
                tcase_add_checked_fixture(c, setup, teardown);
        return run_suite(suite);
}

int run_tests_with_daemon(const char *name, const TTest *const *tests)
{
        return run_tests_with_daemon_and(name, tests, NULL, NULL);
}

void daemon_thaw(void)
{
        ck_assert_int_eq(kill(the_daemon.pid, SIGCONT), 0);
}

void daemon_freeze(void)
{
        ck_assert_int_eq(kill(the_daemon.pid, SIGSTOP), 0);
        ck_assert_happens(task_state(the_daemon.pid, the_daemon.pid) == 'T');
}

static struct ctx *target;
static int result;

static void cancel_target(int signal)
{
        result = ctx_cancel(target);
}

int cancel_in_handler(struct ctx *ctx)
{
        target = ctx;
        signal(SIGUSR1, cancel_target);
        raise(SIGUSR1);
        return result;
}
