/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "tests/lib/shared/daemon.h"

/* One failure on the connection is that call's error, and the next call works (law 43). Each system call of
 * the connection fails once, in turn. The program's own functions stand before those of libc, also for
 * sd-bus. */

static __thread bool is_armed; /* what this thread does */
static _Atomic long n_calls, fail_at;
static _Atomic unsigned n_sockets;

static bool fails(void)
{
        return is_armed && atomic_fetch_add(&n_calls, 1) == fail_at;
}

#define NEXT(name) ((typeof(&name)) dlsym(RTLD_NEXT, #name))
#define FAIL(error)                    \
        do {                           \
                if (fails()) {         \
                        errno = error; \
                        return -1;     \
                }                      \
        } while (0)

#define SEEN_BY_ALL __attribute__((visibility("default")))

SEEN_BY_ALL ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
        FAIL(ENOMEM);
        return NEXT(sendmsg)(fd, message, flags);
}

/* The bytes are read, and the descriptors are lost, as where there is no room for them. */
SEEN_BY_ALL ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
        ssize_t n;

        if (!fails())
                return NEXT(recvmsg)(fd, message, flags);
        message->msg_control = NULL;
        message->msg_controllen = 0;
        n = NEXT(recvmsg)(fd, message, flags);
        if (n >= 0)
                message->msg_flags |= MSG_CTRUNC;
        return n;
}

SEEN_BY_ALL int connect(int fd, const struct sockaddr *address, socklen_t size)
{
        FAIL(EAGAIN);
        return NEXT(connect)(fd, address, size);
}

SEEN_BY_ALL int socket(int domain, int type, int protocol)
{
        FAIL(EMFILE);
        atomic_fetch_add(&n_sockets, 1);
        return NEXT(socket)(domain, type, protocol);
}

/* As where a signal is pending whenever this thread looks. */
static __thread bool is_interrupted;

SEEN_BY_ALL int poll(struct pollfd *fds, nfds_t n, int timeout)
{
        if (is_interrupted) {
                errno = EINTR;
                return -1;
        }
        return NEXT(poll)(fds, n, timeout);
}

static struct ctx_client *client;
static struct ctx *ctx;

/* A reply with a descriptor. (That of a lifeline that is lost ends the context.) */
static int do_drained(void)
{
        struct ctx *again = ctx_open(client, ctx_path(ctx));
        int r = again ? ctx_drained_fd(again) : -errno;

        ctx_unref(again);
        return r < 0 ? r : 0;
}

static int do_extend(void)
{
        return ctx_extend(ctx, boottime_usec() + UINT64_C(3600000000));
}

static int do_create(void)
{
        struct ctx *other = ctx_create(client, fresh_path(), NULL);
        int r = other ? 0 : -errno;

        ctx_unref(other);
        return r;
}

static int do_value(void)
{
        struct ctx *again = ctx_open(client, ctx_path(ctx));
        int r;

        if (!again)
                return -errno;
        r = ctx_value_string(again, "org.example.none") ? -EBADMSG : -errno;
        ctx_unref(again);
        return r;
}

/* With a handle of its own. */
static int do_wait(void)
{
        struct ctx *other = ctx_create(client, fresh_path(), NULL);
        int r = other ? ctx_wait(other, 10000) : -errno;

        ctx_unref(other);
        return r;
}

static int do_done_fd(void)
{
        struct ctx *other = ctx_create(client, fresh_path(), NULL);
        int r = other ? ctx_done_fd(other) : -errno;

        ctx_unref(other);
        return r < 0 ? r : 0;
}

static int do_watch(void)
{
        struct ctx *other = ctx_create(client, fresh_path(), NULL),
                   *local = other ? ctx_with_cancel(other) : NULL;
        int r = local ? ctx_done_fd(local) : -errno;

        ctx_unref(local);
        ctx_unref(other);
        return r < 0 ? r : 0;
}

static int do_cancel(void)
{
        struct ctx *other = ctx_create(client, fresh_path(), NULL),
                   *local = other ? ctx_with_cancel(other) : NULL;
        int r = local ? ctx_cancel(other) : -errno;

        if (r >= 0) { /* whatever has failed, a cancel has cancelled */
                ck_assert_int_eq(ctx_err(other), -ECANCELED);
                ck_assert_int_eq(ctx_err(local), -ECANCELED);
        }
        ctx_unref(local);
        ctx_unref(other);
        return r < 0 ? r : 0;
}

static int (*const calls[])(void) = {
                do_drained, do_extend, do_create, do_value, do_wait, do_done_fd, do_watch, do_cancel};
#define N_CALLS (sizeof calls / sizeof *calls)

static void setup(void)
{
        client = new_client();
        ctx = make(client, fresh_path());
}

static void teardown(void)
{
        ctx_unref(ctx);
        ctx_client_unref(client);
}

START_TEST(law_43_a_failure_is_one_calls)
{
        unsigned n_failed = 0;

        for (size_t i = 0; i < N_CALLS; i++)
                for (long at = 0;; at++) {
                        int r;

                        ck_assert_int_eq(calls[i](), 0);
                        fail_at = at;
                        n_calls = 0;
                        is_armed = true;
                        r = calls[i]();
                        is_armed = false;
                        if (r < 0)
                                n_failed++;
                        for (size_t k = 0; k < N_CALLS; k++) {
                                r = calls[k]();
                                ck_assert_msg(r == 0, "after call %ld of %zu failed: %zu: %d, %s", at, i, k,
                                                r, ctx_client_error(NULL));
                        }
                        if (n_calls <= at)
                                break;
                        ck_assert_int_lt(at, 1000);
                }
        ck_assert_uint_gt(n_failed, 0);
        ck_assert_int_eq(ctx_err(ctx), 0);
}
END_TEST

/* No descriptor is free for a moment, in truth. */
START_TEST(law_43_a_moment_without_descriptors)
{
        struct rlimit old, none;

        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
        none = old;
        for (int i = 0; i < 3; i++) {
                int lowest = fcntl(STDERR_FILENO, F_DUPFD, 3);

                ck_assert_int_ge(lowest, 0);
                close(lowest);
                none.rlim_cur = (rlim_t) lowest;
                ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
                ck_assert_int_eq(ctx_drained_fd(ctx), -EMFILE);
                ck_assert_int_lt(do_done_fd(), 0);
                ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
                for (size_t k = 0; k < N_CALLS; k++) {
                        int r = calls[k]();

                        ck_assert_msg(r == 0, "%zu: %d, %s", k, r, ctx_client_error(NULL));
                }
        }
}
END_TEST

/* With one more there would be a client. One without the descriptor that says that the daemon is gone would
 * never notice. */
START_TEST(law_43_a_client_without_descriptors)
{
        struct ctx_client *other = NULL;
        struct rlimit old, none;

        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
        for (rlim_t n = 0; !other; n++) {
                int lowest = fcntl(STDERR_FILENO, F_DUPFD, 3), error;

                ck_assert_int_ge(lowest, 0);
                close(lowest);
                none = old;
                none.rlim_cur = (rlim_t) lowest + n;
                ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
                other = ctx_client_new(NULL);
                error = errno;
                ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
                ck_assert(other || error == EMFILE);
                ck_assert_uint_lt(n, 8);
                /* The connection, the one of the message, and the one that is kept. */
                ck_assert(!other || n >= 3);
        }
        ctx_client_unref(other);
}
END_TEST

/* A look that was interrupted has not seen that the connection is gone. */
START_TEST(law_43_a_signal_ends_no_connection)
{
        unsigned before;
        int r;

        ck_assert_int_eq(do_create(), 0);
        before = n_sockets;
        is_interrupted = true;
        r = do_drained();
        is_interrupted = false;
        ck_assert_int_eq(r, 0);
        ck_assert_uint_eq(n_sockets, before);
}
END_TEST

static void nothing(void *userdata) {}

static double cpu_time(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
        return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

/* As in a sandbox, which gives up all descriptors that it may still open. The kernel does not even let it
 * poll. What needs no new descriptor works, and no thread of the library spins. */
START_TEST(law_43_a_sandbox_without_descriptors)
{
        struct ctx *local = ctx_with_cancel(ctx);
        struct ctx_after *after = ctx_after_func(local, nothing, NULL);
        struct ctx_client *fresh = ctx_client_new(NULL);
        struct ctx *made;
        struct rlimit old, none;
        double before, used;
        int r, error;

        ck_assert(after);
        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
        none = old;
        none.rlim_cur = 0;
        wait_for_other_threads();
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
        r = ctx_cancel(ctx);
        made = ctx_create(fresh, fresh_path(), NULL);
        error = errno;
        before = cpu_time();
        usleep(1000000);
        used = cpu_time() - before;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
        ck_assert(!made && error == EMFILE);
        ctx_client_unref(fresh);
        ck_assert_int_eq(r, 1);
        ck_assert_int_eq(ctx_after_stop_wait(after), 0);
        ck_assert_msg(used < 0.1, "%f s", used);
        ctx_after_unref(after);
        ctx_unref(local);
        ck_assert_int_eq(do_create(), 0);
}
END_TEST

struct another {
        pthread_t thread;
        struct ctx *ctx;
        int r;
};

static void *wait_in_thread(void *userdata)
{
        struct another *a = userdata;

        a->r = ctx_wait(a->ctx, UINT64_MAX);
        return NULL;
}

/* What one thread's failure ends, another one's wait outlives. */
START_TEST(law_43_a_wait_outlives_anothers_failure)
{
        struct another a[4];

        for (size_t i = 0; i < 4; i++) {
                a[i].ctx = make(client, fresh_path());
                ck_assert_int_eq(pthread_create(&a[i].thread, NULL, wait_in_thread, a + i), 0);
                for (long at = 0; at < 8; at++) {
                        fail_at = at;
                        n_calls = 0;
                        is_armed = true;
                        (void) do_drained();
                        is_armed = false;
                }
        }
        for (size_t i = 0; i < 4; i++) {
                ck_assert_int_eq(ctx_cancel(a[i].ctx), 1);
                ck_assert_int_eq(pthread_join(a[i].thread, NULL), 0);
                ck_assert_int_eq(a[i].r, -ECANCELED);
                ctx_unref(a[i].ctx);
        }
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_43_a_failure_is_one_calls,
                        law_43_a_moment_without_descriptors,
                        law_43_a_client_without_descriptors,
                        law_43_a_signal_ends_no_connection,
                        law_43_a_sandbox_without_descriptors,
                        law_43_a_wait_outlives_anothers_failure,
                        NULL,
        };

        return run_tests_with_daemon_and("shared-failures", tests, setup, teardown);
}
