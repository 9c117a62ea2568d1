/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/law/local.h"
#include "tests/lib/calls/syscall.h"

/* A child process, once it runs: it is asked, signalled and waited for, alone or with all that it has
 * forked. */

static bool is_old; /* a kernel that cannot signal a process group by a pidfd: before Linux 6.9 */

static bool is_refused(long number, const long a[6])
{
        if (is_old && number == SYS_pidfd_send_signal && (unsigned) a[3] != 0) {
                errno = EINVAL;
                return true;
        }
        return false;
}

static void nothing(void *userdata) {}

static void warm_up(void)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        char *const command[] = {(char *) "true", NULL};
        struct ctx_task *task = ctx_spawn(ctx, command, NULL);

        ctx_after_unref(ctx_after_func(ctx, nothing, NULL));
        ck_assert_int_eq(ctx_task_wait(task, NULL), 0);
        ctx_task_unref(task);
}

static struct ctx_task *start(struct ctx *ctx, const char *script, struct ctx_spawn_options *options)
{
        char *const argv[] = {(char *) "sh", (char *) "-c", (char *) script, NULL};
        struct ctx_task *task = ctx_spawn(ctx, argv, options);

        ck_assert_ptr_nonnull(task);
        return task;
}

START_TEST(a_wait_that_a_context_ends)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *soon = ctx_with_timeout(ctx_background(), 20000);
        struct ctx_task *task = start(ctx, "exec sleep 1000", NULL);
        int status = -1;

        ck_assert_int_eq(ctx_task_wait_for(soon, task, &status), -ETIMEDOUT);
        ck_assert_int_eq(ctx_task_wait_for(soon, task, &status), -ETIMEDOUT);
        ck_assert_int_eq(ctx_task_wait_for(NULL, task, &status), -EINVAL);
        ck_assert_int_eq(ctx_task_wait_for(ctx, NULL, &status), -EINVAL);
        ck_assert_int_eq(status, -1);
        ck_assert_int_eq(ctx_task_kill(task, 0), 0);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_int_eq(ctx_task_wait_for(ctx_background(), task, &status), 0);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
        status = -1;
        ck_assert_int_eq(ctx_task_wait_for(ctx_background(), task, &status), 0);
        ck_assert(WIFSIGNALED(status));
        ctx_task_unref(task);
}
END_TEST

START_TEST(pid_and_signals)
{
        struct ctx_task *task = start(ctx_background(), "exec sleep 1000", NULL);
        int status;

        ck_assert_int_eq(kill(ctx_task_pid(task), 0), 0);
        ck_assert_int_eq(getpgid(ctx_task_pid(task)), getpgid(0));
        ck_assert_int_eq(ctx_task_kill(task, 1000), -EINVAL);
        ck_assert_int_eq(ctx_task_kill(task, SIGUSR1), 0);
        ck_assert(becomes_readable(ctx_task_pidfd(task)));
        ck_assert_int_eq(ctx_task_kill(task, SIGUSR1), 0);
        ck_assert_int_eq(ctx_task_wait(task, &status), 0);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
        ck_assert_int_eq(ctx_task_kill(task, SIGUSR1), -ESRCH);
        ck_assert_int_eq(ctx_task_kill(NULL, SIGUSR1), -EINVAL);
        ck_assert_int_eq(ctx_task_pid(NULL), -EINVAL);
        ctx_task_unref(task);
}
END_TEST

START_TEST(reaped_by_the_program)
{
        struct ctx_task *task = start(ctx_background(), "exit 3", NULL);
        int status;

        ck_assert_int_eq(waitpid(ctx_task_pid(task), &status, 0), ctx_task_pid(task));
        ck_assert_int_eq(ctx_task_wait(task, &status), -ECHILD);
        ck_assert_int_eq(ctx_task_wait_for(ctx_background(), task, &status), -ECHILD);
        ck_assert_int_eq(ctx_task_kill(task, SIGKILL), -ESRCH);
        ctx_task_unref(task);
}
END_TEST

/* The pipe ends when the last process has gone. */
static struct ctx_task *start_tree(struct ctx *ctx, const char *script, int *ret_end)
{
        struct ctx_spawn_options options = CTX_SPAWN_OPTIONS;
        struct ctx_task *task;
        char byte;
        int fds[2];

        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        options.flags = CTX_SPAWN_TREE;
        options.kill_after_usec = 50000;
        options.fds[1] = fds[1];
        task = start(ctx, script, &options);
        close(fds[1]);
        ck_assert_int_eq(read(fds[0], &byte, 1), 1);
        *ret_end = fds[0];
        return task;
}

static void assert_end(int fd)
{
        char byte;

        ck_assert(becomes_readable(fd));
        ck_assert_int_eq(read(fd, &byte, 1), 0);
        close(fd);
}

START_TEST(a_tree_ends_with_its_context)
{
        static const char *const scripts[] = {
                        "(sleep 1000 & sleep 1000) & sleep 1000 & echo; wait",
                        /* Deaf ones: killed later. */
                        "trap '' TERM; (sleep 1000 & sleep 1000) & sleep 1000 & echo; wait",
        };

        for (size_t i = 0; i < 4; i++) {
                bool deaf = i & 1;
                struct ctx *ctx = ctx_with_cancel(ctx_background());
                struct ctx_task *task;
                int status, end;

                is_old = i & 2;
                task = start_tree(ctx, scripts[deaf], &end);
                ck_assert_int_eq(getpgid(ctx_task_pid(task)), ctx_task_pid(task));
                ck_assert_int_eq(ctx_cancel(ctx), 1);
                assert_end(end);
                ck_assert_int_eq(ctx_task_wait(task, &status), 0);
                ck_assert(WIFSIGNALED(status));
                ck_assert_int_eq(WTERMSIG(status), deaf ? SIGKILL : SIGTERM);
                ctx_task_unref(task);
                ctx_unref(ctx);
        }
}
END_TEST

static void end_root(void)
{
        int status, end;
        struct ctx_task *task = start_tree(ctx_background(), "sleep 1000 & echo; exit 5", &end);

        ck_assert_int_eq(ctx_task_wait(task, &status), 0);
        ck_assert_int_eq(status, 5 << 8);
        assert_end(end);
        ctx_task_unref(task);

        task = start_tree(ctx_background(), "sleep 1000 & echo; wait", &end);
        ck_assert_int_eq(ctx_task_kill(task, SIGKILL), 0);
        assert_end(end);
        ck_assert_int_eq(ctx_task_wait_for(ctx_background(), task, &status), 0);
        ctx_task_unref(task);
}

START_TEST(a_tree_ends_with_its_root)
{
        end_root();
        is_old = true;
        end_root();
}
END_TEST

static struct ctx_sem begun;

static void spawn_and_end(void *userdata)
{
        struct ctx_spawn_options options = CTX_SPAWN_OPTIONS;
        struct ctx *ctx = ctx_with_cancel(ctx_background());
        char *const argv[] = {(char *) "sleep", (char *) "1000", NULL};
        struct ctx_task *task;

        ck_assert_int_eq(ctx_sem_post(&begun), 0);
        options.kill_after_usec = 10000000;
        task = ctx_spawn(ctx, argv, &options);
        ck_assert_ptr_nonnull(task);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_int_eq(ctx_task_wait(task, (int *) userdata), 0);
        ctx_task_unref(task);
        ctx_unref(ctx);
}

/* Threads of the library block all signals, and those of a program may. */
START_TEST(a_child_blocks_no_signal)
{
        struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct ctx_after *after;
        sigset_t all, before;
        int status = -1;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        spawn_and_end(&status);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        ck_assert_int_eq(status, SIGTERM);
        ck_assert_int_eq(ctx_sem_trywait(&begun), 0);

        status = -1;
        after = ctx_after_func(ctx, spawn_and_end, &status);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_int_eq(ctx_sem_wait(ctx_background(), &begun), 0);
        ck_assert_int_eq(ctx_after_stop_wait(after), 0);
        ctx_after_unref(after);
        ctx_unref(ctx);
        ck_assert_int_eq(status, SIGTERM);
}
END_TEST

/* A tree is a background job for its terminal, which stops who reads. */
START_TEST(a_stopped_child_ends_with_its_context)
{
        for (unsigned i = 0; i < 4; i++) {
                struct ctx_spawn_options options = CTX_SPAWN_OPTIONS;
                struct ctx *ctx = ctx_with_cancel(ctx_background());
                struct ctx_task *task;
                siginfo_t info;
                int status;

                is_old = i & 2;
                options.kill_after_usec = UINT64_MAX;
                options.flags = i & 1 ? CTX_SPAWN_TREE : 0;
                task = start(ctx, "kill -STOP $$; exec sleep 1000", &options);
                ck_assert_int_eq(waitid(P_PID, (id_t) ctx_task_pid(task), &info, WSTOPPED), 0);
                ck_assert_int_eq(ctx_cancel(ctx), 1);
                ck_assert_int_eq(ctx_task_wait(task, &status), 0);
                ck_assert_int_eq(status, SIGTERM);
                ctx_task_unref(task);
                ctx_unref(ctx);
        }
}
END_TEST

START_TEST(flags)
{
        char *const command[] = {(char *) "true", NULL};
        struct ctx_spawn_options options = CTX_SPAWN_OPTIONS;

        options.flags = 2;
        ck_assert_ptr_null(ctx_spawn(ctx_background(), command, &options));
        ck_assert_int_eq(errno, EINVAL);
}
END_TEST

/* After a task is given up its kill-after is over, too; the timer may be about to fire. */
START_TEST(given_up_at_any_moment)
{
        for (int i = 0; i < 60; i++) {
                struct ctx *ctx = ctx_with_cancel(ctx_background());
                struct ctx_spawn_options options = CTX_SPAWN_OPTIONS;
                struct ctx_task *task;
                pid_t pid;

                options.kill_after_usec = (uint64_t) i * 20;
                task = start(ctx, "exec sleep 1000", &options);
                pid = ctx_task_pid(task);
                ctx_cancel(ctx);
                nap((uint64_t) (i % 7) * 100);
                ctx_task_unref(task);
                ctx_unref(ctx);
                ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        }
}
END_TEST

START_TEST(send_and_receive)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *soon = ctx_with_timeout(ctx, 20000);
        char buffer[16];
        int fds[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
        ck_assert_int_eq(ctx_send(ctx, fds[0], "hello", 5, 0), 5);
        ck_assert_int_eq(ctx_recv(ctx, fds[1], buffer, sizeof buffer, MSG_PEEK), 5);
        ck_assert_int_eq(ctx_recv(ctx, fds[1], buffer, 2, MSG_TRUNC), 5);
        ck_assert_int_eq(ctx_recv(ctx, fds[1], buffer, 2, MSG_DONTWAIT), -EAGAIN);
        ck_assert_int_eq(ctx_recv(soon, fds[1], buffer, 2, 0), -ETIMEDOUT);
        ck_assert_int_eq(ctx_send(soon, fds[0], "x", 1, 0), -ETIMEDOUT);
        ck_assert_int_eq(ctx_send(NULL, fds[0], "x", 1, 0), -EINVAL);
        ck_assert_int_eq(ctx_recv(ctx, 0x7fffffff, buffer, 1, 0), -EBADF);
        close(fds[1]);
        ck_assert_int_eq(ctx_send(ctx, fds[0], "x", 1, 0), -EPIPE);
        ck_assert_int_eq(ctx_recv(ctx, fds[0], buffer, 1, 0), 0);
        close(fds[0]);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        a_wait_that_a_context_ends,
                        pid_and_signals,
                        reaped_by_the_program,
                        a_tree_ends_with_its_context,
                        a_tree_ends_with_its_root,
                        a_child_blocks_no_signal,
                        a_stopped_child_ends_with_its_context,
                        flags,
                        given_up_at_any_moment,
                        send_and_receive,
                        NULL,
        };

        warm = warm_up;
        return run_laws("tasks", tests);
}
