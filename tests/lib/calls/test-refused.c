/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/law/local.h"
#include "tests/lib/calls/syscall.h"

/* What the kernel refuses every time: a call that a filter of system calls does not let through, and a look
 * at a descriptor while signals come. The linker leads the library's calls here (--wrap). */

static const int errors[] = {EPERM, ENOSYS};
static _Atomic int signal_error; /* of pidfd_send_signal(2) */
static _Atomic bool interrupts;  /* poll(2) */

static bool is_refused(long number, const long a[6])
{
        if (signal_error != 0 && number == SYS_pidfd_send_signal) {
                errno = signal_error;
                return true;
        }
        return false;
}

int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
        if (interrupts) {
                errno = EINTR;
                return -1;
        }
        return __real_poll(fds, n, timeout);
}

static _Atomic int n_refused_waits = -1; /* -1: none is refused */

static bool is_wait_refused(void)
{
        if (n_refused_waits < 0)
                return false;
        n_refused_waits++;
        errno = EPERM;
        return true;
}

int __real_epoll_wait(int set, struct epoll_event *events, int n, int msec);
int __wrap_epoll_wait(int set, struct epoll_event *events, int n, int msec);
int __wrap_epoll_wait(int set, struct epoll_event *events, int n, int msec)
{
        return is_wait_refused() ? -1 : __real_epoll_wait(set, events, n, msec);
}

static bool is_one_refused;

int __real_epoll_pwait(int set, struct epoll_event *events, int n, int msec, const sigset_t *mask);
int __wrap_epoll_pwait(int set, struct epoll_event *events, int n, int msec, const sigset_t *mask);
int __wrap_epoll_pwait(int set, struct epoll_event *events, int n, int msec, const sigset_t *mask)
{
        return !is_one_refused && is_wait_refused() ? -1 : __real_epoll_pwait(set, events, n, msec, mask);
}

START_TEST(a_process_is_told_from_another_file)
{
        int filled = eventfd(1, EFD_CLOEXEC), pidfd;
        struct ctx *process;
        pid_t pid = fork_tied();

        if (pid == 0) {
                pause();
                _exit(0);
        }
        pidfd = (int) __real_syscall(SYS_pidfd_open, pid, 0);
        ck_assert_int_ge(pidfd, 0);
        signal_error = errors[_i];
        process = ctx_with_hangup(ctx_background(), pidfd);
        ck_assert_ptr_nonnull(process);
        ck_assert_ptr_null(ctx_with_hangup(ctx_background(), filled));
        ck_assert_int_eq(errno, EPERM);
        ck_assert_int_eq(ctx_err(process), 0);
        kill(pid, SIGKILL);
        ck_assert_int_eq(ctx_wait(process, UINT64_C(60000000)), -ECANCELED);
        ctx_unref(process);
        close(filled);
        close(pidfd);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}
END_TEST

/* By the signal of the cancel, by what follows it, and by ctx_task_kill(). */
static int end_of(const char *script, uint64_t flags, uint64_t kill_after_usec, int signal)
{
        struct ctx *ctx = ctx_with_cancel(ctx_background());
        char *const command[] = {(char *) "sh", (char *) "-c", (char *) (uintptr_t) script, NULL};
        struct ctx_spawn_options options = CTX_SPAWN_OPTIONS;
        int status, out[2];
        struct ctx_task *task;
        char byte;

        ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
        options.flags = flags;
        options.kill_after_usec = kill_after_usec;
        options.fds[1] = out[1];
        task = ctx_spawn(ctx, command, &options);
        ck_assert(task);
        ck_assert_int_eq(read(out[0], &byte, 1), 1);
        if (signal > 0)
                ck_assert_int_eq(ctx_task_kill(task, signal), 0);
        else
                ctx_cancel(ctx);
        ck_assert_int_eq(ctx_task_wait(task, &status), 0);
        ctx_task_unref(task);
        ctx_unref(ctx);
        close(out[0]);
        close(out[1]);
        ck_assert(WIFSIGNALED(status));
        return WTERMSIG(status);
}

START_TEST(a_task_gets_its_signal)
{
        const char *const sleeps = "echo; exec sleep 1000",
                          *const stays = "trap '' TERM; echo; exec sleep 1000";

        signal_error = errors[_i];
        for (uint64_t flags = 0; flags <= CTX_SPAWN_TREE; flags += CTX_SPAWN_TREE) {
                ck_assert_int_eq(end_of(sleeps, flags, UINT64_MAX, 0), SIGTERM);
                ck_assert_int_eq(end_of(stays, flags, 1000, 0), SIGKILL);
                ck_assert_int_eq(end_of(sleeps, flags, UINT64_MAX, SIGUSR1), SIGUSR1);
        }
}
END_TEST

/* A terminal cannot be read without waiting. It is read once poll has seen something, and not because poll
 * has failed. */
START_TEST(a_look_that_fails_sees_nothing)
{
        int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        struct ctx *ctx = ctx_with_timeout(ctx_background(), 50000);
        char byte;

        ck_assert_int_ge(terminal, 0);
        ck_assert_int_eq(unlockpt(terminal), 0);
        interrupts = true;
        ck_assert_int_eq(ctx_read(ctx, terminal, &byte, 1), -ETIMEDOUT);
        ctx_unref(ctx);
        close(terminal);
}
END_TEST

static void note(void *userdata)
{
        atomic_store((_Atomic bool *) userdata, true);
}

/* The service thread does without what it waits with: it does not spin, and looks after its timers. Where
 * only one of the two is refused, nothing is missed at all. */
START_TEST(a_thread_that_cannot_wait_does_not_spin)
{
        struct ctx *ctx = ctx_with_timeout(ctx_background(), 100000), *peer;
        _Atomic bool is_done = false;
        struct ctx_after *after;
        int fds[2];

        is_one_refused = _i == 0;
        n_refused_waits = 0;
        ck_assert_int_eq(pipe(fds), 0);
        after = ctx_after_func(ctx, note, (void *) &is_done);
        ck_assert(after);
        peer = ctx_with_hangup(ctx_background(), fds[0]);
        ck_assert(peer);
        nap(300000);
        ck_assert_happens(is_done);
        ck_assert_int_gt(n_refused_waits, 0);
        ck_assert_int_lt(n_refused_waits, 1000);
        close(fds[1]);
        if (is_one_refused)
                ck_assert_int_eq(ctx_wait(peer, UINT64_C(60000000)), -ECANCELED);
        ctx_unref(peer);
        ck_assert_int_eq(ctx_after_stop_wait(after), 0);
        ctx_after_unref(after);
        ctx_unref(ctx);
        close(fds[0]);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {a_look_that_fails_sees_nothing, NULL};
        Suite *suite = suite_create("refused");
        TCase *c = add_case(suite, "refused", tests);

        tcase_add_loop_test(c, a_process_is_told_from_another_file, 0, 2);
        tcase_add_loop_test(c, a_task_gets_its_signal, 0, 2);
        tcase_add_loop_test(c, a_thread_that_cannot_wait_does_not_spin, 0, 2);
        return run_suite(suite);
}
