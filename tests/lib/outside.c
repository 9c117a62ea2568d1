/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "tests/lib/outside.h"

/* Contexts that end when a peer hangs up or a process exits. */

static void make_tcp_pair(int fds[2])
{
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(address);
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ck_assert_int_eq(bind(listener, (struct sockaddr *) &address, size), 0);
        ck_assert_int_eq(listen(listener, 1), 0);
        ck_assert_int_eq(getsockname(listener, (struct sockaddr *) &address, &size), 0);
        fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(connect(fds[1], (struct sockaddr *) &address, size), 0);
        fds[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        ck_assert_int_ge(fds[0], 0);
        close(listener);
}

static void assert_hangs_up(int fd, void (*hang_up)(int fd), int other)
{
        CTX_AUTO_UNREF struct ctx *ctx = on_hangup(fd);
        CTX_AUTO_UNREF struct ctx *child = ctx_with_cancel(ctx);

        settle();
        ck_assert_int_eq(ctx_err(ctx), 0);
        hang_up(other);
        ck_assert_int_eq(ctx_wait(child, 60000000), -ECANCELED);
        assert_cause(ctx, ECONNRESET, "peer hung up");
        assert_cause(child, ECONNRESET, "peer hung up");
        ck_assert_int_eq(ctx_cancel(ctx), 0);
}

static void close_it(int fd)
{
        close(fd);
}

static void shut_it(int fd)
{
        shutdown(fd, SHUT_WR);
}

static void reset_it(int fd)
{
        struct linger linger = {.l_onoff = 1};

        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        close(fd);
}

START_TEST(a_peer_hangs_up)
{
        void (*const ways[])(int) = {close_it, shut_it, reset_it};
        int fds[2];

        for (int i = 0; i < 6; i++) {
                if (i % 2)
                        make_pair(fds);
                else
                        make_tcp_pair(fds);
                /* Data that nobody reads. */
                ck_assert_int_eq(write(fds[1], "hello", 5), 5);
                assert_hangs_up(fds[0], ways[i / 2], fds[1]);
                close(fds[0]);
                if (ways[i / 2] == shut_it)
                        close(fds[1]);
        }
        for (int i = 0; i < 2; i++) {
                ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
                assert_hangs_up(fds[i], close_it, fds[!i]);
                close(fds[i]);
        }
}
END_TEST

START_TEST(a_peer_has_hung_up_before)
{
        CTX_AUTO_UNREF struct ctx *ctx = NULL;
        CTX_AUTO_UNREF struct ctx *again = NULL;
        int fds[2];

        make_pair(fds);
        close(fds[1]);
        ctx = on_hangup(fds[0]);
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        again = on_hangup(fds[0]);
        assert_cause(again, ECONNRESET, "peer hung up");
        close(fds[0]);
}
END_TEST

START_TEST(a_process_exits)
{
        CTX_AUTO_UNREF struct ctx *ctx = NULL;
        CTX_AUTO_UNREF struct ctx *late = NULL;
        int pidfd;
        pid_t pid = sleeper(&pidfd);

        ctx = on_hangup(pidfd);
        settle();
        ck_assert_int_eq(ctx_err(ctx), 0);
        end_process(pid);
        ck_assert_happens(ctx_err(ctx) == -ECANCELED);
        assert_cause(ctx, ESRCH, "process exited");
        late = on_hangup(pidfd);
        assert_cause(late, ESRCH, "process exited");
        close(pidfd);
}
END_TEST

static void refuse(int fd)
{
        ck_assert_int_ge(fd, 0);
        ck_assert_ptr_null(ctx_with_hangup(ctx_background(), fd));
        ck_assert_int_eq(errno, EPERM);
        close(fd);
}

/* They can be polled, but that may mean to ask who has made them: a file system, or what is in the set. */
START_TEST(what_cannot_hang_up)
{
        refuse(open("/proc/self/mounts", O_RDONLY | O_CLOEXEC));
        refuse(epoll_create1(EPOLL_CLOEXEC));
        refuse(eventfd(0, EFD_CLOEXEC));
        refuse(open("/proc/self", O_RDONLY | O_CLOEXEC)); /* the kernel takes it for a pidfd in places */
}
END_TEST

static bool is_epoll_set(int fd)
{
        char path[64], target[64] = "";

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        return readlink(path, target, sizeof(target) - 1) > 0 && strstr(target, "[eventpoll]");
}

/* Any user can hold the kernel's lock for sets that are in others, for as long as he likes. */
START_TEST(no_set_is_in_another)
{
        CTX_AUTO_UNREF struct ctx *ctx = NULL;
        unsigned n_sets = 0;
        int fds[2];

        make_pair(fds);
        ctx = on_hangup(fds[0]);
        for (int fd = 0; fd < 64; fd++) {
                char path[64], line[256];
                FILE *f;
                int in;

                snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
                f = is_epoll_set(fd) ? fopen(path, "re") : NULL;
                if (!f)
                        continue;
                n_sets++;
                while (fgets(line, sizeof(line), f))
                        if (sscanf(line, "tfd: %d", &in) == 1)
                                ck_assert(!is_epoll_set(in));
                fclose(f);
        }
        ck_assert_uint_gt(n_sets, 0);
        close(fds[0]);
        close(fds[1]);
}
END_TEST

START_TEST(what_has_no_other_side)
{
        int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), fds[2];
        CTX_AUTO_UNREF struct ctx *done = ctx_with_timeout(ctx_background(), 0);
        CTX_AUTO_UNREF struct ctx *child = NULL;

        ck_assert_ptr_null(ctx_with_hangup(ctx_background(), fd));
        ck_assert_int_eq(errno, EPERM);
        close(fd);
        ck_assert_ptr_null(ctx_with_hangup(ctx_background(), fd));
        ck_assert_int_eq(errno, EBADF);
        ck_assert_ptr_null(ctx_with_hangup(ctx_background(), -1));
        ck_assert_int_eq(errno, EBADF);
        ck_assert_ptr_null(ctx_with_hangup(NULL, 0));
        ck_assert_int_eq(errno, EINVAL);
        /* The parent was first. */
        make_pair(fds);
        child = ctx_with_hangup(done, fds[0]);
        ck_assert_int_eq(ctx_err(child), -ETIMEDOUT);
        close(fds[0]);
        close(fds[1]);
}
END_TEST

/* An error of a socket that is still open, as a datagram brings it that nobody takes. */
START_TEST(an_error_is_no_hangup)
{
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        CTX_AUTO_UNREF struct ctx *ctx = NULL;
        socklen_t size = sizeof(address);
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        int nobody = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct pollfd pollfd = {.fd = fd};

        ck_assert_int_eq(bind(nobody, (struct sockaddr *) &address, size), 0);
        ck_assert_int_eq(getsockname(nobody, (struct sockaddr *) &address, &size), 0);
        close(nobody);
        ck_assert_int_eq(connect(fd, (struct sockaddr *) &address, size), 0);
        ctx = on_hangup(fd);
        ck_assert_int_eq(send(fd, "x", 1, 0), 1);
        ck_assert_int_eq(poll(&pollfd, 1, 60000), 1);
        settle();
        ck_assert_int_eq(ctx_err(ctx), 0);
        close(fd);
}
END_TEST

START_TEST(two_on_one_descriptor)
{
        for (int first = 0; first < 2; first++) {
                struct ctx *ctx[2], *late;
                int fds[2];

                make_pair(fds);
                ctx[0] = on_hangup(fds[0]);
                ctx[1] = on_hangup(fds[0]);
                ctx_unref(ctx[first]);
                settle();
                ck_assert_int_eq(ctx_err(ctx[!first]), 0);
                late = on_hangup(fds[0]);
                close(fds[1]);
                ck_assert_happens(ctx_err(ctx[!first]) == -ECANCELED && ctx_err(late) == -ECANCELED);
                ctx_unref(ctx[!first]);
                ctx_unref(late);
                close(fds[0]);
        }
}
END_TEST

/* The program has closed a descriptor and got its number again. Another copy of the first file is open. */
START_TEST(a_number_is_used_again)
{
        for (int is_copied = 0; is_copied < 2; is_copied++) {
                int old[2], new[2], copy = -1;
                struct ctx *before, *after;

                make_pair(old);
                if (is_copied)
                        copy = dup(old[0]);
                before = on_hangup(old[0]);
                ck_assert_int_eq(ctx_cancel(before), 1);
                make_pair(new);
                ck_assert_int_eq(dup2(new[0], old[0]), old[0]);
                after = on_hangup(old[0]);
                close(old[1]);
                settle();
                ck_assert_int_eq(ctx_err(after), 0);
                ctx_unref(before); /* leaves the other one alone */
                close(new[1]);
                ck_assert_happens(ctx_err(after) == -ECANCELED);
                ctx_unref(after);
                close(new[0]);
                close(old[0]);
                if (copy >= 0)
                        close(copy);
        }
}
END_TEST

/* The same, and it gets the number of an earlier file, which was always open elsewhere. */
START_TEST(a_number_goes_back)
{
        int number = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 100), first[2], second[2];
        CTX_AUTO_UNREF struct ctx *ctx = NULL;

        make_pair(first);
        make_pair(second);
        for (int i = 0; i < 2; i++) {
                ck_assert_int_eq(dup2(i == 0 ? first[0] : second[0], number), number);
                ctx = on_hangup(number);
                ctx_cancel(ctx);
                close(number);
                ctx_unref(ctx);
        }
        ck_assert_int_eq(dup2(first[0], number), number);
        ctx = on_hangup(number);
        close(second[1]);
        settle();
        ck_assert_int_eq(ctx_err(ctx), 0);
        close(first[1]);
        ck_assert_happens(ctx_err(ctx) != 0);
        assert_cause(ctx, ECONNRESET, "peer hung up");
        close(number);
        close(first[0]);
        close(second[0]);
}
END_TEST

START_TEST(many_need_one_thread)
{
        enum { MANY = 200 };
        struct ctx *ctx[MANY];
        int fds[MANY][2];
        unsigned threads;

        settle();
        threads = count_threads();
        for (int i = 0; i < MANY; i++) {
                make_pair(fds[i]);
                ctx[i] = on_hangup(fds[i][0]);
        }
        ck_assert_uint_le(count_threads(), threads);
        for (int i = 0; i < MANY; i += 2)
                close(fds[i][1]);
        for (int i = 0; i < MANY; i++) {
                int err = i & 1 ? 0 : -ECANCELED;

                ck_assert_happens(ctx_err(ctx[i]) == err);
        }
        for (int i = 0; i < MANY; i++) {
                ctx_unref(ctx[i]);
                close(fds[i][0]);
                if (i % 2)
                        close(fds[i][1]);
        }
}
END_TEST

static void in_a_child(struct ctx *before, int fd)
{
        CTX_AUTO_UNREF struct ctx *own = NULL;
        CTX_AUTO_UNREF struct ctx *same = ctx_with_hangup(ctx_background(), fd);
        int fds[2];

        make_pair(fds);
        own = on_hangup(fds[0]);
        ctx_unref(before); /* leaves the parent's set alone */
        close(fds[1]);
        ck_assert_happens(ctx_err(own) == -ECANCELED);
        ck_assert_int_eq(ctx_err(same), 0);
}

START_TEST(a_fork)
{
        CTX_AUTO_UNREF struct ctx *ctx = NULL;
        int fds[2], status;
        pid_t pid;

        make_pair(fds);
        ctx = on_hangup(fds[0]);
        pid = fork_tied();
        if (pid == 0) {
                close(fds[1]);
                in_a_child(ctx, fds[0]);
                _exit(0);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
        settle();
        ck_assert_int_eq(ctx_err(ctx), 0);
        close(fds[1]);
        ck_assert_happens(ctx_err(ctx) == -ECANCELED);
        close(fds[0]);
}
END_TEST

/* It is given up while the peer hangs up. */
static void *hang_up(void *userdata)
{
        close(*(int *) userdata);
        return NULL;
}

START_TEST(it_is_given_up_meanwhile)
{
        for (int round = 0; round < 2000; round++) {
                struct ctx *ctx, *child = NULL;
                pthread_t thread;
                int fds[2];

                make_pair(fds);
                ctx = on_hangup(fds[0]);
                if (round % 3 == 0)
                        child = ctx_with_cancel(ctx);
                ck_assert_int_eq(pthread_create(&thread, NULL, hang_up, &fds[1]), 0);
                for (int i = 0; i < round % 30; i++)
                        sched_yield();
                if (round % 5 == 0)
                        ctx_cancel(ctx);
                ctx_unref(ctx);
                pthread_join(thread, NULL);
                ctx_unref(child);
                close(fds[0]);
        }
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        a_peer_hangs_up,
                        a_peer_has_hung_up_before,
                        a_process_exits,
                        what_has_no_other_side,
                        what_cannot_hang_up,
                        no_set_is_in_another,
                        an_error_is_no_hangup,
                        two_on_one_descriptor,
                        a_number_is_used_again,
                        a_number_goes_back,
                        many_need_one_thread,
                        a_fork,
                        it_is_given_up_meanwhile,
                        NULL,
        };

        warm = outside_warm_up;
        return run_laws("contexts that end when the other side is gone", tests);
}
