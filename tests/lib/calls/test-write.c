/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "tests/law/local.h"

/* No call of the library raises SIGPIPE. Older kernels have no flag for that. */

static _Atomic bool is_old;

ssize_t __real_pwritev64v2(int fd, const struct iovec *iov, int n, off_t offset, int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int n, off_t offset, int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
        if (is_old && flags & ~RWF_NOWAIT) {
                errno = EOPNOTSUPP;
                return -1;
        }
        return __real_pwritev64v2(fd, iov, n, offset, flags);
}

enum kind { PIPE, BLOCKING_PIPE, SOCKET, KINDS };

static int open_dead(enum kind kind)
{
        int fds[2], r;

        if (kind == SOCKET)
                r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
        else
                r = pipe2(fds, O_CLOEXEC | (kind == PIPE ? O_NONBLOCK : 0));
        ck_assert_int_eq(r, 0);
        close(fds[0]);
        return fds[1];
}

static bool is_pending(void)
{
        sigset_t set;

        sigpending(&set);
        return sigismember(&set, SIGPIPE);
}

static void write_in_every_way(void)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct iovec iov[2] = {{(char *) "a", 1}, {(char *) "b", 1}};
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};

        for (enum kind kind = 0; kind < KINDS; kind++) {
                int fd = open_dead(kind);

                for (int i = 0; i < 3; i++) {
                        ck_assert_int_eq(ctx_write(ctx, fd, "x", 1), -EPIPE);
                        ck_assert_int_eq(ctx_writev(ctx, fd, iov, 2), -EPIPE);
                }
                if (kind == SOCKET)
                        ck_assert_int_eq(ctx_sendmsg(ctx, fd, &message, 0), -EPIPE);
                close(fd);
        }
}

static void block(int how)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGPIPE);
        pthread_sigmask(how, &set, NULL);
}

static void never(int signal)
{
        ck_abort_msg("a signal");
}

/* _i: with a kernel that has no flag for it. */
START_TEST(no_signal)
{
        struct sigaction action = {.sa_handler = never};
        sigset_t mask;

        is_old = _i;
        write_in_every_way(); /* it would kill the process */
        sigaction(SIGPIPE, &action, NULL);
        write_in_every_way();
        ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
        ck_assert(!sigismember(&mask, SIGPIPE));

        block(SIG_BLOCK);
        write_in_every_way();
        ck_assert(!is_pending());
        ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
        ck_assert(sigismember(&mask, SIGPIPE));
}
END_TEST

/* Another's signal is left alone. */
START_TEST(a_signal_that_was_pending)
{
        const struct timespec now = {};
        sigset_t set;

        is_old = _i;
        sigemptyset(&set);
        sigaddset(&set, SIGPIPE);
        block(SIG_BLOCK);
        ck_assert_int_eq(raise(SIGPIPE), 0);
        write_in_every_way();
        ck_assert(is_pending());
        ck_assert_int_eq(sigtimedwait(&set, NULL, &now), SIGPIPE);
        ck_assert(!is_pending());
}
END_TEST

static void *read_all(void *userdata)
{
        char buffer[4096];

        while (read((int) (intptr_t) userdata, buffer, sizeof buffer) > 0)
                ;
        return NULL;
}

/* The bytes arrive all the same, also where the pipe is full at times. */
START_TEST(bytes_arrive)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        char buffer[10000] = {};
        pthread_t thread;
        int fds[2];

        is_old = _i & 1;
        ck_assert_int_eq(pipe2(fds, O_CLOEXEC | (_i & 2 ? O_NONBLOCK : 0)), 0);
        fcntl(fds[0], F_SETFL, 0);
        ck_assert_int_eq(pthread_create(&thread, NULL, read_all, (void *) (intptr_t) fds[0]), 0);
        for (size_t written = 0; written < 1000000;) {
                ssize_t n = ctx_write(ctx, fds[1], buffer, sizeof buffer);

                ck_assert_int_gt(n, 0);
                written += (size_t) n;
        }
        close(fds[1]);
        pthread_join(thread, NULL);
        close(fds[0]);
}
END_TEST

int main(void)
{
        const TTest *const none[] = {NULL};
        Suite *suite = suite_create("writes and signals");
        TCase *tcase = add_case(suite, "write", none);

        tcase_add_loop_test(tcase, no_signal, 0, 2);
        tcase_add_loop_test(tcase, a_signal_that_was_pending, 0, 2);
        tcase_add_loop_test(tcase, bytes_arrive, 0, 4);
        tcase_add_checked_fixture(tcase, fds_before, fds_after);
        return run_suite(suite);
}
