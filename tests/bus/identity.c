/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who a client is. The kernel says so when the client connects. That counts also when the process becomes
 * another user later, or when it was only given the connection. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <string.h>
#include <sys/socket.h>

#include "harness.h"
#include "util/capability.h"
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

static uint64_t capabilities_of(pid_t pid, const char *key)
{
        char path[64], text[8192], *line;
        size_t n;
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/status", pid);
        f = fopen(path, "re");
        ck_assert_ptr_nonnull(f);
        n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
        text[n] = '\0';
        line = strstr(text, key);
        ck_assert_ptr_nonnull(line);
        return strtoull(line + strlen(key), NULL, 16);
}

/* Root's daemon keeps what its unit would give it. What it executes gets no more than a probe needs. */
START_TEST(the_daemon_gives_up_capabilities)
{
        const uint64_t own = CAPABILITY(KILL), probe = CAPABILITY(BPF) | CAPABILITY(PERFMON) |
                                                       CAPABILITY(SYS_PTRACE) | CAPABILITY(DAC_READ_SEARCH);
        pid_t heir;

        EXPECT_ACTIVE(bus, "/"); /* it serves */
        ck_assert_uint_eq(capabilities_of(world.daemon.pid, "\nCapPrm:") & ~own, 0);
        ck_assert_uint_eq(capabilities_of(world.daemon.pid, "\nCapEff:") & ~own, 0);
        ck_assert_uint_eq(capabilities_of(world.daemon.pid, "\nCapInh:"), 0);
        heir = child_with_name(world.daemon.pid, "ctxd-heir");
        ck_assert_int_gt(heir, 0);
        ck_assert_uint_eq(capabilities_of(heir, "\nCapPrm:"), 0);
        if (world.transport == TRANSPORT_DIRECT)
                ck_assert_uint_eq(capabilities_of(world.daemon.pid, "\nCapBnd:") & ~(own | probe), 0);
}
END_TEST

static uint64_t number_of(int fd)
{
        struct stat st;

        ck_assert_int_eq(fstat(fd, &st), 0);
        return st.st_ino;
}

static uint64_t thread_page(sd_bus *b, const char *path)
{
        _cleanup_message_ sd_bus_message *m = CALL(b, "Threads", "s", path);
        int page, kick;

        READ(m, "hh", &page, &kick);
        return number_of(page);
}

/* Law 5, in one process that has had two users, as it has once it has executed a setuid program. */
static void be_two(void *userdata)
{
        _cleanup_bus_ sd_bus *first = NULL, *second = NULL;
        _cleanup_close_ int of_first = -1, of_second = -1;
        uint64_t page;

        first = connect_bus();
        of_first = done_handle(first, "shared/0");
        page = thread_page(first, "shared/0");
        ck_assert_int_eq(setresuid(BOB, BOB, BOB), 0);
        second = connect_bus();
        of_second = done_handle(second, "shared/0");
        ck_assert_uint_ne(page, thread_page(second, "shared/0"));
        OK(first, "Undone", "s", "shared/0");
        ck_assert(cancel(second, "shared/0", ""));
        ck_assert(is_readable(of_second));
        ck_assert(!is_readable(of_first)); /* it was given up */
}

START_TEST(two_users_of_one_process)
{
        OK(bus, "Create", "sa{sv}", "shared", 1, "mode", "u", 0777);
        OK(bus, "Create", "sa{sv}", "shared/0", 1, "mode", "u", 0777);
        wait_for(spawn(be_two, NULL));
}
END_TEST

Suite *suite_identity(void)
{
        Suite *s = suite_create("identity");

        ADD_TESTS(s, "limited", start_limited, a_connection_stays_whose_it_was,
                        handles_that_are_full_and_block, the_daemon_gives_up_capabilities,
                        two_users_of_one_process);
        if (world.transport == TRANSPORT_DIRECT)
                ADD_TESTS(s, "pidfd", start_without_pidfds, a_process_is_known_without_a_pidfd);
        return s;
}
