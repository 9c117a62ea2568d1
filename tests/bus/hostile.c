/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Clients that break the protocol, or do not read, or come in crowds: that ends their own connection at most.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "harness.h"
#include "raw.h"

#define MANAGER CTXD_OBJECT, CTXD_MANAGER_INTERFACE

/* Sends it, and wants an error of that name; others are served meanwhile and after, and nothing has changed.
 */
static void expect_error(const struct raw *m, const char *wanted)
{
        _cleanup_free_ char *before = snapshot(bus), *after = NULL;
        char name[128];
        int fd = raw_connect(), type;

        raw_write(fd, m->bytes, m->n);
        type = raw_read(fd, name);
        ck_assert_int_eq(type, 3);
        ck_assert_str_eq(name, wanted);
        close(fd);
        after = snapshot(bus);
        ck_assert_str_eq(before, after);
}

/* It is hung up on, or answered by an error, but by no reply. */
static void expect_no_reply(const void *bytes, size_t n)
{
        _cleanup_free_ char *before = snapshot(bus), *after = NULL;
        char name[128];
        int fd = raw_connect();

        raw_write(fd, bytes, n);
        shutdown(fd, SHUT_WR);
        for (int type; (type = raw_read(fd, name)) != 0;)
                ck_assert_msg(type == 3, "%zu bytes, with %d at 1, were answered by %d", n,
                                ((const char *) bytes)[1], type);
        close(fd);
        after = snapshot(bus);
        ck_assert_str_eq(before, after);
}

START_TEST(text_that_is_no_utf8)
{
        static const char *const bad[] = {
                        "\xff", "\xc0\x80", "\xed\xa0\x80", "a\xc3", "\xf5\x80\x80\x80", "ok\x80"};
        struct raw m;

        create(bus, "a");
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                raw_begin(&m, 1, MANAGER, "Cancel", "ss");
                raw_text(&m, bad[i]);
                raw_text(&m, "");
                raw_end(&m);
                expect_error(&m, SD_BUS_ERROR_INVALID_ARGS);

                raw_begin(&m, 1, MANAGER, "Cancel", "ss");
                raw_text(&m, "a");
                raw_text(&m, bad[i]);
                raw_end(&m);
                expect_error(&m, SD_BUS_ERROR_INVALID_ARGS);

                raw_begin(&m, 1, MANAGER, "CancelCause", "sis");
                raw_text(&m, "a");
                raw_u32(&m, 5);
                raw_text(&m, bad[i]);
                raw_end(&m);
                expect_error(&m, SD_BUS_ERROR_INVALID_ARGS);

                /* An option, its name, and a value in it. */
                for (int where = 0; where < 2; where++) {
                        raw_begin(&m, 1, MANAGER, "Create", "sa{sv}");
                        raw_text(&m, "new");
                        raw_u32(&m, 0); /* the array's size, below */
                        size_t size_at = m.n - 4;
                        raw_align(&m, 8);
                        size_t start = m.n;
                        raw_text(&m, where == 0 ? bad[i] : "description");
                        raw_u8(&m, 1);
                        raw_u8(&m, 's');
                        raw_u8(&m, 0);
                        raw_text(&m, where == 0 ? "x" : bad[i]);
                        m.bytes[size_at] = (uint8_t) (m.n - start);
                        raw_end(&m);
                        expect_error(&m, SD_BUS_ERROR_INVALID_ARGS);
                }
        }
        for (size_t i = 0; i < 4; i++) {
                static const char *const members[] = {"Subscribe", "Err", "Values", "Done"};

                raw_begin(&m, 1, MANAGER, members[i], "s");
                raw_text(&m, "\xff\xfe");
                raw_end(&m);
                expect_error(&m, SD_BUS_ERROR_INVALID_ARGS);
        }
        raw_begin(&m, 1, MANAGER, "Err", "s");
        raw_string(&m, "a\0b", 3); /* an embedded NUL */
        raw_end(&m);
        expect_error(&m, SD_BUS_ERROR_INVALID_ARGS);
}
END_TEST

START_TEST(bodies_that_do_not_fit)
{
        struct raw m;

        create(bus, "a");
        raw_begin(&m, 1, MANAGER, "Cancel", "ss"); /* a string, where two are announced */
        raw_text(&m, "a");
        raw_end(&m);
        expect_error(&m, SD_BUS_ERROR_INVALID_ARGS);

        raw_begin(&m, 1, MANAGER, "Cancel", "ss"); /* one that is longer than the message */
        raw_text(&m, "a");
        raw_u32(&m, 0x7fffffff);
        raw_end(&m);
        expect_error(&m, SD_BUS_ERROR_INVALID_ARGS);

        raw_begin(&m, 1, MANAGER, "Cancel", "ss"); /* no NUL at its end */
        raw_text(&m, "a");
        raw_u32(&m, 3);
        for (int i = 0; i < 8; i++)
                raw_u8(&m, 'x');
        raw_end(&m);
        expect_error(&m, SD_BUS_ERROR_INVALID_ARGS);

        raw_begin(&m, 1, MANAGER, "Create", "sa{sv}"); /* an array that claims to be huge */
        raw_text(&m, "new");
        raw_u32(&m, 64 << 20);
        raw_end(&m);
        expect_error(&m, SD_BUS_ERROR_INVALID_ARGS);

        raw_begin(&m, 1, MANAGER, "Attach", "sha{sv}"); /* a descriptor that was not sent */
        raw_text(&m, "a");
        raw_u32(&m, 0);
        raw_u32(&m, 0);
        raw_align(&m, 8);
        raw_end(&m);
        expect_error(&m, SD_BUS_ERROR_INVALID_ARGS);
}
END_TEST

START_TEST(messages_that_are_none)
{
        struct raw m;

        create(bus, "a");
        raw_begin(&m, 1, MANAGER, "Cancel", "ss");
        raw_text(&m, "a");
        raw_text(&m, "");
        raw_end(&m);

        /* One field of the header after the other is spoilt. */
        static const struct {
                size_t at;
                uint8_t value;
        } spoilt[] = {{0, 'x'}, {0, 'B'}, {1, 0}, {1, 9}, {3, 3}, {4, 0xff}, {7, 0x7f}, {8, 0}, {12, 0xff},
                        {15, 0x7f}, {16, 99}, {18, 'z'}};
        for (size_t i = 0; i < ELEMENTSOF(spoilt); i++) {
                struct raw bad = m;

                bad.bytes[spoilt[i].at] = spoilt[i].value;
                expect_no_reply(bad.bytes, bad.n);
        }
        /* Half messages, of each length. */
        for (size_t n = 0; n < m.n; n += 3)
                expect_no_reply(m.bytes, n);

        static const char *const members[] = {"", "Can cel", "Cancel.x", "\xff", "9x"};
        for (size_t i = 0; i < ELEMENTSOF(members); i++) {
                raw_begin(&m, 1, MANAGER, members[i], "");
                raw_end(&m);
                expect_no_reply(m.bytes, m.n);
        }
        static const char *const paths[] = {"", "org", "//", "/org/", "/org/ctx d1", "/\xff"};
        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                raw_begin(&m, 1, paths[i], CTXD_MANAGER_INTERFACE, "Current", "");
                raw_end(&m);
                expect_no_reply(m.bytes, m.n);
        }
        static const char *const signatures[] = {"(", "a", "a{vs}", "a{s",
                        "((((((((((((((((((((((((((((((((((s))))))))))))))))))))))))))))))))))",
                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaas", "!"};
        for (size_t i = 0; i < ELEMENTSOF(signatures); i++) {
                raw_begin(&m, 1, MANAGER, "Err", signatures[i]);
                raw_u32(&m, 0);
                raw_end(&m);
                expect_no_reply(m.bytes, m.n);
        }
        EXPECT_ACTIVE(bus, "a");
}
END_TEST

START_TEST(nested_variants)
{
        struct raw m;

        raw_begin(&m, 1, MANAGER, "Create", "sa{sv}");
        raw_text(&m, "new");
        raw_u32(&m, 0);
        size_t size_at = m.n - 4;
        raw_align(&m, 8);
        size_t start = m.n;
        raw_text(&m, "description");
        for (int i = 0; i < 70; i++) {
                raw_u8(&m, 1);
                raw_u8(&m, 'v');
                raw_u8(&m, 0);
        }
        raw_u8(&m, 1);
        raw_u8(&m, 'y');
        raw_u8(&m, 0);
        raw_u8(&m, 1);
        m.bytes[size_at] = (uint8_t) ((m.n - start) & 0xff);
        m.bytes[size_at + 1] = (uint8_t) ((m.n - start) >> 8);
        raw_end(&m);
        expect_error(&m, SD_BUS_ERROR_INVALID_ARGS);
}
END_TEST

#define BYTES(text)                   \
        {                             \
                text, sizeof text - 1 \
        }

START_TEST(garbage_instead_of_authentication)
{
        static const struct {
                const char *bytes;
                size_t n;
        } garbage[] = {BYTES(""), BYTES("GET / HTTP/1.1\r\n\r\n"), BYTES("\0AUTH EXTERNAL 39393939\r\n"),
                        BYTES("\0AUTH ANONYMOUS\r\n"), BYTES("\0AUTH\r\nAUTH\r\nAUTH\r\n"),
                        BYTES("\0BEGIN\r\n"), BYTES("\0NEGOTIATE_UNIX_FD\r\nBEGIN\r\n"),
                        BYTES("\0DATA\r\nCANCEL\r\nERROR\r\n"), BYTES("\0AUTH EXTERNAL zz\r\n"),
                        BYTES("\0AUTH EXTERNAL"), BYTES("\x16\x03\x01\x02")};
        char *noise = malloc(200000);

        for (size_t i = 0; i < ELEMENTSOF(garbage); i++) {
                char answer[256];
                ssize_t n;
                int fd = connect_socket();

                ck_assert_int_ge(fd, 0);
                raw_write(fd, garbage[i].bytes, garbage[i].n);
                shutdown(fd, SHUT_WR);
                while ((n = recv(fd, answer, sizeof answer, 0)) > 0)
                        ck_assert_ptr_null(memmem(answer, (size_t) n, "OK ", 3));
                close(fd);
        }
        srand(1);
        for (int i = 0; i < 200000; i++)
                noise[i] = (char) rand();
        for (int i = 0; i < 20; i++) {
                int fd = connect_socket();

                raw_write(fd, noise + i * 1000, i % 2 ? 100000 : 700);
                close(fd);
        }
        memset(noise, 'A', 200000); /* a line without an end */
        noise[0] = '\0';
        int fd = connect_socket();
        raw_write(fd, noise, 200000);
        close(fd);
        free(noise);
        EXPECT_ACTIVE(bus, "/");
}
END_TEST

START_TEST(a_thousand_connections)
{
        for (int i = 0; i < 1000; i++) {
                int fd = connect_socket();

                ck_assert_int_ge(fd, 0);
                if (i % 3 == 1)
                        raw_write(fd, "\0AUTH EXTERNAL ", 15); /* hangs up in the middle */
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

/* Signals pile up for a client that subscribed and reads no more. Others are served, and in the end it is
 * dropped. */
START_TEST(a_subscriber_that_never_reads)
{
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
        for (int i = 0; i < 20000; i++) {
                _cleanup_message_ sd_bus_message *reply = CALL(bus, "Create", "sa{sv}", "flood/", 0);
        }
        expect_fds(before); /* its connection has been closed */
        ck_assert(cancel(bus, "flood", "still here"));
        while ((type = raw_read(fd, name)) == 4)
                n++;
        ck_assert_int_eq(type, 0);
        ck_assert_int_gt(n, 100);
        ck_assert_int_lt(n, 5000); /* what the socket held */
        close(fd);
}
END_TEST

/* It asks for the longest answer there is, again and again, and takes none: what waits for it is bounded, and
 * when it reads at last, all of it comes. */
START_TEST(a_caller_that_never_reads)
{
        const struct timeval soon = {.tv_sec = 1};
        int fd = raw_connect(), sent = 0;
        char name[128];
        struct raw m;

        create(bus, "many");
        for (int i = 0; i < 2000; i++) {
                _cleanup_message_ sd_bus_message *reply = CALL(bus, "Create", "sa{sv}", "many/", 0);
        }
        ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon), 0);
        raw_begin(&m, 1, MANAGER, "List", "ssu");
        raw_text(&m, "/");
        raw_text(&m, "");
        raw_u32(&m, 0);
        raw_end(&m);
        for (; sent < 5000; sent++) /* for as long as somebody reads */
                if (send(fd, m.bytes, m.n, MSG_NOSIGNAL) != (ssize_t) m.n)
                        break;
        ck_assert_int_lt(sent, 5000);
        ck_assert(cancel(bus, "many", "still here"));
        for (; sent > 0; sent--)
                ck_assert_int_eq(raw_read(fd, name), 2);
        close(fd);
}
END_TEST

/* More calls than are read ahead, from a client that reads the answers late: none is lost. */
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

/* Two messages in one write, one in many, and a call that wants no answer. */
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
        /* A message ends with its body: no padding between. */
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

/* Without Hello, as an sd-bus peer would come that knows it is a direct connection. */
START_TEST(a_peer_without_hello)
{
        sd_bus *b;

        ck_assert_int_ge(sd_bus_new(&b), 0);
        ck_assert_int_ge(sd_bus_set_address(b, world.address), 0);
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
        ck_assert_uint_eq(n, 19); /* and ours */
        create(bus, "a");         /* which is as good as ever */
        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                if (fds[i] >= 0)
                        close(fds[i]);
        for (int i = 0; i < WIDE_SEC * 50 && (fds[0] = raw_connect()) < 0; i++)
                usleep(20000);
        ck_assert_int_ge(fds[0], 0);
        close(fds[0]);
}
END_TEST

/* On a broker's bus, too, though it is the broker that has the queue. */
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
        for (int i = 0; i < 2000; i++) {
                _cleanup_message_ sd_bus_message *reply = CALL(bus, "Create", "sa{sv}", "flood/", 0);
        }
        ck_assert(cancel(bus, "flood", "still here"));
        ck_assert_int_ge(sd_bus_add_filter(lazy, NULL, count_signal, &n), 0);
        OK(lazy, "Err", "s", "flood");
        while (sd_bus_process(lazy, NULL) > 0)
                ;
        ck_assert_uint_ge(n, 2002);
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

/* More calls before the first answer than are set aside for a sender that is not known yet; in order. */
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
        /* Each child was asked for after its parent: out of order it would have been refused. */
        ck_assert_uint_eq(a.bad, 0);
        ck_assert_uint_eq(count_listed(bus, "burst"), 201);
}
END_TEST

Suite *suite_hostile(void)
{
        Suite *s = suite_create("hostile");

        ADD_TESTS(s, "crowd", start_retaining, a_lazy_subscriber_on_any_bus, connections_that_come_and_go,
                        a_burst_before_the_first_answer);
        if (world.transport != TRANSPORT_DIRECT)
                return s;
        ADD_TESTS(s, "hostile", start_retaining, text_that_is_no_utf8, bodies_that_do_not_fit,
                        messages_that_are_none, nested_variants, garbage_instead_of_authentication,
                        a_thousand_connections, a_thousand_connections_at_once, a_subscriber_that_never_reads,
                        a_caller_that_never_reads, a_caller_that_reads_late, messages_in_pieces,
                        a_peer_without_hello);
        ADD_TESTS(s, "few", start_few_connections, connections_have_a_limit);
        return s;
}
