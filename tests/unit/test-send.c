/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One client is not sent so much at once that others wait for that. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>

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
        ck_assert_mem_eq(got + HEADER, body, sizeof body);
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
        return run_tests("send", (const TTest *const[]){a_long_message_is_sent_in_parts,
                                                 sd_bus_sends_by_our_function, NULL});
}
