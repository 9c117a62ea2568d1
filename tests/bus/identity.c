/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who a client is. The kernel says so when the client connects. That counts also when the process becomes
 * another user later, or when it was only given the connection. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "harness.h"
#include "proto/state-page.h"

#define MANAGER CTXD_OBJECT, CTXD_MANAGER_INTERFACE

static void owner(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        int self = open_pidfd(getpid());

        OK(b, "Create", "sa{sv}", "~/owned", 1, "bind", "s", "caller");
        OK(b, "Create", "sa{sv}", "~/worked-for", 1, "attach", "h", self);
        _cleanup_message_ sd_bus_message *m = CALL(b, "Current", NULL);
        const char *path;
        READ(m, "s", &path);
        ck_assert_ptr_nonnull(strstr(path, "/worked-for#"));
        EXPECT_ACTIVE(b, "~/owned");
        close(done_handle(b, "~/owned"));
        close(self);
}

static void start_without_pidfds(void)
{
        world.no_pidfd = true;
        start_retaining();
}

static void start_limited(void)
{
        world_start("MaxHandlesPerUser=4\nRetainSec=10min\n", NULL);
}

START_TEST(a_process_is_known_without_a_pidfd)
{
        run_as(ALICE, owner, NULL);
        ck_assert_happens(code_of(bus, "user-1001/owned") != 0);
        EXPECT_ERR(bus, "user-1001/owned", CTXD_ERR_CANCELED, ECANCELED, ECANCELED, "owner exited");
        work(bus, 5);
}
END_TEST

/* A user who holds a connection starts a setuid program. The connection is still alice's, but the process
 * is root's. What it makes is charged to alice, and nothing is done for her that only root may. */
static void becomes_root(void *userdata)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_ sd_bus *b = NULL, *root = NULL;
        int fds[5], self;
        char path[16];

        ck_assert_int_eq(setresuid(ALICE, ALICE, 0), 0);
        b = connect_bus();
        OK(b, "Create", "sa{sv}", "~", 1, "open", "b", 1);
        ck_assert_int_eq(setresuid(0, 0, 0), 0);
        for (int i = 0; i < 5; i++) {
                snprintf(path, sizeof path, "~/%d", i);
                create(b, path);
                if (i == 4)
                        ck_assert_int_lt(sd_bus_call_method(b, CTXD_BUS_NAME, MANAGER, "Done", &error, NULL,
                                                         "s", path),
                                        0);
                else
                        fds[i] = done_handle(b, path);
        }
        ck_assert_str_eq(error.name, CTXD_ERROR_LIMITS_EXCEEDED);
        /* Nothing was charged to root. */
        close(done_handle(root = connect_bus(), "roots"));
        for (int i = 0; i < 4; i++)
                close(fds[i]);
        FAILS(b, CTXD_ERROR_ACCESS_DENIED, "Threads", "s", "~/0");
        self = open_pidfd(getpid());
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Attach", "sha{sv}", "~/0", self, 0);
        REFUSED(b, CTXD_ERROR_ACCESS_DENIED, "Create", "sa{sv}", "rootly", 0);
        FAILS(b, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "roots");
        close(self);
}

START_TEST(a_connection_stays_whose_it_was)
{
        create(bus, "roots");
        wait_for(spawn(becomes_root, NULL));
}
END_TEST

/* Alice has handles of root's contexts. They are full and blocking, so that a write would wait. */
static void fill_and_stay(void *userdata)
{
        const int *pipes = userdata;
        const uint64_t most = UINT64_MAX - 1;
        _cleanup_bus_ sd_bus *b = connect_bus();
        char path[32], byte;

        for (int i = 0; i < 3; i++) {
                snprintf(path, sizeof path, "shared/%d", i);
                int fd = done_handle(b, path);

                if (i != 1)
                        ck_assert_int_eq(write(fd, &most, sizeof most), sizeof most);
                /* It stays open. */
                ck_assert_int_eq(fcntl(fd, F_SETFL, 0), 0);
        }
        ck_assert_int_eq(write(pipes[1], "", 1), 1);
        ck_assert_int_eq(read(pipes[2], &byte, 1), 1);
}

static void be_alice_who_fills(void *userdata)
{
        run_as(ALICE, fill_and_stay, userdata);
}

START_TEST(handles_that_are_full_and_block)
{
        int pipes[4], fd;
        pid_t alice;
        char byte;

        ck_assert(pipe(pipes) == 0 && pipe(pipes + 2) == 0);
        OK(bus, "Create", "sa{sv}", "shared", 1, "mode", "u", 0744);
        create(bus, "shared/0");
        create(bus, "shared/1");
        create(bus, "shared/2");
        fd = done_handle(bus, "shared/1");
        alice = spawn(be_alice_who_fills, pipes);
        ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
        ck_assert(cancel(bus, "shared", "all of them"));
        ck_assert(is_readable(fd));
        work(bus, 20);
        ck_assert_int_eq(write(pipes[3], "", 1), 1);
        wait_for(alice);
        close(fd);
        for (int i = 0; i < 4; i++)
                close(pipes[i]);
}
END_TEST

Suite *suite_identity(void)
{
        Suite *s = suite_create("identity");

        ADD_TESTS(s, "limited", start_limited, a_connection_stays_whose_it_was,
                        handles_that_are_full_and_block);
        if (world.transport == TRANSPORT_DIRECT)
                ADD_TESTS(s, "pidfd", start_without_pidfds, a_process_is_known_without_a_pidfd);
        return s;
}
