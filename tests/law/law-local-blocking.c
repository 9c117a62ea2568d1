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

/* Law 26: no byte, lock, item or child is lost. Most of these are races that are run many times, with a sum
 * that has to come out at the end. */

/* -- Every call with a done context, and every call that is ended while it waits
 * ---------------------------------- */

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
        ck_assert_ptr_null(ctx_chan_new(0, 1));
        ck_assert_ptr_null(ctx_chan_new(SIZE_MAX, SIZE_MAX));
        ck_assert_ptr_null(ctx_shutdown_on_cancel(ctx, -1));
}
END_TEST

/* -- Bytes
 * ---------------------------------------------------------------------------------------------------------
 */

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

        for (;;) {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), s->ended % 5 * 20);
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
        while (sent < 400000) {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), ended % 7 * 10);
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

/* -- Locks
 * ---------------------------------------------------------------------------------------------------------
 */

struct locks {
        struct ctx_mutex mutex;
        struct ctx_cond cond;
        struct ctx_sem sem;
        struct ctx_chan *chan;
        unsigned long counter; /* under the mutex */
        unsigned tokens;       /* under the mutex, with the condition */
        _Atomic unsigned long taken, sent, received, sum_sent, sum_received;
        _Atomic unsigned ended;
        _Atomic bool over;
};

#define ROUNDS 2000
#define THREADS 4

static void *lock_and_count(void *userdata)
{
        struct locks *l = userdata;

        for (unsigned i = 0; i < ROUNDS; i++) {
                CTX_AUTO_UNREF struct ctx *ctx =
                                ctx_with_timeout(ctx_background(), i % 3 ? 1000000000 : i % 50);

                if (ctx_mutex_lock(ctx, &l->mutex) < 0) {
                        atomic_fetch_add(&l->ended, 1);
                        continue;
                }
                atomic_fetch_add(&l->taken, 1);
                l->counter++;
                if (i % 16 == 0)
                        sched_yield();
                ck_assert_int_eq(ctx_mutex_unlock(&l->mutex), 0);
        }
        return NULL;
}

static void run_threads(void *(*fn)(void *), struct locks *l)
{
        pthread_t threads[THREADS];

        for (int i = 0; i < THREADS; i++)
                ck_assert_int_eq(pthread_create(&threads[i], NULL, fn, l), 0);
        for (int i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
}

START_TEST(law_26_no_lock_is_lost)
{
        struct locks l = {};

        run_threads(lock_and_count, &l);
        ck_assert_uint_eq(l.counter, l.taken);
        ck_assert_uint_eq(l.taken + l.ended, THREADS * ROUNDS);
        ck_assert_int_eq(ctx_mutex_trylock(&l.mutex), 0);
}
END_TEST

/* Posts and takes are equal in the end, and nobody sleeps beside a semaphore that is not 0. */
static void *post_and_wait(void *userdata)
{
        struct locks *l = userdata;

        for (unsigned i = 0; i < ROUNDS; i++) {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), i % 40);

                ck_assert_int_eq(ctx_sem_post(&l->sem), 0);
                while (ctx_sem_wait(i % 4 ? ctx_background() : ctx, &l->sem) < 0) {
                        atomic_fetch_add(&l->ended, 1);
                        if (ctx_sem_wait(ctx_background(), &l->sem) == 0)
                                break;
                }
                atomic_fetch_add(&l->taken, 1);
        }
        return NULL;
}

START_TEST(law_26_no_post_is_lost)
{
        struct locks l = {};

        run_threads(post_and_wait, &l);
        ck_assert_uint_eq(l.taken, THREADS * ROUNDS);
        ck_assert_int_eq(ctx_sem_trywait(&l.sem), -EAGAIN);
        l.sem.value = UINT32_MAX;
        ck_assert_int_eq(ctx_sem_post(&l.sem), -EOVERFLOW);
}
END_TEST

static void *take_tokens(void *userdata)
{
        struct locks *l = userdata;
        unsigned i = 0;

        for (;;) {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), i++ % 40);
                bool over;

                ck_assert_int_eq(ctx_mutex_lock(ctx_background(), &l->mutex), 0);
                while (l->tokens == 0 && !atomic_load(&l->over))
                        if (ctx_cond_wait(i % 3 ? ctx_background() : ctx, &l->cond, &l->mutex) < 0)
                                break;
                if (l->tokens > 0) {
                        l->tokens--;
                        l->taken++;
                }
                over = l->tokens == 0 && atomic_load(&l->over);
                ctx_mutex_unlock(&l->mutex);
                if (over)
                        return NULL;
        }
}

START_TEST(law_26_no_signal_is_lost)
{
        struct locks l = {};
        pthread_t threads[THREADS];

        for (int i = 0; i < THREADS; i++)
                ck_assert_int_eq(pthread_create(&threads[i], NULL, take_tokens, &l), 0);
        for (int i = 0; i < ROUNDS; i++) {
                ck_assert_int_eq(ctx_mutex_lock(ctx_background(), &l.mutex), 0);
                l.tokens++;
                ctx_mutex_unlock(&l.mutex);
                ctx_cond_signal(&l.cond);
        }
        /* All of them are taken, with nobody to help by a broadcast. */
        for (int i = 0; i < 20000 && atomic_load(&l.taken) < ROUNDS; i++)
                usleep(500);
        ck_assert_uint_eq(l.taken, ROUNDS);
        ck_assert_int_eq(ctx_mutex_lock(ctx_background(), &l.mutex), 0);
        atomic_store(&l.over, true);
        ctx_mutex_unlock(&l.mutex);
        ctx_cond_broadcast(&l.cond);
        for (int i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
}
END_TEST

START_TEST(law_26_no_file_lock_is_lost)
{
        char path[] = "/tmp/ctx-law-26.XXXXXX";
        int mine, other = mkstemp(path);
        siginfo_t info;

        mine = open(path, O_RDWR);
        unlink(path);
        ck_assert_int_eq(ctx_flock(ctx_background(), mine, LOCK_EX), 0);
        ck_assert_int_eq(ctx_flock(ctx_background(), other, LOCK_SH | LOCK_NB), -EWOULDBLOCK);
        for (unsigned i = 0; i < 60; i++) {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 50 * i);
                int r = ctx_flock(ctx, other, LOCK_EX);

                ck_assert_int_eq(r, -ETIMEDOUT);
                /* Gone: the other one can have it again. */
                ck_assert_int_eq(flock(mine, LOCK_UN), 0);
                ck_assert_int_eq(flock(mine, LOCK_EX | LOCK_NB), 0);
        }
        ck_assert_int_eq(flock(mine, LOCK_UN), 0);
        ck_assert_int_eq(ctx_flock(ctx_background(), other, LOCK_EX), 0);
        ck_assert_int_eq(flock(mine, LOCK_EX | LOCK_NB), -1);
        /* Nobody is left to be waited for. */
        ck_assert_int_eq(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | __WALL), -1);
        ck_assert_int_eq(errno, ECHILD);
        close(mine);
        close(other);
}
END_TEST

struct file_lock {
        int fd, result;
        struct ctx *ctx;
};

static void *lock_file(void *userdata)
{
        struct file_lock *l = userdata;

        l->result = ctx_flock(l->ctx, l->fd, LOCK_EX);
        return NULL;
}

START_TEST(law_26_a_file_lock_that_is_given_up_is_taken)
{
        char path[] = "/tmp/ctx-law-26.XXXXXX";
        int other = mkstemp(path), mine = open(path, O_RDWR);
        struct file_lock l = {.fd = other, .ctx = ctx_with_timeout(ctx_background(), 20000000)};
        pthread_t thread;

        unlink(path);
        ck_assert_int_eq(flock(mine, LOCK_EX), 0);
        ck_assert_int_eq(pthread_create(&thread, NULL, lock_file, &l), 0);
        usleep(3000);
        ck_assert_int_eq(flock(mine, LOCK_UN), 0);
        pthread_join(thread, NULL);
        ck_assert_int_eq(l.result, 0);
        ck_assert_int_eq(flock(mine, LOCK_EX | LOCK_NB), -1);
        ctx_unref(l.ctx);
        close(mine);
        close(other);
}
END_TEST

/* -- Items and children
 * -------------------------------------------------------------------------------------------- */

static void *send_items(void *userdata)
{
        struct locks *l = userdata;

        for (unsigned long i = 1; i <= ROUNDS; i++) {
                for (unsigned n = 0;; n++) {
                        CTX_AUTO_UNREF struct ctx *ctx =
                                        ctx_with_timeout(ctx_background(), n < 3 ? i % 60 : UINT64_MAX);
                        int r = ctx_chan_send(ctx, l->chan, &i);

                        if (r == 0)
                                break;
                        ck_assert_int_eq(r, -ETIMEDOUT);
                        atomic_fetch_add(&l->ended, 1);
                }
                atomic_fetch_add(&l->sent, 1);
                atomic_fetch_add(&l->sum_sent, i);
        }
        return NULL;
}

static void *recv_items(void *userdata)
{
        struct locks *l = userdata;

        for (unsigned n = 0;; n++) {
                CTX_AUTO_UNREF struct ctx *ctx =
                                ctx_with_timeout(ctx_background(), n % 3 ? n % 70 : UINT64_MAX);
                unsigned long item = 0;
                int r = ctx_chan_recv(ctx, l->chan, &item);

                if (r == 0)
                        return NULL;
                if (r < 0) {
                        ck_assert_int_eq(r, -ETIMEDOUT);
                        continue;
                }
                atomic_fetch_add(&l->received, 1);
                atomic_fetch_add(&l->sum_received, item);
        }
}

START_TEST(law_26_no_item_is_lost)
{
        size_t capacities[] = {0, 1, 7};

        for (int k = 0; k < 3; k++) {
                struct locks l = {.chan = ctx_chan_new(sizeof(unsigned long), capacities[k])};
                pthread_t senders[2], receivers[2];
                unsigned long item = 5;

                for (int i = 0; i < 2; i++) {
                        ck_assert_int_eq(pthread_create(&senders[i], NULL, send_items, &l), 0);
                        ck_assert_int_eq(pthread_create(&receivers[i], NULL, recv_items, &l), 0);
                }
                for (int i = 0; i < 2; i++)
                        pthread_join(senders[i], NULL);
                ck_assert_int_eq(ctx_chan_close(l.chan), 0);
                for (int i = 0; i < 2; i++)
                        pthread_join(receivers[i], NULL);
                ck_assert_uint_eq(l.sent, l.received);
                ck_assert_uint_eq(l.sum_sent, l.sum_received);
                ck_assert_int_eq(ctx_chan_close(l.chan), -EPIPE);
                ck_assert_int_eq(ctx_chan_send(ctx_background(), l.chan, &item), -EPIPE);
                ck_assert_int_eq(ctx_chan_recv(ctx_background(), l.chan, &item), 0);
                ctx_chan_unref(l.chan);
        }
}
END_TEST

START_TEST(law_26_a_channel_keeps_the_order)
{
        struct ctx_chan *chan = ctx_chan_new(sizeof(int), 3);
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_timeout(ctx_background(), 1000);
        int item;

        for (int round = 0; round < 5; round++) {
                for (int i = 0; i < 3; i++)
                        ck_assert_int_eq(ctx_chan_send(ctx_background(), chan, &i), 0);
                for (int i = 0; i < 3; i++) {
                        ck_assert_int_eq(ctx_chan_recv(ctx_background(), chan, &item), 1);
                        ck_assert_int_eq(item, i);
                }
        }
        ck_assert_int_eq(ctx_chan_recv(ctx, chan, &item), -ETIMEDOUT);
        ck_assert_int_eq(ctx_chan_send(ctx_background(), chan, &item), 0);
        ck_assert_int_eq(ctx_chan_close(chan), 0);
        ck_assert_int_eq(ctx_chan_recv(ctx_background(), chan, &item), 1); /* what is in it comes out */
        ck_assert_int_eq(ctx_chan_recv(ctx_background(), chan, &item), 0);
        ctx_chan_unref(chan);
}
END_TEST

START_TEST(law_26_no_child_is_lost)
{
        unsigned ended = 0;

        for (unsigned i = 0; i < 40; i++) {
                int status = -1;
                pid_t pid = fork(), r;

                if (pid == 0) {
                        usleep(i * 50);
                        _exit((int) i);
                }
                for (;;) {
                        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 500);

                        r = ctx_waitpid(ctx, pid, &status);
                        if (r != -ETIMEDOUT)
                                break;
                        ended++;
                }
                ck_assert_int_eq(r, pid);
                ck_assert(WIFEXITED(status));
                ck_assert_int_eq(WEXITSTATUS(status), (int) i);
                ck_assert_int_eq(ctx_waitpid(ctx_background(), pid, NULL), -ECHILD);
        }
        ck_assert_uint_gt(ended, 0);
}
END_TEST

static void nothing(void *userdata)
{
}

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
                        law_26_no_lock_is_lost,
                        law_26_no_post_is_lost,
                        law_26_no_signal_is_lost,
                        law_26_no_file_lock_is_lost,
                        law_26_a_file_lock_that_is_given_up_is_taken,
                        law_26_no_item_is_lost,
                        law_26_a_channel_keeps_the_order,
                        law_26_no_child_is_lost,
                        NULL,
        };

        signal(SIGPIPE, SIG_IGN);
        warm = warm_up;
        return run_laws("local contexts: calls that a context ends", tests);
}
