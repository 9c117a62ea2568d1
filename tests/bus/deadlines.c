/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The laws of deadlines on the real clock. The tests judge the order of events, never how fast they are. */

#include <errno.h>
#include <stdio.h>

#include "harness.h"

#define HOUR UINT64_C(3600000000)

START_TEST(law10_the_earliest_deadline_counts)
{
        uint64_t now = now_boottime_usec();

        OK(bus, "Create", "sa{sv}", "p", 1, "deadline-usec", "t", now + HOUR);
        create(bus, "p/none");
        OK(bus, "Create", "sa{sv}", "p/later", 1, "deadline-usec", "t", now + 2 * HOUR);
        OK(bus, "Create", "sa{sv}", "p/earlier", 1, "deadline-usec", "t", now + HOUR / 2);
        OK(bus, "Create", "sa{sv}", "p/both", 2, "deadline-usec", "t", now + HOUR / 4, "timeout-usec", "t",
                        HOUR / 2);
        ck_assert_uint_eq(property_u64(bus, "p", "DeadlineUSec"), now + HOUR);
        ck_assert_uint_eq(property_u64(bus, "p/none", "DeadlineUSec"), now + HOUR);
        ck_assert_uint_eq(property_u64(bus, "p/later", "DeadlineUSec"), now + HOUR);
        ck_assert_uint_eq(property_u64(bus, "p/earlier", "DeadlineUSec"), now + HOUR / 2);
        ck_assert_uint_eq(property_u64(bus, "p/both", "DeadlineUSec"), now + HOUR / 4);
}
END_TEST

START_TEST(law10_a_deadlines_cause_counts_where_it_is_the_earlier)
{
        uint64_t now = now_boottime_usec();

        OK(bus, "Create", "sa{sv}", "p", 2, "deadline-usec", "t", now + HOUR, "cause", "(is)", EBUSY,
                        "the parent's");
        OK(bus, "Create", "sa{sv}", "p/later", 2, "deadline-usec", "t", now + 2 * HOUR, "cause", "(is)", EIO,
                        "its own");
        OK(bus, "Create", "sa{sv}", "p/past", 2, "timeout-usec", "t", UINT64_C(0), "cause", "(is)", EDOM,
                        "the child's");
        EXPECT_ERR(bus, "p/past", CTXD_ERR_DEADLINE, ETIMEDOUT, EDOM, "the child's");
        int fd = done_handle(bus, "p/later");
        /* The deadline is set only now: all contexts must exist before it passes, however slow the machine
         * is. */
        OK(bus, "Extend", "st", "p", now_boottime_usec() + 100000);
        ck_assert(becomes_readable(fd));
        close(fd);
        EXPECT_ERR(bus, "p", CTXD_ERR_DEADLINE, ETIMEDOUT, EBUSY, "the parent's");
        EXPECT_ERR(bus, "p/later", CTXD_ERR_DEADLINE, ETIMEDOUT, EBUSY, "the parent's");
        EXPECT_ERR(bus, "p/past", CTXD_ERR_DEADLINE, ETIMEDOUT, EDOM, "the child's");
        _cleanup_free_ char *path = property_string(bus, "p/later", "CausePath");
        ck_assert_int_eq(path[0] == 'p' && path[1] == '#', 1);
}
END_TEST

START_TEST(law11_a_passed_deadline_is_done_at_birth)
{
        static const uint64_t past[] = {0, 1};

        for (size_t i = 0; i < ELEMENTSOF(past); i++) {
                char path[8];

                snprintf(path, sizeof path, "d%zu", i);
                OK(bus, "Create", "sa{sv}", path, 1, "deadline-usec", "t", past[i]);
                EXPECT_ERR(bus, path, CTXD_ERR_DEADLINE, ETIMEDOUT, ETIMEDOUT, CTXD_ERR_DEADLINE);
                int fd = done_handle(bus, path);
                ck_assert(is_readable(fd));
                close(fd);
                ck_assert(!cancel(bus, path, "too late"));
        }
}
END_TEST

START_TEST(law12_a_deadline_is_never_early)
{
        uint64_t deadline = now_boottime_usec() + 400000;
        int fd;

        OK(bus, "Create", "sa{sv}", "d", 1, "deadline-usec", "t", deadline);
        fd = done_handle(bus, "d");
        for (;;) {
                int code = code_of(bus, "d");
                bool readable = is_readable(fd);
                uint64_t now = now_boottime_usec();

                if (now < deadline) {
                        ck_assert_int_eq(code, 0);
                        ck_assert(!readable);
                        continue;
                }
                break;
        }
        /* After the deadline everybody sees it, and a late cancel changes nothing. */
        ck_assert_int_eq(code_of(bus, "d"), ETIMEDOUT);
        ck_assert(!cancel(bus, "d", "too late"));
        EXPECT_ERR(bus, "d", CTXD_ERR_DEADLINE, ETIMEDOUT, ETIMEDOUT, CTXD_ERR_DEADLINE);
        ck_assert(becomes_readable(fd));
        close(fd);
        ck_assert_uint_ge(property_u64(bus, "d", "DoneUSec"), deadline);
}
END_TEST

START_TEST(law12_a_deadline_fires_while_nobody_asks)
{
        int fd;

        create(bus, "t");
        OK(bus, "Create", "sa{sv}", "t/d", 1, "timeout-usec", "t", UINT64_C(200000));
        create(bus, "t/d/child");
        fd = done_handle(bus, "t/d/child");
        ck_assert(becomes_readable(fd));
        close(fd);
        ck_assert_int_eq(code_of(bus, "t/d/child"), ETIMEDOUT);
        EXPECT_ACTIVE(bus, "t");
}
END_TEST

START_TEST(law13_a_cancel_before_the_deadline_is_a_cancel)
{
        uint64_t deadline = now_boottime_usec() + 500000;

        OK(bus, "Create", "sa{sv}", "d", 2, "deadline-usec", "t", deadline, "cause", "(is)", EIO, "late");
        if (!cancel(bus, "d", "in time")) {
                ck_assert_uint_ge(now_boottime_usec(), deadline); /* a very slow machine */
                return;
        }
        EXPECT_ERR(bus, "d", CTXD_ERR_CANCELED, ECANCELED, ECANCELED, "in time");
        while (now_boottime_usec() < deadline + 100000)
                usleep(50000);
        EXPECT_ERR(bus, "d", CTXD_ERR_CANCELED, ECANCELED, ECANCELED, "in time");
        ck_assert_uint_lt(property_u64(bus, "d", "DoneUSec"), deadline);
}
END_TEST

START_TEST(law14_extend_moves_a_deadline)
{
        uint64_t now = now_boottime_usec();

        OK(bus, "Create", "sa{sv}", "p", 1, "deadline-usec", "t", now + 3 * HOUR);
        OK(bus, "Create", "sa{sv}", "p/d", 1, "deadline-usec", "t", now + HOUR);
        create(bus, "p/d/follows");
        OK(bus, "Extend", "st", "p/d", now + 2 * HOUR);
        ck_assert_uint_eq(property_u64(bus, "p/d", "DeadlineUSec"), now + 2 * HOUR);
        ck_assert_uint_eq(property_u64(bus, "p/d/follows", "DeadlineUSec"), now + 2 * HOUR);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Extend", "st", "p/d", now + 4 * HOUR);
        REFUSED(bus, SD_BUS_ERROR_INVALID_ARGS, "Extend", "st", "p/d", UINT64_MAX);
        _cleanup_free_ char *object = object_of("p/d");
        OK_ON(bus, object, "Extend", "t", now + HOUR / 2);
        ck_assert_uint_eq(property_u64(bus, "p/d", "DeadlineUSec"), now + HOUR / 2);
        ck_assert_uint_eq(property_u64(bus, "p", "DeadlineUSec"), now + 3 * HOUR);

        /* A context at the top has no parent that limits its deadline. */
        OK(bus, "Extend", "st", "p", UINT64_MAX);
        ck_assert_uint_eq(property_u64(bus, "p", "DeadlineUSec"), UINT64_MAX);
        ck_assert_uint_eq(property_u64(bus, "p/d", "DeadlineUSec"), now + HOUR / 2);

        /* A deadline in the past ends the context at once. Then there is no deadline to move. */
        OK(bus, "Extend", "st", "p/d", UINT64_C(1));
        EXPECT_ERR(bus, "p/d", CTXD_ERR_DEADLINE, ETIMEDOUT, ETIMEDOUT, CTXD_ERR_DEADLINE);
        REFUSED(bus, CTXD_ERROR_ALREADY_DONE, "Extend", "st", "p/d", now + HOUR);
        cancel(bus, "p", "");
        REFUSED(bus, CTXD_ERROR_ALREADY_DONE, "Extend", "st", "p", now + HOUR);
}
END_TEST

/* A cause is for the deadline, whenever that is set. */
START_TEST(law14_an_extended_deadline_has_its_cause)
{
        OK(bus, "Create", "sa{sv}", "d", 1, "cause", "(is)", EIO, "late");
        EXPECT_ACTIVE(bus, "d");
        OK(bus, "Extend", "st", "d", UINT64_C(1));
        EXPECT_ERR(bus, "d", CTXD_ERR_DEADLINE, ETIMEDOUT, EIO, "late");
        OK(bus, "Create", "sa{sv}", "c", 1, "cause", "(is)", EIO, "late");
        ck_assert(cancel(bus, "c", ""));
        EXPECT_ERR(bus, "c", CTXD_ERR_CANCELED, ECANCELED, ECANCELED, CTXD_ERR_CANCELED);
}
END_TEST

START_TEST(law14_an_extended_deadline_does_not_fire_at_the_old_time)
{
        uint64_t old = now_boottime_usec() + 300000;
        int fd;

        OK(bus, "Create", "sa{sv}", "d", 1, "deadline-usec", "t", old);
        fd = done_handle(bus, "d");
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        if (sd_bus_call_method(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Extend", &error,
                            NULL, "st", "d", old + HOUR) < 0) {
                ck_assert_str_eq(error.name, CTXD_ERROR_ALREADY_DONE); /* a very slow machine */
                ck_assert_uint_ge(now_boottime_usec(), old);
                close(fd);
                return;
        }
        while (now_boottime_usec() < old + 200000)
                usleep(50000);
        EXPECT_ACTIVE(bus, "d");
        ck_assert(!is_readable(fd));
        OK(bus, "Extend", "st", "d", now_boottime_usec() + 100000);
        ck_assert(becomes_readable(fd));
        close(fd);
}
END_TEST

START_TEST(law15_a_timeout_that_overflows_is_none)
{
        static const uint64_t none[] = {UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 1000000};

        for (size_t i = 0; i < ELEMENTSOF(none); i++) {
                char path[8];

                snprintf(path, sizeof path, "n%zu", i);
                OK(bus, "Create", "sa{sv}", path, 1, "timeout-usec", "t", none[i]);
                ck_assert_uint_eq(property_u64(bus, path, "DeadlineUSec"), UINT64_MAX);
                EXPECT_ACTIVE(bus, path);
        }
        OK(bus, "Create", "sa{sv}", "now", 1, "timeout-usec", "t", UINT64_C(0));
        ck_assert_int_eq(code_of(bus, "now"), ETIMEDOUT);
}
END_TEST

Suite *suite_deadlines(void)
{
        Suite *s = suite_create("deadlines");

        ADD_TESTS(s, "deadlines", start_retaining, law10_the_earliest_deadline_counts,
                        law10_a_deadlines_cause_counts_where_it_is_the_earlier,
                        law11_a_passed_deadline_is_done_at_birth, law12_a_deadline_is_never_early,
                        law12_a_deadline_fires_while_nobody_asks,
                        law13_a_cancel_before_the_deadline_is_a_cancel, law14_extend_moves_a_deadline,
                        law14_an_extended_deadline_has_its_cause,
                        law14_an_extended_deadline_does_not_fire_at_the_old_time,
                        law15_a_timeout_that_overflows_is_none);
        return s;
}
