/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Many clients at once. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "harness.h"
#include "raw.h"

START_TEST(a_thousand_connections)
{
        for (int i = 0; i < 1000; i++) {
                int fd = connect_socket();

                ck_assert_int_ge(fd, 0);
                if (i % 3 == 1)
                        /* It ends in the middle of the authentication. */
                        raw_write(fd, "\0AUTH EXTERNAL ", 15);
                if (i % 3 == 2)
                        raw_write(fd, "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\nl\1\0\1", 33);
                close(fd);
        }
        create(bus, "a");
        ck_assert(cancel(bus, "a", ""));
}
END_TEST

START_TEST(a_thousand_connections_at_once)
{
        static int fds[1000];

        create(bus, "a");
        for (int i = 0; i < 1000; i++) {
                fds[i] = i % 2 ? raw_connect() : connect_socket();
                ck_assert_int_ge(fds[i], 0);
        }
        ck_assert(cancel(bus, "a", ""));
        for (int i = 0; i < 1000; i++)
                close(fds[i]);
        ck_assert_int_eq(code_of(bus, "a"), ECANCELED);
}
END_TEST

static void start_few_connections(void)
{
        world_start("MaxConnectionsPerUser=20\nRetainSec=1s\n", NULL);
}

START_TEST(connections_have_a_limit)
{
        int fds[40];
        unsigned n = 0;

        for (size_t i = 0; i < ELEMENTSOF(fds); i++) {
                fds[i] = raw_connect();
                n += fds[i] >= 0;
        }
        /* `bus` is the twentieth connection, and still works. */
        ck_assert_uint_eq(n, 19);
        create(bus, "a");
        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                if (fds[i] >= 0)
                        close(fds[i]);
        ck_assert_happens((fds[0] = raw_connect()) >= 0);
        close(fds[0]);
}
END_TEST

/* One uid gets as many connections as it may have. Its older connections go on working. */
START_TEST(ten_thousand_connections)
{
        struct rlimit limit;
        unsigned n = 10000, taken = 0;
        _cleanup_free_ int *fds = NULL;

        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
        limit.rlim_cur = limit.rlim_max;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        if (limit.rlim_cur < n + 100)
                n = (unsigned) limit.rlim_cur - 100;
        fds = calloc(n, sizeof *fds);
        ck_assert_ptr_nonnull(fds);
        for (unsigned i = 0; i < n; i++) {
                fds[i] = raw_connect();
                taken += fds[i] >= 0;
                if (i % 1000 == 0)
                        work(bus, 2);
        }
        ck_assert_uint_gt(taken, 100);
        /* `bus` is one of the 4096. */
        ck_assert_uint_lt(taken, 4096);
        work(bus, 20);
        for (unsigned i = 0; i < n; i++)
                if (fds[i] >= 0)
                        close(fds[i]);
        work(bus, 5);
}
END_TEST

static void connect_often(void *userdata)
{
        for (int i = 0; i < 100; i++) {
                _cleanup_bus_ sd_bus *b = connect_bus();

                if (i % 2)
                        create(b, "~/");
                else
                        sd_bus_call_method_async(b, NULL, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                        "Err", NULL, NULL, "s", "/");
        }
}

START_TEST(connections_that_come_and_go)
{
        pid_t pids[4];

        OK(bus, "Create", "sa{sv}", "~", 1, "open", "b", 1);
        for (size_t i = 0; i < ELEMENTSOF(pids); i++)
                pids[i] = spawn(connect_often, NULL);
        for (size_t i = 0; i < ELEMENTSOF(pids); i++)
                wait_for(pids[i]);
        ck_assert_uint_eq(count_listed(bus, "~"), 201);
}
END_TEST

/* A sender makes more calls than the daemon keeps while it does not know the sender. Their order stays. */
struct answers {
        unsigned good, bad;
        int last;
};

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct answers *a = userdata;

        if (sd_bus_message_is_method_error(m, NULL))
                a->bad++;
        else
                a->good++;
        return 0;
}

START_TEST(a_burst_before_the_first_answer)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        struct answers a = {};
        char path[32];

        create(bus, "burst");
        for (int i = 0; i < 200; i++) {
                snprintf(path, sizeof path, i % 2 ? "burst/%d/below" : "burst/%d", i / 2);
                ck_assert_int_ge(sd_bus_call_method_async(b, NULL, CTXD_BUS_NAME, CTXD_OBJECT,
                                                 CTXD_MANAGER_INTERFACE, "Create", on_answer, &a, "sa{sv}",
                                                 path, 0),
                                0);
        }
        for (int i = 0; a.good + a.bad < 200; i++) {
                int r = sd_bus_process(b, NULL);

                ck_assert_int_ge(r, 0);
                ck_assert_int_lt(i, 100000);
                if (r == 0)
                        sd_bus_wait(b, 1000000);
        }
        /* Each child was asked for after its parent. In another order it would have been refused. */
        ck_assert_uint_eq(a.bad, 0);
        ck_assert_uint_eq(count_listed(bus, "burst"), 201);
}
END_TEST

/* The daemon says so and ends, however far it has come. */
START_TEST(too_few_descriptors_to_start)
{
        for (world.table = 4; world.table < 10; world.table++) {
                int status;

                world_prepare("", NULL);
                daemon_launch(&world.daemon);
                ck_assert(!daemon_becomes_ready(&world.daemon));
                ck_assert_int_eq(waitpid(world.daemon.pid, &status, 0), world.daemon.pid);
                ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 1, "with %u: wait status %d",
                                world.table, status);
                directory_remove(world.daemon.directory);
                world.daemon.directory[0] = '\0';
        }
}
END_TEST

Suite *suite_crowd(void)
{
        const TTest *const starts[] = {too_few_descriptors_to_start, NULL};
        Suite *s = suite_create("crowd");

        ADD_TESTS(s, "crowd", start_retaining, connections_that_come_and_go, a_burst_before_the_first_answer);
        if (world.transport != TRANSPORT_DIRECT)
                return s;
        ADD_TESTS(s, "crowd", start_retaining, a_thousand_connections, a_thousand_connections_at_once,
                        ten_thousand_connections);
        ADD_TESTS(s, "few", start_few_connections, connections_have_a_limit);
        add_case(s, "start", starts);
        return s;
}
