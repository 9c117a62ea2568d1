/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/law/local.h"
#include "tests/lib/calls/syscall.h"

/* What can happen to ctx_spawn() before the exec of its child. The library blocks all signals before the
 * fork, and opens a pidfd after it. The linker leads these calls here (--wrap), so that a test does its part
 * at the right moment. */

/* In the thread that calls ctx_spawn(): those of the library start others, with a lock held. */
static __thread void (*at_first)(void);
static void (*between)(pid_t child);

int __real_pthread_sigmask(int how, const sigset_t *set, sigset_t *ret_old);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *ret_old);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *ret_old)
{
        void (*hook)(void) = at_first;

        at_first = NULL;
        if (hook)
                hook();
        return __real_pthread_sigmask(how, set, ret_old);
}

static bool is_refused(long number, const long a[6])
{
        if (number == SYS_pidfd_open && between)
                between((pid_t) a[0]);
        return false;
}

static char *const command[] = {(char *) "true", NULL};

static void nothing(void *userdata) {}

static void warm_up(void)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_timeout(ctx_background(), 60000000);

        ctx_after_unref(ctx_after_func(ctx, nothing, NULL));
}

static int pipe_of[2]; /* of the test, and of the processes that it starts */

static void open_pipe(void)
{
        ck_assert_int_eq(pipe2(pipe_of, O_CLOEXEC), 0);
}

static void close_pipe(void)
{
        close(pipe_of[0]);
        close(pipe_of[1]);
}

static void kill_it(pid_t child)
{
        siginfo_t info;

        kill(child, SIGKILL);
        waitid(P_PID, (id_t) child, &info, WEXITED | WNOWAIT);
}

/* Before it could be let through. No signal may reach the caller. */
START_TEST(the_child_is_killed)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct ctx_task *task;
        int status;

        between = kill_it;
        task = ctx_spawn(ctx, command, NULL);
        ck_assert_ptr_nonnull(task);
        ck_assert_int_eq(ctx_task_wait(task, &status), 0);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        ctx_task_unref(task);
}
END_TEST

static pid_t bystander;

/* As another thread of the program may do just then. */
static void fork_beside(void)
{
        bystander = fork();
        if (bystander != 0)
                return;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sleep(1000);
        _exit(0);
}

START_TEST(another_thread_forks)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct ctx_task *task;
        int status;

        at_first = fork_beside;
        task = ctx_spawn(ctx, command, NULL);
        ck_assert_ptr_nonnull(task);
        ck_assert_int_eq(waitpid(bystander, &status, WNOHANG), 0);
        kill(bystander, SIGKILL);
        ck_assert_int_eq(waitpid(bystander, &status, 0), bystander);
        ck_assert_int_eq(ctx_task_wait(task, &status), 0);
        ck_assert_int_eq(status, 0);
        ctx_task_unref(task);
}
END_TEST

static void fork_beside_and_die(pid_t child)
{
        pid_t pids[2] = {child, fork()};

        if (pids[1] == 0) {
                pause();
                _exit(0);
        }
        if (write(pipe_of[1], pids, sizeof pids) == sizeof pids)
                kill(getpid(), SIGKILL);
}

/* The child is not let through, and does not wait for ever. */
START_TEST(the_parent_is_killed)
{
        char *const exit_9[] = {(char *) "sh", (char *) "-c", (char *) "exit 9", NULL};
        pid_t pid, pids[2];
        int status;

        open_pipe();
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        pid = fork();
        if (pid == 0) {
                between = fork_beside_and_die;
                _exit(ctx_spawn(ctx_background(), exit_9, NULL) != NULL);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, SIGKILL);
        ck_assert_int_eq(read(pipe_of[0], pids, sizeof pids), sizeof pids);
        ck_assert_happens(waitpid(pids[0], &status, WNOHANG) == pids[0]);
        ck_assert_int_ne(status, 9 << 8);
        kill(pids[1], SIGKILL);
        ck_assert_int_eq(waitpid(pids[1], &status, 0), pids[1]);
        close_pipe();
}
END_TEST

static void cancel_this_thread(pid_t child)
{
        pthread_cancel(pthread_self());
}

static void *spawn_and_wait(void *userdata)
{
        struct ctx_task *task = ctx_spawn(ctx_background(), command, NULL);
        int status = -1;

        /* The first point at which this thread can be cancelled is in the wait, if anywhere. */
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
        if (task && ctx_task_wait(task, &status) == 0)
                ctx_task_unref(task);
        return status == 0 ? userdata : NULL;
}

START_TEST(the_thread_is_cancelled)
{
        pthread_t thread;
        void *result;

        between = cancel_this_thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, spawn_and_wait, &result), 0);
        ck_assert_int_eq(pthread_join(thread, &result), 0);
        ck_assert_ptr_eq(result, &result);
        ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
        ck_assert_int_eq(errno, ECHILD);
}
END_TEST

static void count_signal(int signal)
{
        if (write(pipe_of[1], "!", 1) != 1)
                abort();
}

static void signal_it(pid_t child)
{
        for (int i = 0; i < 100; i++)
                kill(child, SIGUSR1);
}

/* The parent's handler does not run in the child. The child is ended by what it got while it waited. */
START_TEST(the_child_gets_a_signal)
{
        struct ctx_task *task;
        int status;

        open_pipe();
        signal(SIGUSR1, count_signal);
        between = signal_it;
        task = ctx_spawn(ctx_background(), command, NULL);
        ck_assert_ptr_nonnull(task);
        ck_assert_int_eq(ctx_task_wait(task, &status), 0);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
        ck_assert(!is_readable(pipe_of[0]));
        ctx_task_unref(task);
        close_pipe();
}
END_TEST

/* Until nothing more is given. (With a limit of 0, poll(2) would not work.) */
static void take_all_fds(void)
{
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){64, 64}), 0);
        while (fcntl(0, F_DUPFD_CLOEXEC, 0) >= 0)
                ;
        ck_assert_int_eq(errno, EMFILE);
}

/* The library may have no thread and no timer yet. It needs them only to keep its word. */
START_TEST(no_descriptor_is_free_at_the_cancel)
{
        char *const deaf[] = {
                        (char *) "sh", (char *) "-c", (char *) "trap '' TERM; echo; exec sleep 1000", NULL};
        struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct ctx_spawn_options options = CTX_SPAWN_OPTIONS;
        struct ctx_task *task;
        char byte;
        int status;

        open_pipe();
        options.kill_after_usec = 10000;
        options.fds[1] = pipe_of[1];
        task = ctx_spawn(ctx, deaf, &options);
        ck_assert_ptr_nonnull(task);
        ck_assert_int_eq(read(pipe_of[0], &byte, 1), 1);
        take_all_fds();
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert(becomes_readable(ctx_task_pidfd(task)));
        ck_assert_int_eq(ctx_task_wait(task, &status), 0);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        ctx_task_unref(task);
        ctx_unref(ctx);
        close_pipe();
}
END_TEST

/* A spawn needs one descriptor, that of the task. */
START_TEST(no_descriptor_is_free_at_the_start)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct ctx_spawn_options options = CTX_SPAWN_OPTIONS;
        struct ctx_task *task;

        options.kill_after_usec = UINT64_MAX;
        take_all_fds();
        ck_assert_ptr_null(ctx_spawn(ctx, command, &options));
        ck_assert_int_eq(errno, EMFILE);
        ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
        ck_assert_int_eq(errno, ECHILD);
        ck_assert_int_eq(close(63), 0);
        task = ctx_spawn(ctx, command, &options);
        ck_assert_ptr_nonnull(task);
        ck_assert_int_eq(ctx_task_wait(task, NULL), 0);
        ctx_task_unref(task);
        ck_assert_int_eq(fcntl(0, F_DUPFD_CLOEXEC, 0), 63);
        close(63); /* a sanitizer wants one at the end */
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        the_child_is_killed,
                        another_thread_forks,
                        the_parent_is_killed,
                        the_thread_is_cancelled,
                        the_child_gets_a_signal,
                        NULL,
        };
        const TTest *const cold[] = {
                        no_descriptor_is_free_at_the_cancel,
                        no_descriptor_is_free_at_the_start,
                        NULL,
        };
        Suite *suite = suite_create("between fork and exec");
        TCase *tcase = add_case(suite, "warm", tests);

        tcase_add_checked_fixture(tcase, warm_up, NULL);
        tcase_add_checked_fixture(tcase, fds_before, fds_after);
        add_case(suite, "cold", cold);
        return run_suite(suite);
}
