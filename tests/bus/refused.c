/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Connections that are refused, or that nobody takes, with descriptors that take long to close, or for ever.
 * Nothing of them stays in the daemon. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "foreign.h"
#include "harness.h"
#include "raw.h"
#include "tests/harness/fuse.h"

#define MAY_CONNECT 8
#define QUEUED 20
#define ROUNDS 30

/* What these tests are about cannot be where a socket refuses descriptors. */
static void start_as_before(void)
{
        world.no_rights = true;
        start_plain();
}

static void start_few_connections(void)
{
        world.no_rights = true;
        world_start("MaxConnectionsPerUser=8\nRetainSec=1s\n", NULL);
}

/* And where the connection is refused, for its uid has as many as it may have. */
START_TEST(a_socket_that_lingers_in_a_connection_too_many)
{
        struct sockaddr_in address;
        int listener = lingering_listener(&address), held[MAY_CONNECT - 1];

        for (unsigned i = 0; i < ELEMENTSOF(held); i++)
                ck_assert_int_ge(held[i] = raw_connect(), 0);
        for (int i = 0; i < 3; i++) {
                int s = lingering_socket(&address), fd;

                ck_assert_int_eq(kill(world.daemon.pid, SIGSTOP), 0);
                ck_assert_int_ge(fd = connect_socket(), 0);
                ck_assert(raw_send(fd, "", 1, &s, 1));
                close(s);
                ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
                ck_assert(raw_is_closed(fd));
                close(fd);
                work(bus, 5);
        }
        for (unsigned i = 0; i < ELEMENTSOF(held); i++)
                close(held[i]);
        close(listener);
}
END_TEST

/* Connects so often, and sends a socket that lingers each time. */
static void connect_and_send(const struct sockaddr_in *address, unsigned n, int *ret_fds)
{
        int s[QUEUED];

        for (unsigned i = 0; i < n; i++) {
                s[i] = lingering_socket(address);
                ck_assert_int_ge(ret_fds[i] = connect_socket(), 0);
                ck_assert(raw_send(ret_fds[i], "", 1, &s[i], 1));
        }
        for (unsigned i = 0; i < n; i++)
                close(s[i]);
}

/* The daemon is stopped until all is there. */
static void send_to_refused(const struct sockaddr_in *address, unsigned n, int *ret_fds)
{
        ck_assert_int_eq(kill(world.daemon.pid, SIGSTOP), 0);
        connect_and_send(address, n, ret_fds);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
}

static void expect_refused(const int *fds, unsigned n)
{
        for (unsigned i = 0; i < n; i++) {
                ck_assert(raw_is_closed(fds[i]));
                close(fds[i]);
        }
}

/* Nobody is charged for these, so none of them may stay in the daemon. */
START_TEST(many_that_linger_in_connections_too_many)
{
        int listener, held[MAY_CONNECT - 1], fds[QUEUED];
        struct sockaddr_in address;
        unsigned before;

        listener = lingering_listener(&address);
        for (unsigned i = 0; i < ELEMENTSOF(held); i++)
                ck_assert_int_ge(held[i] = raw_connect(), 0);
        work(bus, 1);
        before = daemon_fds(&world.daemon);
        for (unsigned i = 0; i < 5; i++) {
                send_to_refused(&address, QUEUED, fds);
                expect_refused(fds, QUEUED);
                work(bus, 1);
                ck_assert_uint_le(daemon_fds(&world.daemon), before + QUEUED);
        }
        for (unsigned i = 0; i < ELEMENTSOF(held); i++)
                close(held[i]);
        run_as(BOB, attach_self, NULL);
        close(listener);
}
END_TEST

static void signal_closers(pid_t closer, const pid_t *others, unsigned n, int signal_number)
{
        ck_assert_int_eq(kill(closer, signal_number), 0);
        for (unsigned i = 0; i < n; i++)
                (void) kill(others[i], signal_number);
}

/* As if all hung who may take them: then no connection is accepted, but those that were are served. */
START_TEST(nobody_takes_those_that_were_refused)
{
        pid_t closer = closer_of_daemon(), others[CHILDREN_MAX];
        unsigned n_others = hands_for_all(closer, others), before, n = 0;
        int listener, held[MAY_CONNECT - 1], fds[ROUNDS][QUEUED];
        struct sockaddr_in address;
        struct pollfd last;

        listener = lingering_listener(&address);
        for (unsigned i = 0; i < ELEMENTSOF(held); i++)
                ck_assert_int_ge(held[i] = raw_connect(), 0);
        work(bus, 1);
        before = daemon_fds(&world.daemon);
        signal_closers(closer, others, n_others, SIGSTOP);
        do {
                ck_assert_uint_lt(n, ROUNDS);
                send_to_refused(&address, QUEUED, fds[n]);
                last = (struct pollfd){.fd = fds[n++][QUEUED - 1], .events = POLLIN};
        } while (poll(&last, 1, 2000) > 0);
        work(bus, 10);
        ck_assert_uint_le(daemon_fds(&world.daemon), before + QUEUED);
        signal_closers(closer, others, n_others, SIGCONT);
        for (unsigned i = 0; i < n; i++)
                expect_refused(fds[i], QUEUED);
        for (unsigned i = 0; i < ELEMENTSOF(held); i++)
                close(held[i]);
        run_as(BOB, attach_self, NULL);
        close(listener);
}
END_TEST

#define TABLE 100
#define FILES 4000 /* more than can be kept */

static void start_small_table(void)
{
        world.table = TABLE;
        start_few_connections();
}

static void on_alarm(int signal_number) {}

/* Until no connection is accepted any more. */
static void send_files_to_refused(int directory, void *userdata)
{
        const struct sigaction wakes = {.sa_handler = on_alarm};
        const struct rlimit many = {4096, 4096};
        unsigned *n_sent = userdata;

        *n_sent = 0;
        (void) setrlimit(RLIMIT_NOFILE, &many);
        ck_assert_int_eq(sigaction(SIGALRM, &wakes, NULL), 0);
        for (unsigned i = 0; i < MAY_CONNECT; i++)
                ck_assert_int_ge(raw_connect(), 0);
        for (unsigned i = 0; i < FILES; i++) {
                int sent, kept, fd;
                char name[16];

                snprintf(name, sizeof name, "%u", i);
                ck_assert_int_ge(sent = openat(directory, name, O_RDONLY), 0);
                ck_assert_int_ge(kept = openat(directory, name, O_RDWR), 0);
                alarm(3);
                fd = connect_socket();
                alarm(0);
                if (fd < 0)
                        return;
                *n_sent += raw_send(fd, "", 1, &sent, 1);
                close(fd);
                close(sent);
                ck_assert_int_eq(write(kept, "", 1), 1);
        }
        ck_abort_msg("all were taken");
}

/* All of those hang in their end who have taken what was refused. */
START_TEST(files_whose_close_hangs_in_connections_too_many)
{
        struct hung_file h = {.hangs_in_last_close = true};
        pid_t closer = closer_of_daemon(), pids[CHILDREN_MAX];
        unsigned before = daemon_fds(&world.daemon);
        unsigned *n_sent =
                        mmap(NULL, sizeof *n_sent, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        int fd;

        if (!hung_file_start(&h, ALICE, send_files_to_refused, n_sent))
                return;
        work(bus, 10);
        ck_assert_uint_ge(*n_sent, 16 * (TABLE - 16));
        ck_assert_uint_le(daemon_fds(&world.daemon), before + MAY_CONNECT + QUEUED);
        hung_file_end(&h);
        /* This waits in connect(), as sd-bus does not. */
        ck_assert_int_ge(fd = raw_connect(), 0);
        close(fd);
        run_as(BOB, attach_self, NULL);
        ck_assert_happens(children_of(closer, pids) <= 4);
}
END_TEST

/* Has one socket refused that cannot be closed. */
static void send_file_to_refused(int directory, void *userdata)
{
        int sent, kept, fd;

        for (unsigned i = 0; i < MAY_CONNECT; i++)
                ck_assert_int_ge(raw_connect(), 0);
        ck_assert_int_ge(sent = openat(directory, "1", O_RDONLY), 0);
        ck_assert_int_ge(kept = openat(directory, "1", O_RDWR), 0);
        /* The daemon may close one before this has sent anything. */
        for (bool is_sent = false; !is_sent; close(fd)) {
                ck_assert_int_ge(fd = connect_socket(), 0);
                is_sent = raw_send(fd, "", 1, &sent, 1);
        }
        close(sent);
        ck_assert_int_eq(write(kept, "", 1), 1);
}

/* The processes are killed before one of them has taken what hangs. */
START_TEST(closers_are_killed_before_they_take_a_file_whose_close_hangs)
{
        struct hung_file h = {.hangs_in_last_close = true};
        pid_t closer = closer_of_daemon(), hands[CHILDREN_MAX];
        unsigned n = hands_for_all(closer, hands);
        int fd;

        nap(1100000);
        ck_assert_int_eq(kill(closer, SIGSTOP), 0);
        if (!hung_file_start(&h, ALICE, send_file_to_refused, NULL))
                return;
        work(bus, 10);
        ck_assert_int_eq(kill(closer, SIGKILL), 0);
        nap(200000);
        for (unsigned i = 0; i < n; i++)
                ck_assert_int_eq(kill(hands[i], SIGKILL), 0);
        nap(200000);
        ck_assert_int_ge(fd = raw_connect(), 0);
        close(fd);
        work(bus, 10);
        run_as(BOB, attach_self, NULL);
        /* Then the one that was killed has ended, too. */
        hung_file_end(&h);
        ck_assert_happens(closer_of_daemon() != closer);
}
END_TEST

/* More than those who close for her can have. */
static void send_files_to_each(int directory, void *userdata)
{
        struct raw m;

        attach_message(&m);
        for (unsigned i = 0; i < MAY_CONNECT; i++) {
                int fd = raw_connect(), sent, kept;
                char name[16];

                snprintf(name, sizeof name, "%u", i);
                ck_assert_int_ge(sent = openat(directory, name, O_RDONLY), 0);
                ck_assert_int_ge(kept = openat(directory, name, O_RDWR), 0);
                ck_assert(raw_send(fd, m.bytes, m.n, &sent, 1));
                close(sent);
                ck_assert_int_eq(write(kept, "", 1), 1);
        }
}

/* Nothing shows when. */
static bool hangs_soon(struct hung_file *h)
{
        nap(500000);
        return true;
}

static void ends_while_files_hang(int signal_number, void (*send)(int directory, void *userdata))
{
        unsigned *n_sent =
                        mmap(NULL, sizeof *n_sent, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        ends_in_spite_of("[Daemon]\nProbe=off\nMaxConnectionsPerUser=8\nRetainSec=1s\n",
                        (struct hung_file){.hangs_in_last_close = true}, signal_number, send, n_sent,
                        hangs_soon);
}

/* Nobody takes more, and the queue of those who connect is full. */
START_TEST(the_daemon_ends_where_nobody_takes_those_that_were_refused)
{
        ends_while_files_hang(SIGTERM, send_files_to_refused);
}
END_TEST

/* Then they are in its queue. */
START_TEST(the_daemon_is_killed_where_nobody_takes_those_that_were_refused)
{
        ends_while_files_hang(SIGKILL, send_files_to_refused);
}
END_TEST

START_TEST(the_daemon_ends_where_sockets_wait_to_be_closed)
{
        ends_while_files_hang(SIGTERM, send_files_to_each);
}
END_TEST

/* Then they are in its table. */
START_TEST(the_daemon_is_killed_where_sockets_wait_to_be_closed)
{
        ends_while_files_hang(SIGKILL, send_files_to_each);
}
END_TEST

/* And where the daemon's table has no room for the connection. */
START_TEST(a_socket_that_lingers_where_the_table_is_full)
{
        int listener, held[2 * ROUNDS], fd;
        struct sockaddr_in address;
        struct rlimit before, few;
        _cleanup_free_ char *log = NULL;

        listener = lingering_listener(&address);
        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, NULL, &before), 0);
        few = (struct rlimit){world.fds + ROUNDS, before.rlim_max};
        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, &few, NULL), 0);
        /* The reserve is for root. */
        ck_assert_int_eq(seteuid(ALICE), 0);
        for (unsigned i = 0; i < ELEMENTSOF(held); i++)
                ck_assert_int_ge(held[i] = connect_socket(), 0);
        ck_assert(raw_is_closed(held[ELEMENTSOF(held) - 1]));
        for (unsigned i = 0; i < 3; i++) {
                ck_assert_int_eq(seteuid(0), 0);
                ck_assert_int_eq(kill(world.daemon.pid, SIGSTOP), 0);
                ck_assert_int_eq(seteuid(ALICE), 0);
                connect_and_send(&address, 1, &fd);
                ck_assert_int_eq(seteuid(0), 0);
                ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
                expect_refused(&fd, 1);
                FAILS(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "nobody");
        }
        log = daemon_log();
        ck_assert_ptr_nonnull(strstr(log, "No descriptor is left"));
        for (unsigned i = 0; i < ELEMENTSOF(held); i++)
                close(held[i]);
        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, &before, NULL), 0);
        close(listener);
}
END_TEST

/* The daemon cannot even copy a descriptor when it ends this connection. */
START_TEST(a_socket_that_lingers_where_no_descriptor_is_left)
{
        int listener, s, pair[2], fd = raw_connect(), crowd[FILLING];
        struct rlimit before = fill_table(crowd);
        struct sockaddr_in address;
        struct raw m;

        listener = lingering_listener(&address);
        s = lingering_socket(&address);
        /* Who looks cannot reach it there. */
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        ck_assert(raw_send(pair[0], "", 1, &s, 1));
        close(s);
        attach_message(&m);
        ck_assert_int_eq(kill(world.daemon.pid, SIGSTOP), 0);
        raw_write(fd, "this is no message", 18);
        ck_assert(raw_send(fd, m.bytes, m.n, &pair[1], 1));
        close(pair[0]);
        close(pair[1]);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
        ck_assert(raw_is_closed(fd));
        FAILS(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "nobody");
        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, &before, NULL), 0);
        for (unsigned i = 0; i < FILLING; i++)
                close(crowd[i]);
        close(fd);
        close(listener);
}
END_TEST

/* It sends no descriptor before the daemon has agreed to that. */
START_TEST(descriptors_for_a_connection_that_was_not_taken)
{
        int fd, file = open("/dev/null", O_RDONLY | O_CLOEXEC), pair[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        if (setsockopt(pair[0], SOL_SOCKET, 83, &(int){1}, sizeof(int)) < 0) {
                fprintf(stderr, "SKIP: SO_PASSRIGHTS: %s\n", strerror(errno));
                return;
        }
        ck_assert_int_eq(kill(world.daemon.pid, SIGSTOP), 0);
        ck_assert_int_ge(fd = connect_socket(), 0);
        ck_assert(!raw_send(fd, "", 1, &file, 1));
        ck_assert_int_eq(errno, EPERM);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
        close(fd);
        /* One that was accepted, and has said nothing. */
        ck_assert_int_ge(fd = connect_socket(), 0);
        work(bus, 5);
        ck_assert(!raw_send(fd, "", 1, &file, 1));
        ck_assert_int_eq(errno, EPERM);
        run_as(BOB, attach_self, NULL);
        close(fd);
        close(file);
        close(pair[0]);
        close(pair[1]);
}
END_TEST

void add_refused(Suite *s)
{
        ADD_TESTS(s, "refused-rights", start_plain, descriptors_for_a_connection_that_was_not_taken);
        ADD_TESTS(s, "refused", start_few_connections, a_socket_that_lingers_in_a_connection_too_many,
                        many_that_linger_in_connections_too_many, nobody_takes_those_that_were_refused);
        ADD_TESTS(s, "refused-files", start_small_table, files_whose_close_hangs_in_connections_too_many);
        ADD_TESTS(s, "refused-killed", start_small_table,
                        closers_are_killed_before_they_take_a_file_whose_close_hangs);
        ADD_TESTS(s, "refused-end", start_small_table,
                        the_daemon_ends_where_nobody_takes_those_that_were_refused,
                        the_daemon_is_killed_where_nobody_takes_those_that_were_refused);
        ADD_TESTS(s, "waiting-end", start_small_table, the_daemon_ends_where_sockets_wait_to_be_closed,
                        the_daemon_is_killed_where_sockets_wait_to_be_closed);
        ADD_TESTS(s, "full-table", start_as_before, a_socket_that_lingers_where_the_table_is_full,
                        a_socket_that_lingers_where_no_descriptor_is_left);
}
