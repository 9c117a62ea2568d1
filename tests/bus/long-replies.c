/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* All that goes to a bus is in one queue, in which others wait behind long replies (law 48). */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "foreign.h"
#include "harness.h"

#define VALUE_BYTES 60000
#define PACE 4 /* bytes in a microsecond */
#define PAUSE_USEC (VALUE_BYTES / PACE)
#define REPLIES 50
#define SHARED_USEC 1000000

static void call_for_ever(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        const int *ready = userdata;

        for (unsigned i = 0;; i++) {
                FAILS(b, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "nobody");
                if (i == 0)
                        ck_assert_int_eq(write(*ready, "", 1), 1);
        }
}

/* How long so many long replies take. */
static uint64_t read_values(sd_bus *b)
{
        uint64_t begin = now_monotonic_usec();

        for (unsigned i = 0; i < REPLIES; i++) {
                _cleanup_message_ sd_bus_message *reply = CALL(b, "Values", "s", "long");
                const char *key, *value;

                ck_assert_int_gt(sd_bus_message_enter_container(reply, 'a', "{ss}"), 0);
                ck_assert_int_gt(sd_bus_message_read(reply, "{ss}", &key, &value), 0);
                ck_assert_uint_eq(strlen(value), VALUE_BYTES);
        }
        return now_monotonic_usec() - begin;
}

START_TEST(law48_long_replies_leave_the_bus_to_others)
{
        _cleanup_free_ char *value = malloc(VALUE_BYTES + 1);
        uint64_t beside;
        int ready[2];
        pid_t pid;
        char byte;

        memset(value, 'x', VALUE_BYTES);
        value[VALUE_BYTES] = '\0';
        OK(bus, "Create", "sa{sv}", "long", 1, "values", "a{ss}", 1, "org.example.key", value);
        ck_assert_int_eq(pipe(ready), 0);
        pid = spawn_as(BOB, call_for_ever, &ready[1]);
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);
        beside = read_values(bus);
        end_process(pid);
        ck_assert_uint_ge(beside, (REPLIES - 1) * PAUSE_USEC);
        /* Who is alone need not wait. */
        nap(SHARED_USEC);
        ck_assert_happens(read_values(bus) < (REPLIES - 1) * PAUSE_USEC);
        close(ready[0]);
        close(ready[1]);
}
END_TEST

void add_long_replies(Suite *s)
{
        ADD_TESTS(s, "long-replies", start_plain, law48_long_replies_leave_the_bus_to_others);
}
