/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* All that goes to a bus is in one queue, in which others wait behind long replies (law 48). */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "foreign.h"
#include "harness.h"

#define VALUE_BYTES 60000
#define PACE 4 /* bytes in a microsecond */
#define PAUSE_USEC (VALUE_BYTES / PACE)
#define REPLIES 50
#define SHARED_USEC 1000000
#define SOON_USEC 3000000

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

static void read_value(sd_bus *b, const char *path)
{
        _cleanup_message_ sd_bus_message *reply = CALL(b, "Values", "s", path);
        const char *key, *value;

        ck_assert_int_gt(sd_bus_message_enter_container(reply, 'a', "{ss}"), 0);
        ck_assert_int_gt(sd_bus_message_read(reply, "{ss}", &key, &value), 0);
        ck_assert_uint_eq(strlen(value), VALUE_BYTES);
}

/* How long so many long replies take. */
static uint64_t read_values_of(sd_bus *b, const char *path, unsigned n)
{
        uint64_t begin = now_monotonic_usec();

        for (unsigned i = 0; i < n; i++)
                read_value(b, path);
        return now_monotonic_usec() - begin;
}

static uint64_t read_values(sd_bus *b, unsigned n)
{
        return read_values_of(b, "long", n);
}

static void read_for_ever(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        const int *ready = userdata;

        for (;;) {
                read_value(b, "long");
                ck_assert_int_eq(write(*ready, "", 1), 1);
        }
}

static void create_long_of(sd_bus *b, const char *path)
{
        _cleanup_free_ char *value = malloc(VALUE_BYTES + 1);

        memset(value, 'x', VALUE_BYTES);
        value[VALUE_BYTES] = '\0';
        OK(b, "Create", "sa{sv}", path, 1, "values", "a{ss}", 1, "org.example.key", value);
}

static void create_long(void)
{
        create_long_of(bus, "long");
}

/* Goes on when that process has begun, and gives what it writes. */
static pid_t begin_heard(uid_t uid, void (*fn)(void *userdata), int *ret_fd)
{
        int ready[2];
        char byte;
        pid_t pid;

        ck_assert_int_eq(pipe(ready), 0);
        pid = spawn_as(uid, fn, &ready[1]);
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);
        close(ready[1]);
        *ret_fd = ready[0];
        return pid;
}

static pid_t begin(uid_t uid, void (*fn)(void *userdata))
{
        pid_t pid;
        int fd;

        pid = begin_heard(uid, fn, &fd);
        close(fd);
        return pid;
}

START_TEST(law48_long_replies_leave_the_bus_to_others)
{
        uint64_t beside;
        pid_t pid;

        create_long();
        pid = begin(BOB, call_for_ever);
        beside = read_values(bus, REPLIES);
        end_process(pid);
        ck_assert_uint_ge(beside, (REPLIES - 1) * PAUSE_USEC);
        /* Who is alone need not wait. */
        nap(SHARED_USEC);
        ck_assert_happens(read_values(bus, REPLIES) < (REPLIES - 1) * PAUSE_USEC);
}
END_TEST

/* Two others: so several users call, also while one waits. */
static void begin_others(pid_t ret_pids[2])
{
        ret_pids[0] = begin(ALICE, call_for_ever);
        ret_pids[1] = begin(BOB, call_for_ever);
}

static void end_others(const pid_t pids[2])
{
        end_process(pids[0]);
        end_process(pids[1]);
}

/* So many pauses would be 15 seconds. */
START_TEST(what_one_who_was_alone_has_read_is_not_waited_for)
{
        pid_t others[2];
        uint64_t usec;

        create_long();
        (void) read_values(bus, 1000);
        begin_others(others);
        usec = read_values(bus, 1);
        end_others(others);
        ck_assert_uint_lt(usec, SOON_USEC);
}
END_TEST

static void read_alone(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        create_long_of(b, "~/long");
        ck_assert_uint_lt(read_values_of(b, "~/long", REPLIES), (REPLIES - 1) * PAUSE_USEC);
}

START_TEST(who_calls_a_second_after_another_is_alone)
{
        OK(bus, "Create", "sa{sv}", "any", 0);
        nap(SHARED_USEC);
        run_as(BOB, read_alone, NULL);
}
END_TEST

START_TEST(a_later_call_of_the_same_user_does_not_come_first)
{
        int fd, before, after;
        pid_t others[2], own;

        create_long();
        begin_others(others);
        own = begin_heard(getuid(), read_for_ever, &fd);
        ck_assert_int_eq(ioctl(fd, FIONREAD, &before), 0);
        (void) read_values(bus, REPLIES);
        ck_assert_int_eq(ioctl(fd, FIONREAD, &after), 0);
        end_process(own);
        end_others(others);
        close(fd);
        ck_assert_int_ge(after - before, REPLIES / 4);
}
END_TEST

void add_long_replies(Suite *s)
{
        ADD_TESTS(s, "long-replies", start_plain, law48_long_replies_leave_the_bus_to_others,
                        what_one_who_was_alone_has_read_is_not_waited_for,
                        who_calls_a_second_after_another_is_alone,
                        a_later_call_of_the_same_user_does_not_come_first);
}
