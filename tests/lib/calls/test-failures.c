/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "lib/local/poll-fd.h"
#include "tests/law/local.h"
#include "tests/lib/calls/syscall.h"

/* Law 43: each call to the kernel that the blocking calls make fails once, also in a child before exec. That
 * is an error of this call, or none, and the next one works; no descriptor, child or lock is left. The linker
 * leads the library's calls here (--wrap). tests/lib/injection.c does the same with what the rest needs. */

static long calls, fail_at;
static bool on;

#define WRAP(type, name, failure, error, parameters, arguments) \
        type __real_##name parameters;                          \
        type __wrap_##name parameters;                          \
        type __wrap_##name parameters                           \
        {                                                       \
                if (on && calls++ == fail_at) {                 \
                        errno = error;                          \
                        return failure;                         \
                }                                               \
                return __real_##name arguments;                 \
        }

#define WRAP_INT(name, error, parameters, arguments) WRAP(int, name, -1, error, parameters, arguments)
#define WRAP_SIZE(name, error, parameters, arguments) WRAP(ssize_t, name, -1, error, parameters, arguments)

WRAP_SIZE(preadv64v2, EIO, (int fd, const struct iovec *v, int n, off_t at, int flags), (fd, v, n, at, flags))
WRAP_SIZE(pwritev64v2, EIO, (int fd, const struct iovec *v, int n, off_t at, int flags),
                (fd, v, n, at, flags))
WRAP_SIZE(recvmsg, ENOMEM, (int fd, struct msghdr *message, int flags), (fd, message, flags))
WRAP_SIZE(sendmsg, ENOBUFS, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
WRAP_INT(ppoll, ENOMEM, (struct pollfd * p, nfds_t n, const struct timespec *ts, const sigset_t *mask),
                (p, n, ts, mask))
WRAP_INT(accept4, EMFILE, (int fd, struct sockaddr *a, socklen_t *n, int flags), (fd, a, n, flags))
WRAP_INT(connect, ENOMEM, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
WRAP_INT(getsockopt, ENOBUFS, (int fd, int level, int name, void *value, socklen_t *n),
                (fd, level, name, value, n))
WRAP_INT(waitid, EINVAL, (idtype_t type, id_t id, siginfo_t *info, int options), (type, id, info, options))
WRAP_INT(waitpid, EINTR, (pid_t pid, int *status, int options), (pid, status, options))
WRAP_INT(eventfd, EMFILE, (unsigned value, int flags), (value, flags))
WRAP_INT(flock, ENOLCK, (int fd, int operation), (fd, operation))
WRAP_INT(chdir, EACCES, (const char *path), (path))
WRAP_INT(dup2, EINTR, (int from, int to), (from, to))
WRAP_INT(setpgid, EPERM, (pid_t pid, pid_t group), (pid, group))
WRAP_INT(execvpe, ETXTBSY, (const char *file, char *const argv[], char *const env[]), (file, argv, env))
WRAP_INT(_Fork, EAGAIN, (void), ())
WRAP_INT(backtrace, ENOMEM, (void **frames, int n), (frames, n))
WRAP(void *, mmap64, MAP_FAILED, ENOMEM, (void *p, size_t n, int prot, int flags, int fd, off_t at),
                (p, n, prot, flags, fd, at))
WRAP(int, pthread_create, EAGAIN, EAGAIN,
                (pthread_t * thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg),
                (thread, attr, fn, arg))

int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...)
{
        va_list ap;
        long argument;

        va_start(ap, command);
        argument = va_arg(ap, long);
        va_end(ap);
        /* To set the flags of a descriptor that is there cannot fail. */
        if (on && command != F_SETFL && calls++ == fail_at) {
                errno = EMFILE;
                return -1;
        }
        return __real_fcntl64(fd, command, argument);
}

int __real_prctl(int option, ...);
int __wrap_prctl(int option, ...);
int __wrap_prctl(int option, ...)
{
        va_list ap;
        unsigned long argument;

        va_start(ap, option);
        argument = va_arg(ap, unsigned long);
        va_end(ap);
        if (on && calls++ == fail_at) {
                errno = EPERM;
                return -1;
        }
        return __real_prctl(option, argument, 0, 0, 0);
}

/* pidfds, futexes, the robust list. */
static bool is_refused(long number, const long a[6])
{
        if (on && calls++ == fail_at) {
                errno = number == SYS_pidfd_open ? EMFILE : EPERM;
                return true;
        }
        return false;
}

/* What is tried. Each returns 0 or a negative errno. */

static struct ctx *ctx;
static int pair[2], pipes[2], listener, file, other;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static socklen_t size = sizeof address;

static void *later(void *act)
{
        nap(20000);
        ((void (*)(void)) act)();
        return NULL;
}

/* Lets a thread do something while the call waits; not one of the library's. */
static int beside(void (*act)(void), int (*call)(void))
{
        pthread_t thread;
        int r;

        ck_assert_int_eq(__real_pthread_create(&thread, NULL, later, (void *) act), 0);
        r = call();
        pthread_join(thread, NULL);
        return r;
}

static void put(void)
{
        (void) !write(pair[1], "x", 1);
}

static int get(void)
{
        char byte;
        ssize_t n = ctx_recv(ctx, pair[0], &byte, 1, 0);

        /* What the call has left there is for the next one. */
        if (n < 0)
                while (recv(pair[0], &byte, 1, 0) < 0)
                        ;
        return n < 0 ? (int) n : 0;
}

static int try_receive(void)
{
        return beside(put, get);
}

static int try_pipe(void)
{
        char byte;
        ssize_t n = ctx_write(ctx, pipes[1], "x", 1);

        if (n == 1)
                n = ctx_read(ctx, pipes[0], &byte, 1);
        (void) !recv(pipes[0], &byte, 1, MSG_DONTWAIT);
        if (n < 0 && is_readable(pipes[0]))
                (void) !read(pipes[0], &byte, 1);
        return n < 0 ? (int) n : 0;
}

static int try_connect(void)
{
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r, accepted;

        r = ctx_connect(ctx, fd, (struct sockaddr *) &address, size);
        if (r == 0) {
                ck_assert_int_eq(__real_fcntl64(fd, F_GETFL) & O_NONBLOCK, 0);
                accepted = ctx_accept(ctx, listener, NULL, NULL);
                r = accepted < 0 ? accepted : 0;
                if (accepted < 0)
                        accepted = accept(listener, NULL, NULL);
                close(accepted);
        }
        close(fd);
        return r;
}

static int try_waitpid(void)
{
        pid_t pid = fork_tied(), r;
        int status;

        if (pid == 0) {
                nap(20000);
                _exit(3);
        }
        r = ctx_waitpid(ctx, pid, &status);
        if (r < 0)
                while (__real_waitpid(pid, &status, 0) < 0)
                        ;
        ck_assert_int_eq(status, 3 << 8);
        return r < 0 ? r : 0;
}

static void unlock(void)
{
        __real_flock(other, LOCK_UN);
}

static int lock_it(void)
{
        return ctx_flock(ctx, file, LOCK_EX);
}

static int try_flock(void)
{
        int r;

        ck_assert_int_eq(__real_flock(other, LOCK_EX), 0);
        r = beside(unlock, lock_it);
        __real_flock(file, LOCK_UN);
        ck_assert_int_eq(__real_flock(other, LOCK_EX | LOCK_NB), 0);
        unlock();
        return r;
}

static int try_spawn(void)
{
        char *const command[] = {(char *) "sh", (char *) "-c", (char *) "exit 4", NULL};
        struct ctx_spawn_options options = CTX_SPAWN_OPTIONS;
        struct ctx_task *task;
        int status, r;

        options.directory = "/";
        options.flags = CTX_SPAWN_TREE;
        options.fds[0] = file;
        task = ctx_spawn(ctx, command, &options);
        if (!task)
                return -errno;
        r = ctx_task_wait_for(ctx, task, &status);
        if (r < 0) /* the next one works */
                ck_assert_int_eq(ctx_task_wait_for(ctx, task, &status), 0);
        ck_assert_int_eq(status, 4 << 8);
        ctx_task_unref(task);
        return r;
}

static int try_end(void)
{
        char *const command[] = {(char *) "sleep", (char *) "1000", NULL};
        CTX_AUTO_UNREF struct ctx *own = ctx_with_cancel(ctx);
        struct ctx_spawn_options options = CTX_SPAWN_OPTIONS;
        struct ctx_task *task;
        int status;

        options.kill_after_usec = 1000; /* if the signal fails */
        task = ctx_spawn(own, command, &options);
        if (!task)
                return -errno;
        ctx_cancel(own);
        while (ctx_task_wait(task, &status) < 0)
                ;
        ck_assert(WIFSIGNALED(status));
        ctx_task_unref(task);
        return 0;
}

static int (*const tries[])(void) = {
                try_receive, try_pipe, try_connect, try_waitpid, try_flock, try_spawn, try_end};

static void nothing(void *userdata) {}

static void setup(void)
{
        char path[] = "/tmp/ctx-failures.XXXXXX";

        ctx = ctx_with_timeout(ctx_background(), UINT64_C(300000000));
        ctx_done_fd(ctx);
        ctx_after_unref(ctx_after_func(ctx, nothing, NULL));
        file = mkostemp(path, O_CLOEXEC);
        other = open(path, O_RDWR | O_CLOEXEC);
        unlink(path);
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        ck_assert_int_eq(pipe2(pipes, O_CLOEXEC), 0);
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(bind(listener, (struct sockaddr *) &address, sizeof(sa_family_t)), 0);
        ck_assert_int_eq(listen(listener, 10), 0);
        ck_assert_int_eq(getsockname(listener, (struct sockaddr *) &address, &size), 0);
        ck_assert_int_eq(try_end(), 0); /* the library's threads */
}

START_TEST(each_call_fails_once)
{
        unsigned fds;
        long n = 20; /* and some that only the child makes */

        setup();
        poll_fd_close_kept();
        fds = count_fds(getpid());
        for (fail_at = 0; fail_at < n; fail_at++) {
                int r;

                calls = 0;
                on = true;
                r = tries[_i]();
                on = false;
                if (fail_at == 0)
                        n += calls;
                ck_assert_msg(r <= 0 && r != -EFAULT, "call %ld: %d", fail_at, r);
                r = tries[_i]();
                ck_assert_msg(r == 0, "after call %ld: %s", fail_at, strerror(-r));
                poll_fd_close_kept();
                ck_assert_uint_eq(count_fds(getpid()), fds);
                ck_assert_int_eq(__real_waitpid(-1, NULL, WNOHANG), -1);
        }
        ck_assert_int_gt(n, 20);
}
END_TEST

int main(void)
{
        const TTest *const none[] = {NULL};
        Suite *suite = suite_create("failures");

        tcase_add_loop_test(add_case(suite, "calls", none), each_call_fails_once, 0,
                        sizeof(tries) / sizeof(tries[0]));
        return run_suite(suite);
}
