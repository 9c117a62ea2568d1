/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/law/local.h"

/* Law 26 for system calls: every one is ended, and no byte is lost. Locks, items and children:
 * law-local-lock.c. */

/* -- Every call: done, and ended while it waits */

struct calls {
        int pair[2], full[2], listener, lock_fd;
        pid_t child;
        struct ctx_mutex mutex;
        struct ctx_cond cond;
        struct ctx_sem sem;
        struct ctx_chan *chan;
};

static int64_t call(struct ctx *ctx, struct calls *c, int which)
{
        char byte[65536] = {};
        struct iovec iov = {byte, sizeof(byte)};
        struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
        struct pollfd fd = {.fd = c->pair[0], .events = POLLIN};
        int r;

        switch (which) {
        case 0:
                return ctx_poll(ctx, &fd, 1, UINT64_MAX);
        case 1:
                return ctx_sleep(ctx, 1000000000);
        case 2:
                return ctx_read(ctx, c->pair[0], byte, 1);
        case 3:
                return ctx_readv(ctx, c->pair[0], &iov, 1);
        case 4:
                return ctx_recvmsg(ctx, c->pair[0], &message, 0);
        case 5:
                return ctx_write(ctx, c->full[0], byte, sizeof(byte));
        case 6:
                return ctx_writev(ctx, c->full[0], &iov, 1);
        case 7:
                return ctx_sendmsg(ctx, c->full[0], &message, 0);
        case 8:
                return ctx_accept(ctx, c->listener, NULL, NULL);
        case 9:
                return ctx_waitpid(ctx, c->child, NULL);
        case 10:
                return ctx_flock(ctx, c->lock_fd, LOCK_EX);
        case 11:
                return ctx_mutex_lock(ctx, &c->mutex);
        case 12:
                r = ctx_cond_wait(ctx, &c->cond, &c->mutex);
                ck_assert_int_eq(ctx_mutex_trylock(&c->mutex), -EBUSY); /* held in any case */
                return r;
        case 13:
                return ctx_sem_wait(ctx, &c->sem);
        case 14:
                return ctx_chan_send(ctx, c->chan, byte);
        case 15:
                return ctx_chan_recv(ctx, c->chan, byte);
        default:
                return ctx_wait(ctx, UINT64_MAX);
        }
}

#define N_CALLS 17

static void open_calls(struct calls *c)
{
        char byte[4096] = {}, path[] = "/tmp/ctx-law-26.XXXXXX";
        int other = mkstemp(path);

        *c = (struct calls){};
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, c->pair), 0);
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, c->full), 0);
        while (send(c->full[0], byte, sizeof(byte), MSG_DONTWAIT) > 0)
                ;
        c->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(listen(c->listener, 5), 0);
        c->child = fork();
        if (c->child == 0) {
                pause();
                _exit(0);
        }
        c->lock_fd = open(path, O_RDWR | O_CLOEXEC);
        ck_assert_int_eq(flock(other, LOCK_EX), 0);
        unlink(path);
        ck_assert_int_eq(ctx_mutex_trylock(&c->mutex), 0);
        c->chan = ctx_chan_new(1, 0);
        /* Stays locked by a descriptor that the fixture does not count. */
        ck_assert_int_ge(fcntl(other, F_DUPFD_CLOEXEC, 900), 0);
        close(other);
}

static void close_calls(struct calls *c)
{
        int fds[] = {c->pair[0], c->pair[1], c->full[0], c->full[1], c->listener, c->lock_fd, 900};

        for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
                close(fds[i]);
        kill(c->child, SIGKILL);
        ck_assert_int_eq(waitpid(c->child, NULL, 0), c->child);
        ctx_chan_unref(c->chan);
}

START_TEST(law_26_nothing_is_tried_with_a_done_context)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *late = ctx_with_timeout(ctx_background(), 0);
        struct calls c;

        open_calls(&c);
        ctx_cancel(ctx);
        ck_assert_int_eq(write(c.pair[1], "x", 1), 1);
        for (int i = 0; i < N_CALLS; i++) {
                ck_assert_int_eq(call(ctx, &c, i), -ECANCELED);
                ck_assert_int_eq(call(late, &c, i), -ETIMEDOUT);
        }
        close_calls(&c);
}
END_TEST

struct waiting {
        struct ctx *ctx;
        struct calls *calls;
        int which;
        int64_t result;
};

static void *wait_in_call(void *userdata)
{
        struct waiting *w = userdata;

        w->result = call(w->ctx, w->calls, w->which);
        return NULL;
}

START_TEST(law_26_every_wait_is_ended)
{
        struct calls c;

        open_calls(&c);
        for (int i = 0; i < N_CALLS; i++) {
                for (int how = 0; how < 3; how++) {
                        CTX_AUTO_UNREF struct ctx *top = ctx_with_cancel(ctx_background());
                        CTX_AUTO_UNREF struct ctx *ctx =
                                        how == 2 ? ctx_with_timeout(top, 3000) : ctx_with_cancel(top);
                        struct waiting w = {.ctx = ctx, .calls = &c, .which = i};
                        pthread_t thread;

                        ck_assert_int_eq(pthread_create(&thread, NULL, wait_in_call, &w), 0);
                        if (how == 1)
                                usleep(2000);
                        if (how < 2)
                                ctx_cancel(top);
                        pthread_join(thread, NULL);
                        ck_assert_msg(w.result == (how == 2 ? -ETIMEDOUT : -ECANCELED),
                                        "call %d, way %d: %ld", i, how, (long) w.result);
                }
        }
        close_calls(&c);
}
END_TEST

START_TEST(law_26_wrong_arguments)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct calls c = {.pair = {-1, -1}, .full = {-1, -1}, .listener = -1, .lock_fd = -1, .child = -1};
        struct ctx_mutex mutex = CTX_MUTEX_INIT;
        char byte;

        for (int i = 2; i < 9; i++)
                ck_assert_int_eq(call(ctx, &c, i), -EBADF);
        ck_assert_int_eq(call(ctx, &c, 10), -EBADF);
        for (int i = 0; i < N_CALLS; i++)
                if (i != 12)
                        ck_assert_int_eq(call(NULL, &c, i), -EINVAL);
        ck_assert_int_eq(ctx_waitpid(ctx, getpid(), NULL), -ECHILD);
        ck_assert_int_eq(ctx_waitpid(ctx, 0, NULL), -EINVAL);
        ck_assert_int_eq(ctx_mutex_unlock(&mutex), -EPERM);
        ck_assert_int_eq(ctx_mutex_unlock(NULL), -EINVAL);
        ck_assert_int_eq(ctx_cond_wait(ctx, NULL, &mutex), -EINVAL);
        ck_assert_int_eq(ctx_chan_send(ctx, NULL, &byte), -EINVAL);
        ck_assert_int_eq(ctx_connect(ctx, 0, NULL, 0), -EINVAL);
        ck_assert_ptr_null(ctx_chan_new(SIZE_MAX, SIZE_MAX));
        ck_assert_ptr_null(ctx_shutdown_on_cancel(ctx, -1));
}
END_TEST

/* -- Bytes */

struct stream {
        int fd;
        struct ctx *_Atomic ctx;
        _Atomic bool over;
        size_t bytes;
        unsigned ended;
};

/* Each call under a context of its own, which another thread cancels at any moment. */
static void *read_all(void *userdata)
{
        struct stream *s = userdata;
        char buffer[333];

        for (unsigned tries = 0;; tries++) {
                /* Now and then with all the time there is, or nobody would get on where that is too short. */
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(
                                ctx_background(), tries % 64 == 63 ? UINT64_MAX : s->ended % 5 * 20);
                ssize_t n = ctx_read(ctx, s->fd, buffer, sizeof(buffer));

                if (n == 0)
                        return NULL;
                if (n > 0)
                        for (ssize_t i = 0; i < n; i++, s->bytes++)
                                ck_assert_int_eq(buffer[i], (char) s->bytes);
                else if (n == -ETIMEDOUT)
                        s->ended++;
                else
                        ck_abort_msg("read: %zd", n);
        }
}

static void stream_through(int fds[2])
{
        struct stream s = {.fd = fds[0]};
        pthread_t reader;
        char buffer[1000];
        size_t sent = 0;
        unsigned ended = 0;

        ck_assert_int_eq(pthread_create(&reader, NULL, read_all, &s), 0);
        for (unsigned tries = 0; sent < 400000; tries++) {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(
                                ctx_background(), tries % 64 == 63 ? UINT64_MAX : ended % 7 * 10);
                ssize_t n;

                for (size_t i = 0; i < sizeof(buffer); i++)
                        buffer[i] = (char) (sent + i);
                n = ctx_write(ctx, fds[1], buffer, sizeof(buffer));
                if (n > 0)
                        sent += (size_t) n;
                else
                        ck_assert_int_eq(n, -ETIMEDOUT);
                ended += n < 0;
        }
        close(fds[1]);
        pthread_join(reader, NULL);
        close(fds[0]);
        ck_assert_uint_eq(s.bytes, sent);
        ck_assert_uint_gt(ended, 0);
}

START_TEST(law_26_no_byte_is_lost)
{
        int fds[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        stream_through(fds);
        ck_assert_int_eq(pipe2(fds, O_NONBLOCK), 0);
        stream_through(fds);
        ck_assert_int_eq(pipe(fds), 0);
        stream_through(fds);
}
END_TEST

START_TEST(law_26_ready_comes_before_the_end)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct pollfd fds[40];
        int pair[2];
        char byte;

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        for (int i = 0; i < 40; i++)
                fds[i] = (struct pollfd){.fd = i == 33 ? pair[0] : -1, .events = POLLIN};
        ck_assert_int_eq(ctx_poll(ctx, fds, 40, 1000), 0);
        ck_assert_int_eq(ctx_poll(ctx, NULL, 0, 0), 0);
        ck_assert_int_eq(write(pair[1], "x", 1), 1);
        ck_assert_int_eq(ctx_poll(ctx, fds, 40, UINT64_MAX), 1);
        ck_assert_int_eq(fds[33].revents, POLLIN);
        ck_assert_int_eq(ctx_read(ctx, pair[0], &byte, 1), 1);
        ck_assert_int_eq(ctx_read(ctx_background(), pair[0], &byte, 0), 0);
        close(pair[0]);
        close(pair[1]);
}
END_TEST

START_TEST(law_26_sockets)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_timeout(ctx_background(), 20000000);
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), server;
        socklen_t size = sizeof(address);
        struct ctx_after *after;
        char byte;

        ck_assert_int_eq(bind(listener, (struct sockaddr *) &address, size), 0);
        ck_assert_int_eq(getsockname(listener, (struct sockaddr *) &address, &size), 0);
        ck_assert_int_eq(ctx_connect(ctx, client, (struct sockaddr *) &address, size), -ECONNREFUSED);
        close(client);
        client = socket(AF_INET, SOCK_STREAM, 0);
        ck_assert_int_eq(listen(listener, 5), 0);
        ck_assert_int_eq(ctx_connect(ctx, client, (struct sockaddr *) &address, size), 0);
        ck_assert_int_eq(fcntl(client, F_GETFL) & O_NONBLOCK, 0);
        server = ctx_accept(ctx, listener, (struct sockaddr *) &address, &size);
        ck_assert_int_ge(server, 0);
        ck_assert_uint_eq(size, sizeof(address));
        ck_assert_int_eq(ctx_write(ctx, client, "x", 1), 1);
        ck_assert_int_eq(ctx_read(ctx, server, &byte, 1), 1);

        after = ctx_shutdown_on_cancel(ctx, server);
        ck_assert_ptr_nonnull(after);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_int_eq(read(server, &byte, 1), 0); /* plain, and blocking */
        ck_assert_int_eq(ctx_after_stop_wait(after), 0);
        ctx_after_unref(after);
        close(client);
        close(server);
        close(listener);
}
END_TEST

START_TEST(law_26_connect_to_a_full_unix_listener)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        CTX_AUTO_CANCEL struct ctx *brief = ctx_with_timeout(ctx_background(), 10000);
        struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0ctx-law-26-full"};
        int listener = socket(AF_UNIX, SOCK_STREAM, 0), first = socket(AF_UNIX, SOCK_STREAM, 0);
        int second = socket(AF_UNIX, SOCK_STREAM, 0), accepted;

        snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "ctx-law-26-%d", (int) getpid());
        ck_assert_int_eq(bind(listener, (struct sockaddr *) &address, sizeof(address)), 0);
        ck_assert_int_eq(listen(listener, 0), 0);
        ck_assert_int_eq(ctx_connect(ctx, first, (struct sockaddr *) &address, sizeof(address)), 0);
        ck_assert_int_eq(ctx_connect(brief, second, (struct sockaddr *) &address, sizeof(address)),
                        -ETIMEDOUT);
        accepted = ctx_accept4(ctx, listener, NULL, NULL, SOCK_CLOEXEC);
        ck_assert_int_ge(accepted, 0);
        ck_assert_int_eq(ctx_connect(ctx, second, (struct sockaddr *) &address, sizeof(address)), 0);
        close(listener);
        close(first);
        close(second);
        close(accepted);
}
END_TEST

static void nothing(void *userdata) {}

/* The helper's descriptors stay. */
static void warm_up(void)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());

        ctx_after_unref(ctx_after_func(ctx, nothing, NULL));
}

int main(void)
{
        const TTest *const tests[] = {
                        law_26_nothing_is_tried_with_a_done_context,
                        law_26_every_wait_is_ended,
                        law_26_wrong_arguments,
                        law_26_no_byte_is_lost,
                        law_26_ready_comes_before_the_end,
                        law_26_sockets,
                        law_26_connect_to_a_full_unix_listener,
                        NULL,
        };

        signal(SIGPIPE, SIG_IGN);
        warm = warm_up;
        return run_laws("local contexts: system calls that a context ends", tests);
}
