/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The bus is not there when the daemon starts, or it ends while the daemon runs. The daemon says so, serves
 * direct connections meanwhile, and tries again. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "foreign.h"
#include "harness.h"

static bool log_has(const char *what)
{
        _cleanup_free_ char *log = daemon_log();

        return strstr(log, what);
}

static sd_bus *connect_directly(void)
{
        char address[128];

        snprintf(address, sizeof address, "unix:path=%s/ctxd/bus", world.daemon.directory);
        return bus_connect(address, true);
}

static bool socket_is_there(void)
{
        int fd = connect_socket();

        if (fd >= 0)
                close(fd);
        return fd >= 0;
}

static void kill_bus(void)
{
        kill(world.bus.pid, SIGKILL);
        bus_stop(&world.bus);
}

static void expect_ready(void)
{
        _cleanup_bus_ sd_bus *b = NULL;

        ck_assert(daemon_becomes_ready(&world.daemon));
        b = connect_bus();
        create(b, "over-the-bus");
}

START_TEST(no_bus_at_start)
{
        _cleanup_bus_ sd_bus *direct = NULL;

        world_prepare("", NULL);
        kill_bus();
        daemon_launch(&world.daemon);
        ck_assert_happens(socket_is_there());
        direct = connect_directly();
        create(direct, "early");
        ck_assert_happens(log_has("The bus cannot be used yet"));
        /* The daemon has not said that it is ready. */
        ck_assert(!is_readable(world.daemon.notify));
        world_bus_start();
        expect_ready();
        EXPECT_ACTIVE(direct, "early");
        world_stop();
}
END_TEST

/* The bus closes each connection at once. A client sees this when the bus is just ending. */
START_TEST(a_bus_that_ends_at_start)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        world_prepare("", NULL);
        kill_bus();
        strcpy(address.sun_path, world.bus.path);
        ck_assert_int_eq(bind(fd, (struct sockaddr *) &address, sizeof address), 0);
        ck_assert_int_eq(chmod(world.bus.path, 0666), 0);
        ck_assert_int_eq(listen(fd, 10), 0);
        daemon_launch(&world.daemon);
        for (int i = 0; i < 3; i++) {
                ck_assert(becomes_readable(fd));
                close(accept(fd, NULL, NULL));
        }
        close(fd);
        unlink(world.bus.path);
        world_bus_start();
        expect_ready();
        world_stop();
}
END_TEST

START_TEST(a_bus_that_does_not_answer_at_start)
{
        _cleanup_bus_ sd_bus *direct = NULL;

        world_prepare("", NULL);
        kill(world.bus.pid, SIGSTOP);
        daemon_launch(&world.daemon);
        ck_assert_happens(socket_is_there());
        direct = connect_directly();
        create(direct, "early");
        kill(world.bus.pid, SIGCONT);
        expect_ready();
        world_stop();
}
END_TEST

START_TEST(told_to_end_before_there_is_a_bus)
{
        world_prepare("", NULL);
        kill_bus();
        daemon_launch(&world.daemon);
        ck_assert_happens(socket_is_there());
        /* This checks the exit status. */
        world_stop();
}
END_TEST

static bool name_is_owned(sd_bus *b)
{
        return sd_bus_call_method(b, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                               "GetNameOwner", NULL, NULL, "s", CTXD_BUS_NAME) >= 0;
}

#define LISTED 1000
#define LISTS 100

static int ignore(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        return 0;
}

static void ask_for_lists(sd_bus *b)
{
        char label[CTXD_LABEL_MAX - 8], path[CTXD_LABEL_MAX];

        memset(label, 'l', sizeof label - 1);
        label[sizeof label - 1] = '\0';
        for (unsigned i = 0; i < LISTED; i++) {
                snprintf(path, sizeof path, "%s%u", label, i);
                create(b, path);
        }
        ck_assert_int_eq(kill(world.daemon.pid, SIGSTOP), 0);
        for (unsigned i = 0; i < LISTS; i++)
                ck_assert_int_ge(sd_bus_call_method_async(b, NULL, CTXD_BUS_NAME, CTXD_OBJECT,
                                                 CTXD_MANAGER_INTERFACE, "List", ignore, NULL, "ssu", "/", "",
                                                 0),
                                0);
        /* The answer says that the bus has got all before this. */
        ck_assert(name_is_owned(b));
}

/* There are replies that it has not taken. */
START_TEST(told_to_end_while_the_bus_does_not_read)
{
        _cleanup_bus_ sd_bus *b = NULL;

        world_start("RetainSec=1s\n", NULL);
        b = connect_bus();
        ask_for_lists(b);
        ck_assert_int_eq(kill(world.bus.pid, SIGSTOP), 0);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
        ck_assert_happens(process_sleeps(world.daemon.pid, 0));
        ck_assert_int_eq(kill(world.daemon.pid, SIGTERM), 0);
        ck_assert_happens(waitpid(world.daemon.pid, NULL, WNOHANG) == world.daemon.pid);
        ck_assert_int_eq(kill(world.bus.pid, SIGCONT), 0);
        bus_stop(&world.bus);
        directory_remove(world.daemon.directory);
}
END_TEST

static int on_done(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        *(bool *) userdata = true;
        return 0;
}

START_TEST(a_subscriber_hears_of_the_end)
{
        _cleanup_bus_ sd_bus *b = NULL;
        bool heard = false;

        world_start("RetainSec=1s\n", NULL);
        b = connect_bus();
        create(b, "ended");
        ck_assert_int_ge(sd_bus_match_signal(b, NULL, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                         "ContextDone", on_done, &heard),
                        0);
        OK(b, "Subscribe", "s", "ended");
        kill(world.daemon.pid, SIGTERM);
        ck_assert_int_eq(waitpid(world.daemon.pid, NULL, 0), world.daemon.pid);
        ck_assert_happens(sd_bus_process(b, NULL) == 0 && (heard || !name_is_owned(b)));
        while (sd_bus_process(b, NULL) > 0)
                ;
        ck_assert(heard);
        bus_stop(&world.bus);
        directory_remove(world.daemon.directory);
}
END_TEST

START_TEST(the_name_is_anothers)
{
        _cleanup_bus_ sd_bus *other = NULL;
        int status;

        world_prepare("", NULL);
        other = bus_connect(world.bus.address, true);
        ck_assert_int_ge(sd_bus_request_name(other, CTXD_BUS_NAME, 0), 0);
        daemon_launch(&world.daemon);
        ck_assert(!daemon_becomes_ready(&world.daemon));
        ck_assert_int_eq(waitpid(world.daemon.pid, &status, 0), world.daemon.pid);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
        ck_assert(log_has("another ctxd has it"));
        bus_stop(&world.bus);
        directory_remove(world.daemon.directory);
}
END_TEST

static bool has_complained(void)
{
        char path[96];
        struct stat st;

        snprintf(path, sizeof path, "%s/log", world.daemon.directory);
        return stat(path, &st) == 0 && st.st_size > 0;
}

/* As where a daemon was killed, and the bus has not heard of its end. */
START_TEST(the_name_is_anothers_for_an_instant)
{
        _cleanup_bus_ sd_bus *other = NULL;

        world_prepare("", NULL);
        other = bus_connect(world.bus.address, true);
        ck_assert_int_ge(sd_bus_request_name(other, CTXD_BUS_NAME, 0), 0);
        daemon_launch(&world.daemon);
        ck_assert_happens(has_complained());
        ck_assert_int_ge(sd_bus_release_name(other, CTXD_BUS_NAME), 0);
        ck_assert(daemon_becomes_ready(&world.daemon));
        ck_assert_int_eq(daemon_stop(&world.daemon), 0);
        bus_stop(&world.bus);
}
END_TEST

/* Peers of the bus, and their subscriptions, end with the bus. Contexts and handles stay. */
START_TEST(a_bus_that_is_started_again)
{
        _cleanup_bus_ sd_bus *direct = NULL;
        unsigned fds;

        world_start("RetainSec=1s\n", NULL);
        direct = connect_directly();
        EXPECT_ACTIVE(direct, "/");
        fds = settled_fds();
        for (int i = 0; i < 3; i++) {
                _cleanup_bus_ sd_bus *before = connect_bus(), *after = NULL;
                char path[16];
                int handle;

                snprintf(path, sizeof path, "kept-%d", i);
                create(before, path);
                handle = done_handle(before, path);
                OK(before, "Subscribe", "s", "/");
                kill_bus();
                ck_assert_happens(log_has("The connection to the bus is lost"));
                EXPECT_ACTIVE(direct, path);
                create(direct, "meanwhile");
                OK(direct, "Release", "s", "meanwhile");
                world_bus_start();
                after = connect_bus();
                ck_assert_happens(name_is_owned(after));
                EXPECT_ACTIVE(after, path);
                ck_assert(cancel(after, path, ""));
                ck_assert(becomes_readable(handle));
                close(handle);
                OK(after, "Release", "s", path);
        }
        ck_assert(log_has("The bus is back"));
        expect_fds(fds);
        world_stop();
}
END_TEST

#define FEW 8

/* They wait in the daemon's socket, behind a call that cannot be answered any more (law 48). */
START_TEST(a_bus_that_dies_with_sockets_that_linger)
{
        _cleanup_bus_ sd_bus *direct = NULL, *b = NULL;
        int listener, sent[FEW];
        struct sockaddr_in address;

        world_start("RetainSec=1s\n", NULL);
        listener = lingering_listener(&address);
        direct = connect_directly();
        b = connect_bus();
        work(direct, 5);
        stop_daemon();
        for (unsigned i = 0; i < FEW; i++) {
                sent[i] = lingering_socket(&address);
                send_fds(b, &sent[i], 1);
        }
        /* dbus-broker passes on one, and no other until that is received. */
        bus_has_passed_on(world.transport == TRANSPORT_DBUS_BROKER ? 1 : FEW);
        for (unsigned i = 0; i < FEW; i++)
                close(sent[i]);
        kill_bus();
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
        work(direct, 20);
        ck_assert_happens(log_has("The connection to the bus is lost"));
        work(direct, 20);
        world_bus_start();
        close(listener);
        world_stop();
}
END_TEST

Suite *suite_bus_gone(void)
{
        Suite *s = suite_create("bus-gone");
        const TTest *const tests[] = {no_bus_at_start, a_bus_that_ends_at_start,
                        a_bus_that_does_not_answer_at_start, told_to_end_before_there_is_a_bus,
                        told_to_end_while_the_bus_does_not_read, a_subscriber_hears_of_the_end,
                        the_name_is_anothers, the_name_is_anothers_for_an_instant,
                        a_bus_that_is_started_again, a_bus_that_dies_with_sockets_that_linger, NULL};

        add_case(s, "bus-gone", tests);
        return s;
}
