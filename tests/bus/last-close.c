/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The last close of what a client has sent is never in the daemon, whatever becomes of those who should make
 * it. */

#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "foreign.h"
#include "harness.h"
#include "raw.h"

static void send_out_of_band(int socket, int fd)
{
        char control[CMSG_SPACE(sizeof fd)] = {};
        struct iovec iov = {.iov_base = "", .iov_len = 1};
        struct msghdr m = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control,
                        .msg_controllen = sizeof control};
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);

        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
        ck_assert_int_eq(sendmsg(socket, &m, MSG_OOB | MSG_NOSIGNAL), 1);
}

/* The kernel drops a byte that is out of band where it is not asked for, with its descriptors. */
START_TEST(a_socket_that_lingers_out_of_band)
{
        struct sockaddr_in address;
        int listener = lingering_listener(&address), s = lingering_socket(&address), fd = raw_connect();

        send_out_of_band(fd, s);
        close(s);
        work(bus, 5);
        /* It is a part of a message that is none. */
        raw_write(fd, "this is no message", 18);
        ck_assert(raw_is_closed(fd));
        close(fd);
        work(bus, 5);
        close(listener);
}
END_TEST

/* As where a socket cannot refuse descriptors: also before it authenticates. */
START_TEST(a_socket_that_lingers_out_of_band_at_first)
{
        struct sockaddr_in address;
        int listener = lingering_listener(&address), s = lingering_socket(&address), fd;

        ck_assert_int_eq(kill(world.daemon.pid, SIGSTOP), 0);
        ck_assert_int_ge(fd = connect_socket(), 0);
        send_out_of_band(fd, s);
        raw_write(fd, "", 1);
        close(s);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
        work(bus, 5);
        close(fd);
        close(listener);
}
END_TEST

static void start_as_before(void)
{
        world.no_rights = true;
        start_plain();
}

void add_last_close(Suite *s)
{
        ADD_TESTS(s, "last-close", start_plain, a_socket_that_lingers_out_of_band);
        ADD_TESTS(s, "last-close-as-before", start_as_before, a_socket_that_lingers_out_of_band_at_first);
}
