/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "proto/wire.h"
#include "tests/harness/suite.h"

/* Messages that are made and read by hand: what is malformed is refused, and read nowhere beyond its end,
 * which the address sanitizer sees. That sd-bus understands them is what tests/lib/shared shows. */

static uint8_t *make(const char *types, size_t *ret_size)
{
        struct wire w = {.data = calloc(1, 1024), .size = 1024};

        wire_put_call(&w, &(struct wire_call){.destination = "org.ctxd1",
                                          .path = "/org/ctxd1",
                                          .interface = "org.ctxd1.Manager",
                                          .member = "Cancel",
                                          .types = types,
                                          .text = "some/path#7",
                                          .serial = 9});
        ck_assert(!w.is_over);
        *ret_size = w.at;
        return w.data;
}

static void read_all(struct wire_message *m)
{
        (void) wire_get_string(&m->body);
        (void) wire_get_u32(&m->body);
        (void) wire_get_u64(&m->body);
        (void) wire_get_string(&m->body);
}

START_TEST(what_is_written_can_be_read)
{
        struct wire_message m;
        size_t size;
        uint8_t *data = make("ss", &size);

        ck_assert_uint_eq(wire_size(data, 15), 0);
        ck_assert_uint_eq(wire_size(data, 16), size);
        ck_assert(wire_read(data, size, &m));
        ck_assert(!m.is_answer);
        ck_assert_str_eq(m.types, "ss");
        ck_assert_str_eq(wire_get_string(&m.body), "some/path#7");
        ck_assert_str_eq(wire_get_string(&m.body), "");
        ck_assert(!m.body.is_over);
        ck_assert_uint_eq(wire_get_u64(&m.body), 0);
        ck_assert(m.body.is_over);
        free(data);
}
END_TEST

/* A length that is too large, an end that is none, an end within. */
START_TEST(a_text_that_is_none)
{
        for (int i = 0; i < 3; i++) {
                struct wire_message m;
                size_t size;
                uint8_t *data = make("s", &size);

                ck_assert(wire_read(data, size, &m));
                if (i == 0)
                        memcpy(m.body.data, &(uint32_t){0x7fffffff}, 4);
                else
                        m.body.data[i == 1 ? size - 1 - (size_t) (m.body.data - data) : 6] =
                                        i == 1 ? 'x' : '\0';
                ck_assert_str_eq(wire_get_string(&m.body), "");
                ck_assert(m.body.is_over);
                free(data);
        }
}
END_TEST

START_TEST(options_are_aligned_behind_a_text_of_any_length)
{
        for (size_t n = 0; n <= 8; n++) {
                uint8_t data[256];
                struct wire w = {.data = data, .size = sizeof data};
                struct wire_message m;
                size_t begin;

                wire_begin_call(&w, &(struct wire_call){.destination = "org.ctxd1",
                                                    .path = "/org/ctxd1",
                                                    .interface = "org.ctxd1.Manager",
                                                    .member = "Create",
                                                    .types = "sa{sv}",
                                                    .n_fds = 1});
                wire_put_string(&w, "12345678" + 8 - n);
                wire_open_options(&w);
                wire_put_option(&w, "a", "t");
                wire_put_u64(&w, 7);
                wire_close_options(&w);
                wire_end_call(&w);
                ck_assert(!w.is_over);
                ck_assert(wire_read(data, w.at, &m));
                ck_assert_uint_eq(strlen(wire_get_string(&m.body)), n);
                ck_assert_uint_eq(wire_get_u32(&m.body), 24); /* from the first entry on */
                begin = (m.body.at + 7) / 8 * 8;
                ck_assert_uint_eq(m.body.size, begin + 24);
                m.body.at = begin;
                ck_assert_str_eq(wire_get_string(&m.body), "a");
                m.body.at = begin + 16;
                ck_assert_uint_eq(wire_get_u64(&m.body), 7);
        }
}
END_TEST

START_TEST(there_is_no_room)
{
        size_t size;
        uint8_t *data = make("sb", &size);

        for (size_t n = 0; n < size; n++) {
                struct wire w = {.data = malloc(n + 1), .size = n};

                wire_put_call(&w, &(struct wire_call){.destination = "org.ctxd1",
                                                  .path = "/org/ctxd1",
                                                  .interface = "org.ctxd1.Manager",
                                                  .member = "Cancel",
                                                  .types = "sb",
                                                  .text = "some/path#7"});
                ck_assert(w.is_over);
                free(w.data);
        }
        free(data);
}
END_TEST

START_TEST(any_byte_may_be_wrong)
{
        size_t size;
        uint8_t *data = make("ss", &size);

        for (size_t i = 0; i < size; i++)
                for (unsigned value = 0; value < 256; value++) {
                        uint8_t *copy = malloc(size);
                        struct wire_message m;

                        memcpy(copy, data, size);
                        copy[i] = (uint8_t) value;
                        if (wire_read(copy, size, &m))
                                read_all(&m);
                        free(copy);
                }
        free(data);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {what_is_written_can_be_read, a_text_that_is_none,
                        options_are_aligned_behind_a_text_of_any_length, there_is_no_room,
                        any_byte_may_be_wrong, NULL};

        return run_tests("wire", tests);
}
