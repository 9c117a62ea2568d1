/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* All that comes over a bus comes in one stream. Descriptors of one user do not stop it, also where nobody
 * looks at them in time (law 48). */

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "foreign.h"
#include "harness.h"

#define FILES 50
#define LARGE (4 << 20)
#define AT_MOST (FILES / 5) /* processes */

/* To those who look for all. */
static void signal_hands(int signal_number)
{
        pid_t hands[CHILDREN_MAX];
        unsigned n = children_of(closer_of_daemon(), hands);

        ck_assert_uint_ge(n, 2);
        for (unsigned i = 0; i < n; i++)
                ck_assert_int_eq(kill(hands[i], signal_number), 0);
        /* Until they have answered what they were asked, a look for another message is not waited for. */
        for (unsigned i = 0; i < n && signal_number == SIGCONT; i++)
                ck_assert_happens(process_sleeps(hands[i], 0));
}

void send_fds(sd_bus *b, const int *fds, unsigned n)
{
        sd_bus_message *m = NULL;

        ck_assert_int_ge(sd_bus_message_new_method_call(
                                         b, &m, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Attach"),
                        0);
        ck_assert_int_ge(sd_bus_message_append(m, "s", "hers"), 0);
        for (unsigned i = 0; i < n; i++)
                ck_assert_int_ge(sd_bus_message_append(m, "h", fds[i]), 0);
        ck_assert_int_ge(sd_bus_message_append(m, "a{sv}", 0), 0);
        ck_assert_int_ge(sd_bus_send(b, m, NULL), 0);
        sd_bus_message_unref(m);
        ck_assert_int_ge(sd_bus_flush(b), 0);
}

START_TEST(who_looks_is_killed_while_it_is_waited_for)
{
        _cleanup_close_ int pidfd = open_pidfd(getpid());
        _cleanup_bus_ sd_bus *b = connect_bus();

        signal_hands(SIGSTOP);
        send_fds(b, &pidfd, 1);
        nap(30000);
        signal_hands(SIGKILL);
        /* Descriptors of others are taken. */
        for (int i = 0; i < 5; i++)
                run_as(BOB, attach_self, NULL);
}
END_TEST

/* Nobody else has it any more when the daemon receives it. */
static void send_socket_that_lingers(sd_bus *b, int listener)
{
        const struct linger minutes = {.l_onoff = 1, .l_linger = 300};
        struct sockaddr_in address;
        socklen_t length = sizeof address;
        int s = socket(AF_INET, SOCK_STREAM, 0);
        static char bytes[1 << 16];

        ck_assert_int_eq(getsockname(listener, (struct sockaddr *) &address, &length), 0);
        ck_assert_int_eq(connect(s, (struct sockaddr *) &address, sizeof address), 0);
        while (send(s, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
                ;
        ck_assert_int_eq(setsockopt(s, SOL_SOCKET, SO_LINGER, &minutes, sizeof minutes), 0);
        kill(world.daemon.pid, SIGSTOP);
        send_fds(b, &s, 1);
        nap(50000); /* the bus has passed it on */
        close(s);
        kill(world.daemon.pid, SIGCONT);
}

START_TEST(a_socket_that_lingers_and_nobody_looks)
{
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int listener = socket(AF_INET, SOCK_STREAM, 0);
        _cleanup_bus_ sd_bus *b = connect_bus();
        unsigned before = settled_fds();

        ck_assert_int_eq(bind(listener, (struct sockaddr *) &address, sizeof address), 0);
        ck_assert_int_eq(listen(listener, 8), 0);
        signal_hands(SIGSTOP);
        for (int i = 0; i < 3; i++) {
                send_socket_that_lingers(b, listener);
                work(bus, 5);
        }
        /* Nobody is charged for them, so none may stay in the daemon. */
        ck_assert_uint_eq(settled_fds(), before);
        signal_hands(SIGCONT);
        work(bus, 5);
        run_as(BOB, attach_self, NULL);
        close(listener);
}
END_TEST

/* dbus-broker passes on as many as a user may have on their way; dbus-daemon ends the sender instead. */
START_TEST(more_descriptors_than_any_call_takes)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        _cleanup_free_ char *log = NULL;
        int pidfds[20], ends[2];

        for (unsigned i = 0; i < ELEMENTSOF(pidfds); i++)
                ck_assert_int_ge(pidfds[i] = open_pidfd(getpid()), 0);
        send_fds(b, pidfds, ELEMENTSOF(pidfds));
        work(bus, 5);
        ck_assert_int_eq(pipe(ends), 0);
        close(pidfds[7]);
        pidfds[7] = ends[0];
        send_fds(b, pidfds, ELEMENTSOF(pidfds));
        work(bus, 5);
        run_as(BOB, attach_self, NULL);
        log = daemon_log();
        ck_assert_ptr_null(strstr(log, "The connection to the bus is lost"));
        for (unsigned i = 0; i < ELEMENTSOF(pidfds); i++)
                close(pidfds[i]);
        close(ends[1]);
}
END_TEST

/* The stream waits for each look, and to start a process takes longer than all the rest. */
START_TEST(who_closes_for_the_bus_goes_on)
{
        pid_t closer = closer_of_daemon();
        unsigned fresh = 0;
        int ends[2];

        OK(bus, "Create", "sa{sv}", "hers", 0);
        ck_assert_int_eq(pipe(ends), 0);
        (void) new_closers(closer);
        for (unsigned i = 0; i < FILES; i++) {
                FAILS(bus, SD_BUS_ERROR_INVALID_ARGS, "Attach", "sha{sv}", "hers", ends[0], 0);
                fresh += new_closers(closer);
        }
        ck_assert_msg(fresh <= AT_MOST, "%u processes", fresh);
        close(ends[0]);
        close(ends[1]);
}
END_TEST

/* Who has closed one ends. So more of them than there may be at a time. */
START_TEST(large_files_do_not_use_up_who_looks)
{
        OK(bus, "Create", "sa{sv}", "hers", 0);
        for (unsigned i = 0; i < FILES; i++) {
                _cleanup_close_ int file = memfd_create("large", MFD_CLOEXEC);

                ck_assert_int_eq(fallocate(file, 0, 0, LARGE), 0);
                FAILS(bus, SD_BUS_ERROR_INVALID_ARGS, "Attach", "sha{sv}", "hers", file, 0);
        }
        run_as(BOB, attach_self, NULL);
}
END_TEST

void add_closers_of_bus(Suite *s)
{
        ADD_TESTS(s, "closers-of-bus", start_plain, who_looks_is_killed_while_it_is_waited_for,
                        a_socket_that_lingers_and_nobody_looks, who_closes_for_the_bus_goes_on,
                        large_files_do_not_use_up_who_looks);
        if (world.transport == TRANSPORT_DBUS_BROKER)
                ADD_TESTS(s, "many-over-bus", start_plain, more_descriptors_than_any_call_takes);
}
