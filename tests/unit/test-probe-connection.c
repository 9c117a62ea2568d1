/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/probe-connection.h"
#include "tests/harness/suite.h"

static struct probe_connection near, far;
static struct probe_message got;

static void connect_both(void)
{
        int fds[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
        probe_connection_init(&near);
        ck_assert_int_eq(near.fd, -1);
        probe_connection_open(&near, fds[0]);
        probe_connection_open(&far, fds[1]);
}

static void close_both(void)
{
        probe_connection_close(&near);
        probe_connection_close(&far);
        ck_assert_int_eq(near.fd, -1);
}

/* Bytes and descriptors of any number, past all the checks. */
static void give(const void *data, size_t size, size_t n_fds)
{
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(64 * sizeof(int))];
        } control = {};
        struct iovec iov = {(void *) data, size};
        struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
        int event = eventfd(0, EFD_CLOEXEC), fds[64];

        for (size_t i = 0; i < n_fds; i++)
                fds[i] = event;
        if (n_fds > 0) {
                message.msg_control = &control;
                message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                control.header = (struct cmsghdr){CMSG_LEN(n_fds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
                memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
        }
        ck_assert_int_eq(sendmsg(far.fd, &message, 0), (ssize_t) size);
        close(event);
}

START_TEST(a_record_passes)
{
        struct probe_forget forget = {{PROBE_FORGET, sizeof forget}, 4711};

        connect_both();
        ck_assert_int_eq(probe_connection_receive(&near, &got), 0);
        ck_assert_int_eq(probe_connection_send(&far, &forget.header, NULL, 0), 1);
        ck_assert_int_eq(probe_connection_receive(&near, &got), 1);
        ck_assert_uint_eq(got.header.type, PROBE_FORGET);
        ck_assert_uint_eq(got.forget.context_id, 4711);
        ck_assert_uint_eq(got.n_fds, 0);
        ck_assert_int_eq(probe_connection_receive(&near, &got), 0);
        probe_connection_close(&far);
        ck_assert_int_eq(probe_connection_receive(&near, &got), -ECONNRESET);
        ck_assert_int_eq(probe_connection_send(&near, &forget.header, NULL, 0), -EPIPE);
        close_both();
}
END_TEST

START_TEST(descriptors_travel_with_a_greeting)
{
        struct probe_hello hello = {{PROBE_HELLO, sizeof hello}};
        unsigned before = count_fds(getpid());
        int fds[PROBE_FDS], taken;

        connect_both();
        for (unsigned i = 0; i < PROBE_FDS; i++)
                fds[i] = eventfd(i, EFD_CLOEXEC);
        ck_assert_int_eq(probe_connection_send(&far, &hello.header, fds, PROBE_FDS), 1);
        for (unsigned i = 0; i < PROBE_FDS; i++)
                close(fds[i]);
        ck_assert_int_eq(probe_connection_receive(&near, &got), 1);
        ck_assert_uint_eq(got.n_fds, PROBE_FDS);
        for (unsigned i = 0; i < PROBE_FDS; i++) {
                uint64_t value = 0;

                ck_assert(fcntl(got.fds[i], F_GETFD) & FD_CLOEXEC);
                if (i > 0) /* reading a zero would wait */
                        ck_assert_int_eq(read(got.fds[i], &value, sizeof value), sizeof value);
                ck_assert_uint_eq(value, i);
        }
        taken = got.fds[0];
        probe_message_close(&got);
        ck_assert_int_lt(fcntl(taken, F_GETFD), 0);
        close_both();
        ck_assert_uint_eq(count_fds(getpid()), before);
}
END_TEST

START_TEST(strings_end)
{
        struct probe_leak leak;
        struct probe_watch watch;
        struct probe_hello hello;

        connect_both();
        memset(&leak, 'x', sizeof leak);
        memset(&watch, 'x', sizeof watch);
        memset(&hello, 'x', sizeof hello);
        leak.header = (struct probe_header){PROBE_LEAK, sizeof leak};
        watch.header = (struct probe_header){PROBE_WATCH, sizeof watch};
        hello.header = (struct probe_header){PROBE_HELLO, sizeof hello};
        give(&leak, sizeof leak, 0);
        give(&watch, sizeof watch, 0);
        give(&hello, sizeof hello, 0);
        ck_assert_int_eq(probe_connection_receive(&near, &got), 1);
        ck_assert_uint_eq(strlen(got.leak.comm), sizeof got.leak.comm - 1);
        ck_assert_uint_eq(strlen(got.leak.syscall_text), sizeof got.leak.syscall_text - 1);
        ck_assert_uint_eq(strlen(got.leak.waits_on), sizeof got.leak.waits_on - 1);
        ck_assert_uint_eq(strlen(got.leak.why), sizeof got.leak.why - 1);
        ck_assert_uint_eq(strlen(got.leak.kernel_stack), sizeof got.leak.kernel_stack - 1);
        ck_assert_uint_eq(strlen(got.leak.stack), sizeof got.leak.stack - 1);
        ck_assert_int_eq(probe_connection_receive(&near, &got), 1);
        ck_assert_uint_eq(strlen(got.watch.path), sizeof got.watch.path - 1);
        ck_assert_uint_eq(strlen(got.watch.cause), sizeof got.watch.cause - 1);
        ck_assert_int_eq(probe_connection_receive(&near, &got), 1);
        ck_assert_uint_eq(strlen(got.hello.reason), sizeof got.hello.reason - 1);
        close_both();
}
END_TEST

/* Whatever comes with it is closed. */
static void refused(const void *data, size_t size, size_t n_fds)
{
        unsigned before = count_fds(getpid());

        give(data, size, n_fds);
        ck_assert_int_eq(probe_connection_receive(&near, &got), -EPROTO);
        ck_assert_uint_eq(got.n_fds, 0);
        ck_assert_uint_eq(count_fds(getpid()), before);
}

START_TEST(what_breaks_the_protocol_is_refused)
{
        static char big[65536];
        static const size_t sizes[] = {1, 4, 7, 8, 9, sizeof(struct probe_leak) - 1};
        struct probe_header *header = (struct probe_header *) big;
        struct probe_forget forget = {{PROBE_FORGET, sizeof forget}, 1};
        struct probe_hello hello = {{PROBE_HELLO, sizeof hello}};

        connect_both();
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                *header = (struct probe_header){PROBE_LEAK, (uint32_t) sizes[i]};
                refused(big, sizes[i], 0);
                refused(big, sizes[i], PROBE_FDS);
        }
        *header = (struct probe_header){PROBE_LEAK, sizeof big};
        refused(big, sizeof big, 2);
        *header = (struct probe_header){PROBE_LEAK, sizeof(struct probe_leak)};
        refused(big, sizeof big, 0);
        for (uint32_t type = 0; type < 100; type += 99) {
                *header = (struct probe_header){type, sizeof *header};
                refused(big, sizeof *header, 0);
        }
        forget.header.size++;
        refused(&forget, sizeof forget, 0);
        forget.header.size--;
        refused(&forget, sizeof forget, 1);
        refused(&forget, sizeof forget, PROBE_FDS);
        refused(&hello, sizeof hello, 1);
        refused(&hello, sizeof hello, PROBE_FDS - 1);
        refused(&hello, sizeof hello, PROBE_FDS + 1);
        refused(&hello, sizeof hello, 64);
        give(&forget, sizeof forget, 0); /* the socket itself is none the worse */
        ck_assert_int_eq(probe_connection_receive(&near, &got), 1);
        close_both();
}
END_TEST

START_TEST(a_full_socket_is_no_error)
{
        struct probe_watch watch = {{PROBE_WATCH, sizeof watch}};
        unsigned sent = 0, received = 0;
        int r;

        connect_both();
        while ((r = probe_connection_send(&far, &watch.header, NULL, 0)) > 0)
                sent++;
        ck_assert_int_eq(r, 0);
        ck_assert_uint_gt(sent, 0);
        while ((r = probe_connection_receive(&near, &got)) > 0)
                received++;
        ck_assert_int_eq(r, 0);
        ck_assert_uint_eq(received, sent);
        ck_assert_int_eq(probe_connection_send(&far, &watch.header, NULL, 0), 1);
        close_both();
}
END_TEST

START_TEST(progress)
{
        struct probe_forget forget = {{PROBE_FORGET, sizeof forget}, 1};

        connect_both();
        near.progress_usec -= 1000000000;
        far.progress_usec -= 1000000000;
        ck_assert(probe_connection_is_stalled(&near, 999999999));
        ck_assert_int_eq(probe_connection_receive(&near, &got), 0);
        ck_assert(probe_connection_is_stalled(&near, 999999999)); /* nothing has come */
        ck_assert_int_eq(probe_connection_send(&far, &forget.header, NULL, 0), 1);
        ck_assert(!probe_connection_is_stalled(&far, 500000000));
        ck_assert_int_eq(probe_connection_receive(&near, &got), 1);
        ck_assert(!probe_connection_is_stalled(&near, 500000000));
        near.progress_usec -= 1000000000;
        probe_connection_restart_clock(&near);
        ck_assert(!probe_connection_is_stalled(&near, 500000000));
        close_both();
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {a_record_passes, descriptors_travel_with_a_greeting, strings_end,
                        what_breaks_the_protocol_is_refused, a_full_socket_is_no_error, progress, NULL};

        return run_tests("probe-connection", tests);
}
