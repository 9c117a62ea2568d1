/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Clients that do not read, that read late, or that write in pieces. Only they themselves wait for that. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "harness.h"
#include "raw.h"

#define MANAGER CTXD_OBJECT, CTXD_MANAGER_INTERFACE

/* Signals pile up for a client that subscribed and does not read. Others are served. In the end the daemon
 * closes that connection. */
START_TEST(a_subscriber_that_never_reads)
{
        _cleanup_free_ char *log = NULL;
        unsigned before = settled_fds();
        char name[128];
        struct raw m;
        int fd = raw_connect(), type, n = 0;

        raw_begin(&m, 1, MANAGER, "Subscribe", "s");
        raw_text(&m, "/");
        raw_end(&m);
        raw_write(fd, m.bytes, m.n);
        ck_assert_int_eq(raw_read(fd, name), 2);

        create(bus, "flood");
        for (int i = 0; i < 20000; i++)
                OK(bus, "Create", "sa{sv}", "flood/", 0);
        expect_fds(before); /* its connection has been closed */
        log = daemon_log();
        ck_assert_ptr_nonnull(strstr(log, "does not read its replies"));
        ck_assert_ptr_null(strstr(log, "No memory is left"));
        ck_assert(cancel(bus, "flood", "still here"));
        while ((type = raw_read(fd, name)) == 4)
                n++;
        ck_assert_int_eq(type, 0);
        ck_assert_int_gt(n, 100);
        ck_assert_int_lt(n, 5000); /* what the socket held */
        close(fd);
}
END_TEST

/* It asks for the longest answer again and again and reads none. What the daemon keeps for it is limited,
 * and when it reads in the end, all answers come. */
START_TEST(a_caller_that_never_reads)
{
        const struct timeval soon = {.tv_sec = 1};
        /* With a large buffer of its own, the kernel would take all that it sends. */
        const int little = 64 * 1024;
        int fd = raw_connect(), sent = 0;
        char name[128];
        struct raw m;

        create(bus, "many");
        for (int i = 0; i < 2000; i++)
                OK(bus, "Create", "sa{sv}", "many/", 0);
        ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &little, sizeof little), 0);
        ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon), 0);
        raw_begin(&m, 1, MANAGER, "List", "ssu");
        raw_text(&m, "/");
        raw_text(&m, "");
        raw_u32(&m, 0);
        raw_end(&m);
        /* The daemon stops reading at some point. */
        for (; sent < 5000; sent++)
                if (send(fd, m.bytes, m.n, MSG_NOSIGNAL) != (ssize_t) m.n)
                        break;
        ck_assert_int_lt(sent, 5000);
        ck_assert(cancel(bus, "many", "still here"));
        for (; sent > 0; sent--)
                ck_assert_int_eq(raw_read(fd, name), 2);
        close(fd);
}
END_TEST

static unsigned long daemon_kilobytes(void)
{
        char path[32], line[128];
        unsigned long kilobytes = 0;
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/status", world.daemon.pid);
        f = fopen(path, "re");
        ck_assert_ptr_nonnull(f);
        while (fgets(line, sizeof line, f))
                if (sscanf(line, "VmRSS: %lu", &kilobytes) == 1)
                        break;
        fclose(f);
        return kilobytes;
}

/* Many connections each want one long answer, and none of them reads. The daemon keeps only some answers at a
 * time, and begins with the next ones when those were read. */
START_TEST(a_crowd_that_never_reads)
{
        unsigned long before;
        struct raw m;
        int fds[300];

        create(bus, "many");
        for (int i = 0; i < 10000; i++)
                OK(bus, "Create", "sa{sv}", "many/", 0);
        before = daemon_kilobytes();
        raw_begin(&m, 1, MANAGER, "List", "ssu");
        raw_text(&m, "/");
        raw_text(&m, "");
        raw_u32(&m, 0);
        raw_end(&m);
        for (size_t i = 0; i < ELEMENTSOF(fds); i++) {
                fds[i] = raw_connect();
                ck_assert_int_ge(fds[i], 0);
                raw_write(fds[i], m.bytes, m.n);
        }
        ck_assert_happens(process_sleeps(world.daemon.pid, 0));
        ck_assert_uint_lt(daemon_kilobytes(), before + 100 * 1024);
        for (size_t i = 0; i < ELEMENTSOF(fds); i++) {
                char name[128];

                ck_assert_int_eq(raw_read(fds[i], name), 2);
                close(fds[i]);
        }
        work(bus, 5);
}
END_TEST

/* A client sends more calls than the daemon reads ahead, and reads the answers late. No answer is lost. */
START_TEST(a_caller_that_reads_late)
{
        int fd = raw_connect(), n = 0;
        char name[128];
        struct raw m;

        create(bus, "a");
        raw_begin(&m, 1, MANAGER, "Err", "s");
        raw_text(&m, "a");
        raw_end(&m);
        for (; n < 500; n++)
                raw_write(fd, m.bytes, m.n);
        for (; n > 0; n--)
                ck_assert_int_eq(raw_read(fd, name), 2);
        close(fd);
}
END_TEST

/* Two messages in one write, one message in many writes, and a call without an answer. */
START_TEST(messages_in_pieces)
{
        struct raw m, two;
        char name[128];
        int fd = raw_connect();

        create(bus, "a");
        raw_begin(&m, 1, MANAGER, "Err", "s");
        raw_text(&m, "a");
        raw_end(&m);
        for (size_t i = 0; i < m.n; i++)
                raw_write(fd, m.bytes + i, 1);
        ck_assert_int_eq(raw_read(fd, name), 2);
        raw_begin(&two, 2, MANAGER, "Current", "");
        raw_end(&two);
        raw_align(&m, 8);
        memcpy(m.bytes + m.n, two.bytes, two.n);
        /* A message ends with its body: there is no padding after it. */
        raw_begin(&m, 1, MANAGER, "Current", "");
        raw_end(&m);
        memcpy(m.bytes + m.n, two.bytes, two.n);
        raw_write(fd, m.bytes, m.n + two.n);
        ck_assert_int_eq(raw_read(fd, name), 2);
        ck_assert_int_eq(raw_read(fd, name), 2);

        raw_begin(&m, 3, MANAGER, "Cancel", "ss");
        raw_text(&m, "a");
        raw_text(&m, "");
        raw_end(&m);
        m.bytes[2] = 1; /* no reply expected */
        raw_write(fd, m.bytes, m.n);
        raw_begin(&m, 4, MANAGER, "Current", "");
        raw_end(&m);
        raw_write(fd, m.bytes, m.n);
        ck_assert_int_eq(raw_read(fd, name), 2); /* of Current */
        ck_assert_int_eq(code_of(bus, "a"), ECANCELED);
        close(fd);
}
END_TEST

/* A peer that knows that the connection is direct, and does not send Hello. sd-bus is one. */
START_TEST(a_peer_without_hello)
{
        sd_bus *b;

        ck_assert_int_ge(sd_bus_new(&b), 0);
        ck_assert_int_ge(sd_bus_set_address(b, world.daemon.address), 0);
        ck_assert_int_ge(sd_bus_negotiate_fds(b, 1), 0);
        ck_assert_int_ge(sd_bus_start(b), 0);
        create(b, "a");
        int fd = done_handle(b, "a");
        cancel(b, "a", "");
        ck_assert(is_readable(fd));
        close(fd);
        call_fails(HERE, false, b, SD_BUS_ERROR_ACCESS_DENIED, "/org/freedesktop/DBus",
                        "org.freedesktop.DBus", "RequestName", "su", "org.ctxd1", 0);
        call_fails(HERE, false, b, SD_BUS_ERROR_NAME_HAS_NO_OWNER, "/org/freedesktop/DBus",
                        "org.freedesktop.DBus", "GetNameOwner", "s", "org.example.nobody");
        sd_bus_flush_close_unref(b);
}
END_TEST

/* The same on a bus, where the broker keeps the queue. */
static int count_signal(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        ++*(unsigned *) userdata;
        return 0;
}

START_TEST(a_lazy_subscriber_on_any_bus)
{
        _cleanup_bus_ sd_bus *lazy = connect_bus();
        unsigned n = 0;

        OK(lazy, "Subscribe", "s", "/");
        create(bus, "flood");
        for (int i = 0; i < 2000; i++)
                OK(bus, "Create", "sa{sv}", "flood/", 0);
        ck_assert(cancel(bus, "flood", "still here"));
        ck_assert_int_ge(sd_bus_add_filter(lazy, NULL, count_signal, &n), 0);
        OK(lazy, "Err", "s", "flood");
        while (sd_bus_process(lazy, NULL) > 0)
                ;
        ck_assert_uint_ge(n, 2002);
}
END_TEST

#define ROWS 5000
#define LABEL 120
#define LISTS 4

static unsigned listed;
static bool told;

static int on_list(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        ck_assert(!sd_bus_message_is_method_error(m, NULL));
        listed++;
        return 1;
}

static int on_told(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        told = true;
        return 0;
}

static void run_until(const bool *what, unsigned lists)
{
        while ((what && !*what) || listed < lists) {
                int r = sd_bus_process(bus, NULL);

                ck_assert_int_ge(r, 0);
                if (r == 0)
                        ck_assert_int_gt(sd_bus_wait(bus, WIDE_SEC * UINT64_C(1000000)), 0);
        }
}

static void stop(pid_t pid)
{
        ck_assert_int_eq(kill(pid, SIGSTOP), 0);
        ck_assert_happens(task_state(pid, pid) == 'T');
}

static sd_bus *direct_with_rows(void)
{
        char address[128], path[160] = "rows/";
        sd_bus *b;

        snprintf(address, sizeof address, "unix:path=%s%s/bus", world.daemon.directory,
                        world.transport == TRANSPORT_DIRECT ? "" : "/ctxd");
        b = bus_connect(address, true);
        create(b, "rows");
        for (int i = 0; i < ROWS; i++) {
                snprintf(path, sizeof path, "rows/%0*d", LABEL, i);
                create(b, path);
        }
        return b;
}

/* The daemon has one connection to a bus. Here long replies wait for a bus that does not take them, and then
 * the daemon has something short to say. */
START_TEST(law48_what_is_short_overtakes_what_is_long)
{
        _cleanup_bus_ sd_bus *direct = NULL;

        if (world.transport == TRANSPORT_DIRECT)
                return;
        direct = direct_with_rows();
        ck_assert_int_ge(sd_bus_match_signal(bus, NULL, NULL, NULL, CTXD_MANAGER_INTERFACE, "ContextDone",
                                         on_told, NULL),
                        0);
        OK(bus, "Subscribe", "s", "told");
        create(direct, "told");
        stop(world.daemon.pid);
        for (int i = 0; i < LISTS; i++)
                ck_assert_int_ge(sd_bus_call_method_async(bus, NULL, CTXD_BUS_NAME, CTXD_OBJECT,
                                                 CTXD_MANAGER_INTERFACE, "List", on_list, NULL, "ssu", "rows",
                                                 "", 0),
                                0);
        ck_assert_int_ge(sd_bus_flush(bus), 0);
        ck_assert_happens(process_sleeps(world.bus.pid, 0)); /* all are in the daemon's socket */
        stop(world.bus.pid);
        kill(world.daemon.pid, SIGCONT);
        ck_assert_happens(process_sleeps(world.daemon.pid, 0));
        ck_assert(cancel(direct, "told", ""));
        ck_assert_happens(process_sleeps(world.daemon.pid, 0));
        kill(world.bus.pid, SIGCONT);
        run_until(&told, 0);
        ck_assert_uint_le(listed, 1);
        run_until(NULL, LISTS);
}
END_TEST

/* -- What is read late is what was sent: the daemon drops the pages of a reply while it sends it. */

static void expect_rows(sd_bus_message *m)
{
        const char *path, *state, *cause;
        bool seen[ROWS] = {};
        unsigned n = 0;
        uint64_t id;
        int i;

        ck_assert_int_gt(sd_bus_message_enter_container(m, 'a', "(ststts)"), 0);
        while (sd_bus_message_read(m, "(ststts)", &path, &id, &state, NULL, NULL, &cause) > 0) {
                ck_assert_uint_gt(id, 0);
                ck_assert_str_eq(state, "active");
                ck_assert_str_eq(cause, "");
                if (strcmp(path, "rows") == 0)
                        continue;
                ck_assert_uint_eq(strlen(path), strlen("rows/") + LABEL);
                ck_assert_int_eq(sscanf(path, "rows/%d", &i), 1);
                ck_assert(i >= 0 && i < ROWS && !seen[i]);
                seen[i] = true;
                n++;
        }
        ck_assert_uint_eq(n, ROWS);
}

static int on_rows(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        expect_rows(m);
        return on_list(m, userdata, error);
}

/* Each time nothing more fits into the socket. */
static void run_slowly_until(unsigned lists)
{
        while (listed < lists) {
                ck_assert_happens(process_sleeps(world.daemon.pid, 0));
                if (sd_bus_process(bus, NULL) == 0)
                        ck_assert_int_gt(sd_bus_wait(bus, WIDE_SEC * UINT64_C(1000000)), 0);
        }
}

START_TEST(a_long_reply_that_is_read_late)
{
        _cleanup_bus_ sd_bus *direct = direct_with_rows();

        for (int i = 0; i < LISTS; i++)
                ck_assert_int_ge(sd_bus_call_method_async(bus, NULL, CTXD_BUS_NAME, CTXD_OBJECT,
                                                 CTXD_MANAGER_INTERFACE, "List", on_rows, NULL, "ssu", "rows",
                                                 "", 0),
                                0);
        run_slowly_until(LISTS);
}
END_TEST

Suite *suite_lazy(void)
{
        Suite *s = suite_create("lazy");

        ADD_TESTS(s, "lazy", start_retaining, a_lazy_subscriber_on_any_bus, a_long_reply_that_is_read_late,
                        law48_what_is_short_overtakes_what_is_long);
        if (world.transport == TRANSPORT_DIRECT)
                ADD_TESTS(s, "lazy", start_retaining, a_subscriber_that_never_reads,
                                a_caller_that_never_reads, a_crowd_that_never_reads, a_caller_that_reads_late,
                                messages_in_pieces, a_peer_without_hello);
        return s;
}
