/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/law/local.h"

/* Work under a context: threads that enter it, groups, processes. */

static void nothing(void *userdata) {}

static void warm_up(void)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());

        ctx_after_unref(ctx_after_func(ctx, nothing, NULL));
}

START_TEST(enter_nests)
{
        CTX_AUTO_CANCEL struct ctx *outer = ctx_with_cancel(ctx_background());
        CTX_AUTO_CANCEL struct ctx *inner = ctx_with_cancel(outer);

        ck_assert_ptr_eq(ctx_current(), ctx_background());
        ck_assert_int_eq(ctx_enter(outer), 0);
        ck_assert_ptr_eq(ctx_current(), outer);
        {
                CTX_SCOPE(inner);

                ck_assert_ptr_eq(ctx_current(), inner);
                {
                        CTX_SCOPE(outer);
                        ck_assert_ptr_eq(ctx_current(), outer);
                }
                ck_assert_ptr_eq(ctx_current(), inner);
        }
        ck_assert_ptr_eq(ctx_current(), outer);
        ctx_leave(inner); /* not entered: nothing */
        ck_assert_ptr_eq(ctx_current(), outer);
        ctx_leave(outer);
        ck_assert_ptr_eq(ctx_current(), ctx_background());
        ctx_leave(outer);
        ctx_leave(NULL);
        ck_assert_int_eq(ctx_enter(NULL), -EINVAL);
}
END_TEST

static void *enter_and_go(void *userdata)
{
        ck_assert_int_eq(ctx_enter(userdata), 0);
        ck_assert_int_eq(ctx_enter(userdata), 0);
        return NULL;
}

static void count(void *value)
{
        ++*(int *) value;
}

START_TEST(a_thread_that_ends_has_left)
{
        static const struct ctx_key key = CTX_KEY("key");
        int destroyed = 0;
        struct ctx *ctx = ctx_with_value(ctx_background(), &key, &destroyed, count);
        pthread_t thread;

        ck_assert_int_eq(pthread_create(&thread, NULL, enter_and_go, ctx), 0);
        pthread_join(thread, NULL);
        ck_assert_int_eq(destroyed, 0);
        ctx_unref(ctx);
        ck_assert_int_eq(destroyed, 1);
}
END_TEST

static int work_until_done(struct ctx *ctx, void *userdata)
{
        ck_assert_ptr_eq(ctx_current(), ctx);
        return ctx_wait(ctx, UINT64_MAX);
}

static int fail_at_once(struct ctx *ctx, void *userdata)
{
        return -EPIPE;
}

static int succeed(struct ctx *ctx, void *userdata)
{
        atomic_fetch_add((_Atomic int *) userdata, 1);
        return 0;
}

START_TEST(group_the_first_error_cancels_the_rest)
{
        CTX_AUTO_CANCEL struct ctx *parent = ctx_with_cancel(ctx_background());
        struct ctx_group *group = ctx_group_new(parent);
        CTX_AUTO_UNREF struct ctx *ctx = ctx_ref(ctx_group_ctx(group));

        for (int i = 0; i < 5; i++)
                ck_assert_int_eq(ctx_group_go(group, work_until_done, NULL), 0);
        ck_assert_int_eq(ctx_group_go(group, fail_at_once, NULL), 0);
        ck_assert_int_eq(ctx_group_wait(group), -EPIPE);
        ck_assert_int_eq(ctx_group_wait(group), -EPIPE);
        ck_assert_ptr_null(ctx_group_unref(group));
        assert_cause(ctx, EPIPE, "Broken pipe");
        ck_assert_int_eq(ctx_err(parent), 0);
}
END_TEST

START_TEST(group_without_an_error)
{
        struct ctx_group *group = ctx_group_new(ctx_background());
        _Atomic int runs = 0;

        for (int i = 0; i < 10; i++)
                ck_assert_int_eq(ctx_group_go(group, succeed, &runs), 0);
        ck_assert_int_eq(ctx_group_wait(group), 0);
        ck_assert_int_eq(runs, 10);
        ck_assert_int_eq(ctx_err(ctx_group_ctx(group)), -ECANCELED);
        ctx_group_unref(group);

        group = ctx_group_new(ctx_background());
        ck_assert_int_eq(ctx_group_wait(group), 0);
        ck_assert_int_eq(ctx_group_go(group, NULL, NULL), -EINVAL);
        ctx_group_unref(group);
        ck_assert_ptr_null(ctx_group_new(NULL));
        ck_assert_ptr_null(ctx_group_unref(NULL));
        ck_assert_int_eq(ctx_group_wait(NULL), -EINVAL);
}
END_TEST

START_TEST(group_by_its_parent)
{
        CTX_AUTO_UNREF struct ctx *parent = ctx_with_timeout(ctx_background(), 5000);
        struct ctx_group *group = ctx_group_new(parent);
        unsigned threads;

        ck_assert_int_eq(ctx_group_go(group, work_until_done, NULL), 0);
        ck_assert_int_eq(ctx_group_wait(group), -ETIMEDOUT);
        ctx_group_unref(group);

        /* Given up while it works: it is cancelled, and everything is freed by the last thread. */
        threads = count_threads();
        group = ctx_group_new(ctx_background());
        ck_assert_int_eq(ctx_group_go(group, work_until_done, NULL), 0);
        ctx_group_unref(group);
        ck_assert_happens(count_threads() <= threads);
}
END_TEST

static int run(struct ctx *ctx, const char *script, const struct ctx_spawn_options *options)
{
        char *argv[] = {(char *) "/bin/sh", (char *) "-c", (char *) script, NULL};
        struct ctx_task *task = ctx_spawn(ctx, argv, options);
        int status = -1;

        ck_assert_ptr_nonnull(task);
        ck_assert_int_ge(ctx_task_pidfd(task), 0);
        ck_assert_int_eq(ctx_task_wait(task, &status), 0);
        ck_assert_int_eq(ctx_task_wait(task, NULL), 0);
        ck_assert(is_readable(ctx_task_pidfd(task)));
        ck_assert_ptr_null(ctx_task_unref(task));
        return status;
}

static void all_reaped(void)
{
        for (int i = 0; i < 60000; i++) {
                siginfo_t info;

                if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD)
                        return;
                usleep(1000);
        }
        ck_abort_msg("a child is left");
}

START_TEST(spawn_status)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        int status = run(ctx, "exit 7", NULL);

        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7);
        status = run(ctx_background(), "kill -9 $$", NULL);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        ck_assert_int_eq(ctx_err(ctx), 0);
        all_reaped();
}
END_TEST

START_TEST(spawn_options)
{
        char *environment[] = {(char *) "A=here", NULL};
        int fds[2];
        char buffer[100] = {};
        struct ctx_spawn_options options = CTX_SPAWN_OPTIONS;

        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        options.env = environment;
        options.directory = "/";
        options.fds[1] = options.fds[2] = fds[1];
        ck_assert_int_eq(run(ctx_background(), "echo $A $PWD; echo error >&2", &options), 0);
        ck_assert_int_eq(read(fds[0], buffer, sizeof(buffer)), 13);
        ck_assert_str_eq(buffer, "here /\nerror\n");
        close(fds[0]);
        close(fds[1]);
        all_reaped();
}
END_TEST

enum how { HOW_CANCEL, HOW_DEADLINE, HOW_SIGNAL, HOWS };

START_TEST(spawn_is_ended_by_the_context)
{
        for (enum how how = 0; how < HOWS; how++) {
                char *argv[] = {(char *) "sleep", (char *) "1000", NULL};
                struct ctx_spawn_options options = CTX_SPAWN_OPTIONS;
                struct ctx_task *task = NULL;
                struct ctx *ctx = NULL;
                int status;

                if (how == HOW_SIGNAL)
                        options.signal = SIGUSR1;
                WITH_MORE_TIME(margin)
                {
                        ctx_unref(ctx);
                        ctx = how == HOW_DEADLINE ? ctx_with_timeout(ctx_background(), margin)
                                                  : ctx_with_cancel(ctx_background());
                        task = ctx_spawn(ctx, argv, &options);
                        if (task)
                                break;
                        ck_assert_int_eq(errno, ETIMEDOUT); /* it was too late to begin */
                }
                ck_assert_ptr_nonnull(task);
                if (how != HOW_DEADLINE)
                        ck_assert_int_eq(ctx_cancel(ctx), 1);
                ck_assert_int_eq(ctx_task_wait(task, &status), 0);
                ck_assert(WIFSIGNALED(status));
                ck_assert_int_eq(WTERMSIG(status), how == HOW_SIGNAL ? SIGUSR1 : SIGTERM);
                ctx_task_unref(task);
                ctx_unref(ctx);
        }
        all_reaped();
}
END_TEST

START_TEST(spawn_is_killed_later)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        const char *script = "trap '' TERM; echo ready; while :; do sleep 0.01; done";
        char *argv[] = {(char *) "/bin/sh", (char *) "-c", (char *) script, NULL};
        struct ctx_spawn_options options = CTX_SPAWN_OPTIONS;
        struct ctx_task *task;
        int fds[2], status;
        char byte;

        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        options.kill_after_usec = 50000;
        options.fds[1] = fds[1];
        task = ctx_spawn(ctx, argv, &options);
        ck_assert_ptr_nonnull(task);
        close(fds[1]);
        ck_assert_int_eq(read(fds[0], &byte, 1), 1);
        close(fds[0]);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_int_eq(ctx_task_wait(task, &status), 0);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        ctx_task_unref(task);
        all_reaped();
}
END_TEST

START_TEST(spawn_refused)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        char *argv[] = {(char *) "/nonexistent/program", NULL}, *none[] = {NULL};
        struct ctx_spawn_options bad = CTX_SPAWN_OPTIONS;

        bad.signal = 1000;
        ck_assert_ptr_null(ctx_spawn(ctx, argv, NULL));
        ck_assert_int_eq(errno, ENOENT);
        ck_assert_ptr_null(ctx_spawn(ctx, none, NULL));
        ck_assert_int_eq(errno, EINVAL);
        ck_assert_ptr_null(ctx_spawn(ctx, argv, &bad));
        ck_assert_int_eq(errno, EINVAL);
        ck_assert_ptr_null(ctx_spawn(NULL, argv, NULL));
        ctx_cancel(ctx);
        ck_assert_ptr_null(ctx_spawn(ctx, argv, NULL));
        ck_assert_int_eq(errno, ECANCELED);
        ck_assert_int_eq(ctx_task_wait(NULL, NULL), -EINVAL);
        ck_assert_int_eq(ctx_task_pidfd(NULL), -EINVAL);
        ck_assert_ptr_null(ctx_task_unref(NULL));
        all_reaped();
}
END_TEST

static void die(void *userdata)
{
        abort();
}

static void count_atomic(void *userdata)
{
        atomic_fetch_add((_Atomic int *) userdata, 1);
}

/* A child of a fork reads, waits and makes contexts of its own; its end does not touch the parent's. */
START_TEST(fork_without_exec)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *child = ctx_with_cancel(ctx);
        struct ctx_after *after = ctx_after_func(child, die, NULL);
        int fd = ctx_done_fd(ctx), status;
        pid_t pid;

        pid = fork();
        if (pid == 0) {
                struct ctx *own = ctx_with_timeout(child, 1000);
                _Atomic int runs = 0;
                struct ctx_after *mine = ctx_after_func(own, count_atomic, &runs);

                alarm(120);
                if (ctx_err(ctx) != 0 || ctx_wait(own, UINT64_MAX) != -ETIMEDOUT)
                        _exit(1);
                while (atomic_load(&runs) == 0)
                        usleep(1000);
                ctx_after_unref(mine);
                ctx_unref(own);
                if (ctx_cancel(ctx) != 1 || ctx_err(child) != -ECANCELED || !is_readable(ctx_done_fd(ctx)))
                        _exit(2);
                usleep(5000); /* the parent's callback does not run here */
                _exit(0);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
        ck_assert(!is_readable(fd));
        ck_assert_int_eq(ctx_err(ctx), 0);
        ck_assert_int_eq(ctx_after_stop(after), 1);
        ctx_after_unref(after);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        enter_nests,
                        a_thread_that_ends_has_left,
                        group_the_first_error_cancels_the_rest,
                        group_without_an_error,
                        group_by_its_parent,
                        spawn_status,
                        spawn_options,
                        spawn_is_ended_by_the_context,
                        spawn_is_killed_later,
                        spawn_refused,
                        fork_without_exec,
                        NULL,
        };

        warm = warm_up;
        return run_laws("work under a context", tests);
}
