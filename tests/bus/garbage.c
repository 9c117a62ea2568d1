/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Bytes that are not D-Bus, or that break its rules. At most they end the connection that they come from. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "harness.h"
#include "raw.h"

#define MANAGER CTXD_OBJECT, CTXD_MANAGER_INTERFACE

/* Sends it and expects an error of that name. Others are served meanwhile and after it, and nothing
 * changes. */
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

/* The daemon closes the connection or answers with an error, but never with a reply. */
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

        /* Spoils the fields of the header one after another. */
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
        /* Sends the first part of a message, in every length. */
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

/* What comes together is answered as it is one at a time: also behind the authentication, in the same
 * piece. */
START_TEST(calls_in_one_piece)
{
        static char piece[64 * 1024];
        char uid[16], line[256], name[128];
        size_t n = (size_t) sprintf(piece, "%cAUTH EXTERNAL ", '\0');
        int fd = connect_socket();
        struct raw m;

        raw_begin(&m, 1, MANAGER, "Err", "s");
        raw_text(&m, "/");
        raw_end(&m);
        snprintf(uid, sizeof uid, "%u", getuid());
        for (const char *p = uid; *p; p++)
                n += (size_t) sprintf(piece + n, "%02x", (unsigned) *p);
        n += (size_t) sprintf(piece + n, "\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n");
        for (int i = 0; i < 3; i++, n += m.n)
                memcpy(piece + n, m.bytes, m.n);
        raw_write(fd, piece, n);
        for (size_t lines = 0, i = 0; lines < 2;)
                if (recv(fd, line + i, 1, 0) == 1 && line[i++] == '\n')
                        lines++;
        for (int i = 0; i < 3; i++)
                ck_assert_int_eq(raw_read(fd, name), 2);

        for (int i = 0; i < 40; i++) {
                raw_write(fd, m.bytes, m.n);
                ck_assert_int_eq(raw_read(fd, name), 2);
        }
        for (n = 0; n < 100 * m.n; n += m.n)
                memcpy(piece + n, m.bytes, m.n);
        raw_write(fd, piece, n);
        for (int i = 0; i < 100; i++)
                ck_assert_int_eq(raw_read(fd, name), 2);
        close(fd);
}
END_TEST

Suite *suite_garbage(void)
{
        Suite *s = suite_create("garbage");

        if (world.transport == TRANSPORT_DIRECT)
                ADD_TESTS(s, "garbage", start_retaining, text_that_is_no_utf8, bodies_that_do_not_fit,
                                messages_that_are_none, nested_variants, garbage_instead_of_authentication,
                                calls_in_one_piece);
        return s;
}
