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

int socket_with_lingering(const struct sockaddr_in *address)
{
        int s = lingering_socket(address), pair[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        ck_assert(raw_send(pair[0], "", 1, &s, 1));
        close(s);
        close(pair[0]);
        return pair[1];
}

/* Sends it, and stops the daemon before there is an answer about it. */
static void send_while_nobody_looks(int fd, const pid_t *hands, unsigned n, int sent)
{
        struct raw m;

        for (unsigned i = 0; i < n; i++)
                ck_assert_int_eq(kill(hands[i], SIGSTOP), 0);
        attach_message(&m);
        ck_assert(raw_send(fd, m.bytes, m.n, &sent, 1));
        (void) settled_fds();
        stop_daemon();
}

/* The hands look, while the daemon is stopped: a new one is there, in place of the one that has left. */
static void have_looked(pid_t closer, const pid_t *hands, unsigned n, pid_t now[CHILDREN_MAX])
{
        for (unsigned i = 0; i < n; i++)
                ck_assert_int_eq(kill(hands[i], SIGCONT), 0);
        ck_assert_happens(children_of(closer, now) == n + 1);
}

void expect_no_pidfd(int fd)
{
        char name[128];

        ck_assert_int_eq(raw_read(fd, name), 3);
        ck_assert_str_eq(name, SD_BUS_ERROR_INVALID_ARGS);
}

/* It has looked, and should keep what it has seen until the daemon has received it. */
START_TEST(who_has_looked_is_killed)
{
        pid_t hands[CHILDREN_MAX], now[CHILDREN_MAX];
        pid_t closer = closer_of_daemon();
        unsigned n = hands_for_all(closer, hands);
        struct sockaddr_in address;
        int listener = lingering_listener(&address), s = socket_with_lingering(&address), fd = raw_connect();

        OK(bus, "Create", "sa{sv}", "hers", 0);
        ck_assert_uint_eq(n, 2);
        send_while_nobody_looks(fd, hands, n, s);
        close(s);
        have_looked(closer, hands, n, now);
        for (unsigned i = 0; i < n; i++)
                ck_assert_int_eq(kill(hands[i], SIGKILL), 0);
        ck_assert_happens(kill(hands[0], 0) < 0 && kill(hands[1], 0) < 0);
        ck_assert_happens(children_of(closer, now) == n);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
        work(bus, 5);
        expect_no_pidfd(fd);
        close(fd);
        close(listener);
}
END_TEST

static void wait_until_ended(const pid_t *pids, unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                ck_assert_happens(task_state(pids[i], pids[i]) == 'Z');
}

/* And whose child it is does not say so. */
START_TEST(who_has_looked_is_killed_in_silence)
{
        pid_t hands[CHILDREN_MAX], now[CHILDREN_MAX];
        pid_t closer = closer_of_daemon();
        unsigned n = hands_for_all(closer, hands);
        struct sockaddr_in address;
        int listener = lingering_listener(&address), s = socket_with_lingering(&address), fd = raw_connect();

        OK(bus, "Create", "sa{sv}", "hers", 0);
        ck_assert_uint_eq(n, 2);
        send_while_nobody_looks(fd, hands, n, s);
        close(s);
        have_looked(closer, hands, n, now);
        ck_assert_int_eq(kill(closer, SIGSTOP), 0);
        ck_assert_happens(task_state(closer, closer) == 'T');
        for (unsigned i = 0; i < n + 1; i++)
                ck_assert_int_eq(kill(now[i], SIGKILL), 0);
        wait_until_ended(now, n + 1);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
        for (int i = 0; i < 5; i++)
                EXPECT_ACTIVE(bus, "hers");
        ck_assert_int_eq(kill(closer, SIGCONT), 0);
        work(bus, 5);
        expect_no_pidfd(fd);
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
        ADD_TESTS(s, "last-close", start_plain, a_socket_that_lingers_out_of_band, who_has_looked_is_killed,
                        who_has_looked_is_killed_in_silence);
        ADD_TESTS(s, "last-close-as-before", start_as_before, a_socket_that_lingers_out_of_band_at_first);
}
