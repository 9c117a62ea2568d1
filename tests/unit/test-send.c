/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One client is not sent so much at once that others wait for that. */

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "daemon/bus/send.h"
#include "tests/harness/suite.h"
#include "util/cleanup.h"

#define HEADER 200
#define REST 1000

static char header[HEADER], body[SEND_TURN + REST - HEADER];

static ssize_t send_all(int fd, size_t from)
{
        struct iovec parts[] = {{header, sizeof header}, {body, sizeof body}};
        struct msghdr m = {.msg_iov = parts, .msg_iovlen = 2};

        if (from > 0) {
                parts[0].iov_len = 0;
                parts[1] = (struct iovec){body + from - HEADER, sizeof body + HEADER - from};
        }
        return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

START_TEST(a_long_message_is_sent_in_parts)
{
        static char got[2 * SEND_TURN];
        int pair[2];

        memset(header, 'h', sizeof header);
        memset(body, 'b', sizeof body);
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        send_begin(pair[0]);
        ck_assert_int_eq(send_all(pair[0], 0), SEND_TURN);
        ck_assert_int_eq(send_all(pair[0], SEND_TURN), -1);
        ck_assert_int_eq(errno, EAGAIN);
        ck_assert_uint_eq(send_end(), SEND_TURN);
        ck_assert_int_eq(send_all(pair[0], SEND_TURN), REST);
        ck_assert_int_eq(recv(pair[1], got, sizeof got, 0), SEND_TURN + REST);
        ck_assert_mem_eq(got, header, HEADER);
        for (size_t i = HEADER; i < SEND_TURN + REST; i++)
                ck_assert_int_eq(got[i], 'b');
        close(pair[0]);
        close(pair[1]);
}
END_TEST

static size_t resident(void *p, size_t size)
{
        static unsigned char pages[4 * SEND_TURN / 4096];
        size_t n = 0;

        ck_assert_int_eq(mincore(p, size, pages), 0);
        for (size_t i = 0; i < size / (size_t) getpagesize(); i++)
                n += pages[i] & 1;
        return n * (size_t) getpagesize();
}

/* So that it need not be all at once, when the message is freed. */
START_TEST(what_was_sent_of_a_long_message_is_given_back)
{
        const size_t size = 4 * SEND_TURN;
        char *long_body = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        struct iovec parts[] = {{header, sizeof header}, {long_body, size}};
        struct msghdr m = {.msg_iov = parts, .msg_iovlen = 2};
        int pair[2];

        ck_assert_ptr_ne(long_body, MAP_FAILED);
        memset(long_body, 'b', size);
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        ck_assert_uint_eq(resident(long_body, size), size);
        ck_assert_int_eq(sendmsg(pair[0], &m, MSG_DONTWAIT | MSG_NOSIGNAL), SEND_TURN);
        ck_assert_uint_le(resident(long_body, size), size - SEND_TURN + 2 * (size_t) getpagesize());
        for (size_t i = SEND_TURN - HEADER; i < size; i++)
                ck_assert_int_eq(long_body[i], 'b');
        munmap(long_body, size);
        close(pair[0]);
        close(pair[1]);
}
END_TEST

/* What a client has not read, and never will, is dropped in the same parts. */
START_TEST(what_goes_nowhere_goes_in_parts)
{
        int pair[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        send_begin_nowhere(pair[0]);
        ck_assert_int_eq(send_all(pair[0], 0), SEND_TURN);
        ck_assert_int_eq(send_all(pair[0], SEND_TURN), -1);
        ck_assert_int_eq(errno, EAGAIN);
        ck_assert_uint_eq(send_end(), SEND_TURN);
        ck_assert_int_eq(recv(pair[1], body, sizeof body, 0), -1);
        send_begin(pair[0]);
        ck_assert_int_eq(send_all(pair[0], SEND_TURN), REST);
        ck_assert_uint_eq(send_end(), REST);
        ck_assert_int_eq(recv(pair[1], body, sizeof body, 0), REST);
        close(pair[0]);
        close(pair[1]);
}
END_TEST

START_TEST(sd_bus_sends_by_our_function)
{
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
        int pair[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        ck_assert_int_ge(sd_bus_new(&bus), 0);
        ck_assert_int_ge(sd_bus_set_fd(bus, pair[0], pair[0]), 0);
        send_begin(pair[0]);
        ck_assert_int_ge(sd_bus_start(bus), 0);
        ck_assert_uint_gt(send_end(), 0);
        close(pair[1]);
}
END_TEST

int main(void)
{
        return run_tests("send",
                        (const TTest *const[]){a_long_message_is_sent_in_parts,
                                        what_was_sent_of_a_long_message_is_given_back,
                                        what_goes_nowhere_goes_in_parts, sd_bus_sends_by_our_function, NULL});
}
