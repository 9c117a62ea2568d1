/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/local/poll-fd.h"
#include "tests/law/local.h"

/* Each allocation and each system call of the library fails in turn: an error or a success, never a crash,
 * never a hang, and nothing is leaked. The linker leads the library's calls here (--wrap). Each try is a
 * process of its own, so that the first use of everything is tried too. */

static _Atomic long calls, fail_at = -1, allocated;
static _Atomic bool on;

static bool fails(void)
{
        return atomic_load(&on) && atomic_fetch_add(&calls, 1) == atomic_load(&fail_at);
}

#define FAIL(value, error)             \
        do {                           \
                if (fails()) {         \
                        errno = error; \
                        return value;  \
                }                      \
        } while (0)

/* Counted too, since what the library allocates it has to free. The heap of the helper is one for the
 * process. */
#define WRAP_ALLOCATION(name, parameters, arguments)     \
        void *__real_##name parameters;                  \
        void *__wrap_##name parameters;                  \
        void *__wrap_##name parameters                   \
        {                                                \
                void *p;                                 \
                                                         \
                FAIL(NULL, ENOMEM);                      \
                p = __real_##name arguments;             \
                if (p && atomic_load(&on))               \
                        atomic_fetch_add(&allocated, 1); \
                return p;                                \
        }

WRAP_ALLOCATION(malloc, (size_t size), (size))
WRAP_ALLOCATION(calloc, (size_t n, size_t size), (n, size))
WRAP_ALLOCATION(aligned_alloc, (size_t alignment, size_t size), (alignment, size))

void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
        FAIL(NULL, ENOMEM);
        return __real_reallocarray(p, n, size);
}

void __real_free(void *p);
void __wrap_free(void *p);
void __wrap_free(void *p)
{
        if (p && atomic_load(&on))
                atomic_fetch_sub(&allocated, 1);
        __real_free(p);
}

#define WRAP_CALL(name, error, parameters, arguments) \
        int __real_##name parameters;                 \
        int __wrap_##name parameters;                 \
        int __wrap_##name parameters                  \
        {                                             \
                FAIL(-1, error);                      \
                return __real_##name arguments;       \
        }

WRAP_CALL(eventfd, EMFILE, (unsigned count, int flags), (count, flags))
WRAP_CALL(timerfd_create, EMFILE, (clockid_t clock, int flags), (clock, flags))
WRAP_CALL(timerfd_settime, EINVAL, (int fd, int flags, const struct itimerspec *new, struct itimerspec *old),
                (fd, flags, new, old))
WRAP_CALL(epoll_create1, EMFILE, (int flags), (flags))
WRAP_CALL(epoll_ctl, ENOSPC, (int epoll, int op, int fd, struct epoll_event *event), (epoll, op, fd, event))
WRAP_CALL(ppoll, ENOMEM, (struct pollfd * fds, nfds_t n, const struct timespec *ts, const sigset_t *mask),
                (fds, n, ts, mask))
WRAP_CALL(flock, EINTR, (int fd, int operation), (fd, operation))

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
        FAIL(EAGAIN, EAGAIN);
        return __real_pthread_create(thread, attr, fn, arg);
}

void *__real_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
        FAIL(MAP_FAILED, ENOMEM);
        return __real_mmap64(address, size, protection, flags, fd, offset);
}

/* pidfd_open, pidfd_send_signal, futexes. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
        long a[6];
        va_list ap;

        va_start(ap, number);
        for (int i = 0; i < 6; i++)
                a[i] = va_arg(ap, long);
        va_end(ap);
        if (number == SYS_pidfd_open)
                FAIL(-1, EMFILE);
        else if (number == SYS_futex_waitv)
                FAIL(-1, ENOMEM);
        return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* -- What is tried. Each takes NULL and errors as they come.
 * ------------------------------------------------------ */

static const struct ctx_key key = CTX_KEY("key");

static void drop_all(struct ctx **all, size_t n)
{
        for (size_t i = 0; i < n; i++)
                ctx_unref(all[i]);
}

static void try_derive(void)
{
        struct ctx *all[10] = {}, *good[10] = {};
        size_t n = 0;

        all[0] = ctx_with_cancel(ctx_background());
        all[1] = ctx_with_timeout(all[0], 1000000000);
        all[2] = ctx_with_timeout_cause(all[0], 1000000000, EPIPE, "late");
        all[3] = ctx_with_value(all[2] ? all[2] : ctx_background(), &key, &calls, NULL);
        for (size_t i = 0; i < 4; i++)
                if (all[i])
                        good[n++] = all[i];
        all[4] = ctx_merge(ctx_background(), good, n);
        all[5] = ctx_readonly(all[4]);
        all[6] = ctx_without_cancel(all[4]);
        all[7] = ctx_with_cancel(all[5]);
        ctx_cancel_cause(all[0], EIO, "the end");
        if (all[0] && all[7] && all[1] && (ctx_err(all[0]) != -ECANCELED || ctx_err(all[7]) != -ECANCELED))
                abort();
        drop_all(all, 10);
}

static void try_wait(void)
{
        struct ctx *ctx = ctx_with_cancel(ctx_background()), *timed = ctx_with_timeout(ctx, 1000000000);
        struct pollfd fds[40];
        int fd;

        if (ctx) {
                fd = ctx_done_fd(ctx);
                if (timed)
                        ctx_done_fd(timed);
                for (int i = 0; i < 40; i++)
                        fds[i] = (struct pollfd){.fd = -1};
                ctx_poll(ctx, fds, 40, 100);
                ctx_wait(ctx, 100);
                if (timed)
                        ctx_wait(timed, 100);
                ctx_cancel(ctx);
                if (fd >= 0 && !is_readable(fd))
                        abort();
                if (timed && (ctx_err(timed) != -ECANCELED || ctx_wait(timed, UINT64_MAX) != -ECANCELED))
                        abort();
        }
        ctx_unref(timed);
        ctx_unref(ctx);
}

static void count_run(void *userdata)
{
        atomic_fetch_add((_Atomic int *) userdata, 1);
}

static void try_callback(void)
{
        struct ctx *ctx = ctx_with_cancel(ctx_background()), *timed = ctx_with_timeout(ctx, 2000);
        _Atomic int runs = 0;
        struct ctx_after *after = ctx ? ctx_after_func(ctx, count_run, &runs) : NULL;
        struct ctx_after *second = timed ? ctx_after_func(timed, count_run, &runs) : NULL;

        if (second)
                ctx_wait(timed, UINT64_MAX);
        ctx_cancel(ctx);
        for (int i = 0; i < 60000 && runs < !!after + !!second; i++)
                usleep(1000);
        if (runs != !!after + !!second)
                abort();
        if (after && ctx_after_stop_wait(after) != 0)
                abort();
        if (second)
                ctx_after_stop_wait(second);
        ctx_after_unref(after);
        ctx_after_unref(second);
        ctx_unref(timed);
        ctx_unref(ctx);
}

static void meet(void *userdata)
{
        _Atomic int *in = userdata;

        atomic_fetch_add(in, 1);
        while (atomic_load(in) < 3)
                usleep(100);
        atomic_fetch_add(in, 1);
}

/* A thread that is refused is asked for again. */
static void try_callbacks_that_block(void)
{
        struct ctx *ctx = ctx_with_cancel(ctx_background());
        _Atomic int in = 0;
        struct ctx_after *after[3];
        int n = 0;

        for (int i = 0; i < 3; i++) {
                after[i] = ctx ? ctx_after_func(ctx, meet, &in) : NULL;
                n += !!after[i];
        }
        atomic_fetch_add(&in, 3 - n);
        ctx_cancel(ctx);
        for (int i = 0; i < 60000 && in < 3 + n; i++)
                usleep(1000);
        if (in != 3 + n)
                abort();
        for (int i = 0; i < 3; i++) {
                if (after[i])
                        ctx_after_stop_wait(after[i]);
                ctx_after_unref(after[i]);
        }
        ctx_unref(ctx);
}

static void try_outside(void)
{
        struct ctx *ctx[3];
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
                abort();
        ctx[0] = ctx_with_hangup(ctx_background(), pair[0]);
        ctx[1] = ctx_with_hangup(ctx_background(), pair[0]);
        ctx[2] = ctx_with_signals(ctx_background(), (int[]){SIGUSR1, SIGUSR2}, 2);
        close(pair[1]);
        if (ctx[2])
                kill(getpid(), SIGUSR1);
        for (int i = 0; i < 3; i++) {
                if (ctx[i] && ctx_wait(ctx[i], 60000000) != -ECANCELED)
                        abort();
                ctx_unref(ctx[i]);
        }
        close(pair[0]);
}

static void try_calls(void)
{
        struct ctx *ctx = ctx_with_timeout(ctx_background(), 3000);
        char path[] = "/tmp/ctx-injection.XXXXXX", byte;
        int pair[2], file, other;
        pid_t pid = fork();

        if (pid == 0)
                _exit(3);
        other = mkstemp(path);
        file = open(path, O_RDWR | O_CLOEXEC);
        unlink(path);
        __real_syscall(SYS_flock, other, LOCK_EX);
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
                abort();
        if (ctx) {
                ctx_write(ctx, pair[0], "x", 1);
                ctx_read(ctx, pair[1], &byte, 1);
                ctx_read(ctx, pair[1], &byte, 1);
                ctx_flock(ctx, file, LOCK_EX);
                ctx_waitpid(ctx_background(), pid, NULL);
                ctx_after_unref(ctx_shutdown_on_cancel(ctx, pair[0]));
        }
        while (waitpid(pid, NULL, WNOHANG) == 0)
                usleep(100);
        ctx_unref(ctx);
        usleep(10000); /* the callback */
        close(pair[0]);
        close(pair[1]);
        close(file);
        close(other);
}

static void try_sync(void)
{
        struct ctx *ctx = ctx_with_timeout(ctx_background(), 3000);
        struct ctx_chan *chan = ctx_chan_new(sizeof(int), 0);
        struct ctx_mutex mutex = CTX_MUTEX_INIT;
        struct ctx_sem sem = CTX_SEM_INIT(0);
        struct ctx_chan_case cases[10];
        int item = 0;

        if (ctx_mutex_trylock(&mutex) < 0)
                abort();
        if (ctx) {
                if (ctx_mutex_lock(ctx, &mutex) == 0 || ctx_sem_wait(ctx, &sem) == 0)
                        abort();
                if (chan && (ctx_chan_send(ctx, chan, &item) == 0 || ctx_chan_recv(ctx, chan, &item) > 0))
                        abort();
                for (int i = 0; i < 10; i++)
                        cases[i] = (struct ctx_chan_case){
                                        .chan = chan, .op = CTX_CHAN_SEND, .send_item = &item};
                if (chan && (ctx_chan_fd(chan) == 0 || ctx_chan_select(ctx, cases, 10) >= 0))
                        abort();
        }
        ctx_chan_unref(chan);
        ctx_unref(ctx);
}

static int member(struct ctx *ctx, void *userdata)
{
        return ctx_wait(ctx, 500);
}

static void try_group(void)
{
        struct ctx_group *group = ctx_group_new(ctx_background());

        if (!group)
                return;
        for (int i = 0; i < 3; i++) {
                int result = 1000, r = ctx_group_go_result(group, member, NULL, &result);

                ctx_group_wait(group);
                if ((r < 0) != (result == 1000))
                        abort();
        }
        ctx_group_unref(group);
        usleep(10000); /* the threads' own ends */
}

static void try_spawn(void)
{
        struct ctx *ctx = ctx_with_timeout(ctx_background(), 5000);
        char *argv[] = {(char *) "sleep", (char *) "100", NULL};
        struct ctx_task *task = ctx ? ctx_spawn(ctx, argv, NULL) : NULL;

        if (task)
                ctx_task_wait(task, NULL);
        ctx_task_unref(task);
        ctx_unref(ctx);
}

static void (*const tries[])(void) = {try_derive, try_wait, try_callback, try_callbacks_that_block,
                try_outside, try_calls, try_sync, try_group, try_spawn};

static int one(void (*try)(void), long at, long *ret_calls)
{
        unsigned fds = count_fds(getpid()), helper;

        atomic_store(&fail_at, at);
        atomic_store(&on, true);
        alarm(300);
        try();
        for (int i = 0; i < 60000 && atomic_load(&allocated) != 0; i++)
                usleep(1000);
        atomic_store(&on, false);
        *ret_calls = atomic_load(&calls);
        if (atomic_load(&allocated) != 0) {
                fprintf(stderr, "call %ld: %ld allocations left\n", at, atomic_load(&allocated));
                return 1;
        }
        poll_fd_close_kept();
        helper = count_fds(getpid()) - fds;
        if (helper != 0 && (helper < 3 || helper > 5)) {
                fprintf(stderr, "call %ld: %u descriptors left\n", at, helper);
                return 1;
        }
        return 0;
}

START_TEST(each_call_fails_in_turn)
{
        long n = 0, *shared;
        int status;

        shared = __real_mmap64(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        for (long at = -1; at < n; at++) {
                pid_t pid = fork();

                if (pid == 0)
                        _exit(one(tries[_i], at, shared));
                ck_assert_int_eq(waitpid(pid, &status, 0), pid);
                ck_assert_msg(status == 0, "try %d, call %ld of %ld: status %#x", _i, at, n, status);
                if (at < 0)
                        n = *shared;
        }
        ck_assert_int_gt(n, 0);
        munmap(shared, 4096);
}
END_TEST

int main(void)
{
        return run_laws_and_loop("failure injection", (const TTest *const[]){NULL}, each_call_fails_in_turn,
                        sizeof(tries) / sizeof(tries[0]));
}
