/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* All that comes over a bus comes in one stream. Descriptors of one user do not stop it, also where nobody
 * looks at them in time (law 48). */

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
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
        pid_t closer = closer_of_daemon();
        unsigned n = 0;

        /* And not to those that keep, or close, where a test before this has left any. */
        ck_assert_happens((n = children_of(closer, hands)) == 2 || signal_number != SIGSTOP);
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

/* That wait in one socket of the daemon. */
static unsigned waiting_fds(void)
{
        unsigned most = 0, n;

        for (unsigned fd = 0; fd < 512; fd++) {
                char path[64], line[128];
                FILE *f;

                snprintf(path, sizeof path, "/proc/%d/fdinfo/%u", world.daemon.pid, fd);
                f = fopen(path, "re");
                while (f && fgets(line, sizeof line, f))
                        if (sscanf(line, "scm_fds: %u", &n) == 1 && n > most)
                                most = n;
                if (f)
                        fclose(f);
        }
        return most;
}

void bus_has_passed_on(unsigned n)
{
        ck_assert_happens(waiting_fds() >= n && process_sleeps(world.bus.pid, 0));
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
static void send_last(sd_bus *b, int fd)
{
        stop_daemon();
        send_fds(b, &fd, 1);
        bus_has_passed_on(1);
        close(fd);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
}

START_TEST(a_socket_that_lingers_and_nobody_looks)
{
        struct sockaddr_in address;
        int listener = lingering_listener(&address);
        _cleanup_bus_ sd_bus *b = connect_bus();
        unsigned before = settled_fds();

        signal_hands(SIGSTOP);
        for (int i = 0; i < 3; i++) {
                send_last(b, lingering_socket(&address));
                for (int k = 0; k < 5; k++)
                        EXPECT_ACTIVE(bus, "/"); /* a handle would wait for who closes it */
        }
        /* Nobody is charged for them, so none may stay in the daemon. */
        ck_assert_uint_eq(settled_fds(), before);
        signal_hands(SIGCONT);
        work(bus, 5);
        run_as(BOB, attach_self, NULL);
        close(listener);
}
END_TEST

#define HANG 40 /* more than there are processes that close for a bus */

/* Descriptors of others are taken meanwhile. dbus-broker has what it has passed on until it was received, and
 * would hang itself. */
START_TEST(sockets_of_a_bus_whose_close_hangs)
{
        struct sockaddr_in address;
        int listener = lingering_listener(&address);
        _cleanup_bus_ sd_bus *b = connect_bus();

        for (unsigned i = 0; i < HANG; i++) {
                send_last(b, socket_with_lingering(&address));
                EXPECT_ACTIVE(b, "/"); /* so it was received */
        }
        for (int i = 0; i < 5; i++)
                run_as(BOB, attach_self, NULL);
        work(bus, 5);
        close(listener);
}
END_TEST

static void serves_where_the_table_was_full(const struct rlimit *before, const int crowd[FILLING])
{
        _cleanup_free_ char *log = NULL;

        for (int i = 0; i < 5; i++)
                EXPECT_ACTIVE(bus, "/");
        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, before, NULL), 0);
        for (unsigned i = 0; i < FILLING; i++)
                close(crowd[i]);
        work(bus, 5);
        run_as(BOB, attach_self, NULL);
        log = daemon_log();
        ck_assert_ptr_null(strstr(log, "The connection to the bus is lost"));
}

START_TEST(descriptors_of_a_bus_where_the_table_is_full)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        _cleanup_close_ int pidfd = open_pidfd(getpid());
        int ends[2], crowd[FILLING];
        struct rlimit before;

        ck_assert_int_eq(pipe(ends), 0);
        before = fill_table(crowd);
        send_fds(b, &ends[0], 1);
        send_fds(b, &pidfd, 1);
        close(ends[0]);
        close(ends[1]);
        serves_where_the_table_was_full(&before, crowd);
}
END_TEST

START_TEST(a_socket_that_lingers_where_the_table_is_full)
{
        struct sockaddr_in address;
        int listener = lingering_listener(&address), crowd[FILLING];
        _cleanup_bus_ sd_bus *b = connect_bus();
        struct rlimit before = fill_table(crowd);

        signal_hands(SIGSTOP);
        send_last(b, lingering_socket(&address));
        for (int i = 0; i < 5; i++)
                EXPECT_ACTIVE(bus, "/");
        signal_hands(SIGCONT);
        serves_where_the_table_was_full(&before, crowd);
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
        if (world.transport == TRANSPORT_DBUS_DAEMON)
                ADD_TESTS(s, "hung-over-bus", start_plain, sockets_of_a_bus_whose_close_hangs);
        ADD_TESTS(s, "table-over-bus", start_plain, descriptors_of_a_bus_where_the_table_is_full,
                        a_socket_that_lingers_where_the_table_is_full);
        if (world.transport == TRANSPORT_DBUS_BROKER)
                ADD_TESTS(s, "many-over-bus", start_plain, more_descriptors_than_any_call_takes);
}
