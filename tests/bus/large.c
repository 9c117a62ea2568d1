/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Trees that are too large to end in one slice of work. The daemon is stopped while requests are sent, so
 * that it finds all of them at once. The tests judge the order of its answers. They use direct connections
 * alone: with a broker between, nobody knows when a message has arrived. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

#define LARGE 20000 /* many times what the daemon does in one go */
#define AHEAD 128
/* An end reaches the first child last. */
#define FIRST "large/00000"

static int n_answered;

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        sd_bus_message **ret = userdata;

        n_answered++;
        if (ret)
                *ret = sd_bus_message_ref(m);
        else
                ck_assert(!sd_bus_message_is_method_error(m, NULL));
        return 1;
}

/* Stores the answer in *ret. */
#define SEND(b, ret, member, ...)                                                                      \
        ck_assert_int_ge(sd_bus_call_method_async(b, NULL, CTXD_BUS_NAME, CTXD_OBJECT,                 \
                                         CTXD_MANAGER_INTERFACE, member, on_answer, ret, __VA_ARGS__), \
                        0)

static void run_until(sd_bus *b, int n)
{
        while (n_answered < n) {
                int r = sd_bus_process(b, NULL);

                ck_assert_int_ge(r, 0);
                if (r == 0)
                        ck_assert_int_gt(sd_bus_wait(b, WIDE_SEC * UINT64_C(1000000)), 0);
        }
}

static void make_children(int n)
{
        create(bus, "large");
        n_answered = 0;
        for (int i = 0; i < n; i++) {
                char path[32];

                snprintf(path, sizeof path, "large/%05d", i);
                SEND(bus, NULL, "Create", "sa{sv}", path, 0);
                run_until(bus, i - AHEAD);
        }
        run_until(bus, n);
        n_answered = 0;
}

static void make_large(void)
{
        make_children(LARGE);
}

static void go_on(sd_bus *b)
{
        ck_assert_int_ge(sd_bus_flush(b), 0);
        ck_assert_int_eq(kill(world.daemon.pid, SIGCONT), 0);
}

static void expect_canceled(sd_bus_message *m, int first, uint32_t contexts)
{
        uint32_t n, members;
        int was_first;

        ck_assert_ptr_nonnull(m);
        READ(m, "buu", &was_first, &n, &members);
        ck_assert_int_eq(was_first, first);
        ck_assert_uint_eq(n, contexts);
        ck_assert_uint_eq(members, 0);
}

static void expect_done(sd_bus_message *m)
{
        const char *err, *cause;
        int code, error;

        ck_assert_ptr_nonnull(m);
        READ(m, "siis", &err, &code, &error, &cause);
        ck_assert_int_eq(code, ECANCELED);
        ck_assert_str_eq(cause, "all of it");
}

START_TEST(others_are_served_between)
{
        _cleanup_message_ sd_bus_message *canceled = NULL, *pong = NULL;
        _cleanup_bus_ sd_bus *other = NULL;
        int fd;

        if (world.transport != TRANSPORT_DIRECT)
                return;
        other = connect_bus();
        make_large();
        fd = done_handle(other, FIRST);
        stop_daemon();
        SEND(bus, &canceled, "Cancel", "ss", "large", "all of it");
        ck_assert_int_ge(sd_bus_call_method_async(other, NULL, CTXD_BUS_NAME, CTXD_OBJECT,
                                         "org.freedesktop.DBus.Peer", "Ping", on_answer, &pong, NULL),
                        0);
        ck_assert_int_ge(sd_bus_flush(other), 0);
        go_on(bus);
        run_until(bus, 1);
        ck_assert(is_readable(sd_bus_get_fd(other))); /* the pong was there before */
        expect_canceled(canceled, 1, LARGE + 1);
        ck_assert(is_readable(fd)); /* law 5 */
        run_until(other, 2);
        ck_assert(!sd_bus_message_is_method_error(pong, NULL));
        close(fd);
}
END_TEST

START_TEST(law05_who_comes_second_waits_for_all)
{
        _cleanup_message_ sd_bus_message *first = NULL, *second = NULL;
        int fd;

        if (world.transport != TRANSPORT_DIRECT)
                return;
        make_large();
        fd = done_handle(bus, FIRST);
        stop_daemon();
        SEND(bus, &first, "Cancel", "ss", "large", "all of it");
        SEND(bus, &second, "Cancel", "ss", "large", "once more");
        go_on(bus);
        run_until(bus, 1);
        /* It is readable, whichever call was answered. */
        ck_assert(is_readable(fd));
        run_until(bus, 2);
        expect_canceled(first, 1, LARGE + 1);
        expect_canceled(second, 0, 0);
        close(fd);
}
END_TEST

START_TEST(what_is_looked_at_is_done_at_once)
{
        _cleanup_message_ sd_bus_message *canceled = NULL, *err = NULL, *born = NULL, *born_err = NULL,
                                         *again = NULL;

        if (world.transport != TRANSPORT_DIRECT)
                return;
        make_large();
        stop_daemon();
        SEND(bus, &canceled, "Cancel", "ss", "large", "all of it");
        SEND(bus, &err, "Err", "s", FIRST);
        SEND(bus, &born, "Create", "sa{sv}", "large/00001/below", 0);
        SEND(bus, &born_err, "Err", "s", "large/00001/below");
        SEND(bus, &again, "Cancel", "ss", "large/00002", "this one");
        go_on(bus);
        run_until(bus, 3);
        ck_assert_ptr_null(canceled); /* these were answered before it */
        ck_assert_ptr_null(again);
        expect_done(err);
        expect_done(born_err);
        run_until(bus, 5);
        ck_assert(!sd_bus_message_is_method_error(born, NULL));
        expect_canceled(canceled, 1, LARGE + 1);
        expect_canceled(again, 0, 0);
}
END_TEST

START_TEST(a_release_comes_in_slices_too)
{
        _cleanup_message_ sd_bus_message *released = NULL, *err = NULL, *gone = NULL, *made = NULL;
        char reference[64];

        if (world.transport != TRANSPORT_DIRECT)
                return;
        make_large();
        snprintf(reference, sizeof reference, FIRST "#%ju", (uintmax_t) property_u64(bus, FIRST, "Id"));
        cancel(bus, "large", "all of it");
        n_answered = 0;
        stop_daemon();
        SEND(bus, &released, "Release", "s", "large");
        SEND(bus, &err, "Err", "s", reference);
        SEND(bus, &gone, "Err", "s", FIRST);
        SEND(bus, &made, "Create", "sa{sv}", "large", 0);
        go_on(bus);
        run_until(bus, 3);
        ck_assert_ptr_null(released);
        expect_done(err);
        ck_assert(sd_bus_message_is_method_error(gone, CTXD_ERROR_NO_SUCH_CONTEXT));
        ck_assert(!sd_bus_message_is_method_error(made, NULL)); /* the path is free at once */
        run_until(bus, 4);
        ck_assert(!sd_bus_message_is_method_error(released, NULL));
        EXPECT_ACTIVE(bus, "large");
}
END_TEST

/* Extends while another client pings: the pong comes first. */
static void extend_beside(sd_bus *b, sd_bus *other, uint64_t deadline)
{
        _cleanup_message_ sd_bus_message *extended = NULL, *pong = NULL;

        (void) property_u64(b, "large", "Id"); /* both are connected */
        (void) property_u64(other, "large", "Id");
        n_answered = 0;
        stop_daemon();
        SEND(b, &extended, "Extend", "st", "large", deadline);
        ck_assert_int_ge(sd_bus_call_method_async(other, NULL, CTXD_BUS_NAME, CTXD_OBJECT,
                                         "org.freedesktop.DBus.Peer", "Ping", on_answer, &pong, NULL),
                        0);
        ck_assert_int_ge(sd_bus_flush(other), 0);
        go_on(b);
        run_until(b, 1);
        ck_assert(is_readable(sd_bus_get_fd(other)));
        run_until(other, 2);
        ck_assert(!sd_bus_message_is_method_error(pong, NULL));
        ck_assert(!sd_bus_message_is_method_error(extended, NULL));
        ck_assert_uint_eq(property_u64(bus, "large", "DeadlineUSec"), deadline);
        ck_assert_uint_eq(property_u64(bus, FIRST, "DeadlineUSec"), deadline);
}

START_TEST(what_goes_through_all_lets_others_between)
{
        uint64_t deadline = now_boottime_usec() + UINT64_C(3600000000);
        _cleanup_message_ sd_bus_message *preview = NULL, *list = NULL;
        _cleanup_bus_ sd_bus *other = NULL;
        uint32_t contexts = 0;

        if (world.transport != TRANSPORT_DIRECT)
                return;
        other = connect_bus();
        make_large();
        /* Twice, since the daemon looks at one of the two first. */
        extend_beside(bus, other, deadline);
        extend_beside(other, bus, deadline - 1);
        /* How many turns these take depends on the machine. */
        preview = CALL(bus, "Preview", "su", "large", 1);
        READ(preview, "u", &contexts);
        ck_assert_uint_eq(contexts, LARGE + 1);
        list = CALL(bus, "List", "ssu", "large", "", 0);
        ck_assert_uint_eq(length_of(list, "(ststts)"), 10000);
        ck_assert_int_ge(sd_bus_get_property_trivial(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                         "Contexts", NULL, 'u', &contexts),
                        0);
        ck_assert_uint_eq(contexts, LARGE + 1);
}
END_TEST

/* Several at once, beside changes. Each context that is there all the time is shown once. */
START_TEST(walks_beside_changes)
{
        _cleanup_message_ sd_bus_message *list = NULL, *preview = NULL, *all = NULL, *released = NULL,
                                         *extended = NULL, *again = NULL;
        uint64_t deadline = now_boottime_usec() + UINT64_C(3600000000);
        _cleanup_bus_ sd_bus *other = NULL, *third = NULL;
        uint32_t contexts;

        if (world.transport != TRANSPORT_DIRECT)
                return;
        other = connect_bus();
        third = connect_bus();
        make_large();
        (void) property_u64(other, "large", "Id");
        (void) property_u64(third, "large", "Id");
        stop_daemon();
        for (int i = 0; i < 8; i++)
                ck_assert_int_ge(sd_bus_call_method_async(third, NULL, CTXD_BUS_NAME, CTXD_OBJECT,
                                                 "org.freedesktop.DBus.Properties", "Get", on_answer, NULL,
                                                 "ss", CTXD_MANAGER_INTERFACE, "Contexts"),
                                0);
        SEND(third, &all, "Preview", "su", "/", 0);
        SEND(bus, &list, "List", "ssu", "large", "", 0);
        SEND(bus, &preview, "Preview", "su", "large", 0);
        SEND(bus, &extended, "Extend", "st", "large", deadline);
        SEND(bus, &again, "Extend", "st", "large", deadline / 2 + now_boottime_usec() / 2);
        SEND(other, NULL, "Cancel", "ss", "large/19998", "");
        SEND(other, NULL, "Create", "sa{sv}", "large/new", 0);
        SEND(other, &released, "Release", "s", "large/10000");
        ck_assert_int_ge(sd_bus_flush(other), 0);
        ck_assert_int_ge(sd_bus_flush(third), 0);
        go_on(bus);
        run_until(bus, 4);
        run_until(other, 7);
        run_until(third, 16);
        ck_assert_uint_eq(length_of(list, "(ststts)"), 10000);
        READ(preview, "u", &contexts);
        ck_assert_uint_ge(contexts, LARGE - 2);
        ck_assert_uint_le(contexts, LARGE + 2);
        ck_assert(!sd_bus_message_is_method_error(extended, NULL));
        ck_assert(!sd_bus_message_is_method_error(again, NULL));
        ck_assert_uint_eq(property_u64(bus, "large/new", "DeadlineUSec"),
                        property_u64(bus, "large", "DeadlineUSec"));
        ck_assert_uint_eq(
                        property_u64(bus, FIRST, "DeadlineUSec"), property_u64(bus, "large", "DeadlineUSec"));
}
END_TEST

/* Who asks for a walk and leaves. */
START_TEST(a_walk_of_nobody)
{
        if (world.transport != TRANSPORT_DIRECT)
                return;
        make_large();
        for (int i = 0; i < 10; i++) {
                sd_bus *other = connect_bus();

                (void) property_u64(other, "large", "Id");
                for (int j = 0; j < 5; j++)
                        SEND(other, NULL, "Preview", "su", "large", 0);
                ck_assert_int_ge(sd_bus_flush(other), 0);
                sd_bus_close_unref(other);
        }
        work(bus, 5);
}
END_TEST

#define TOO_MANY 70

START_TEST(not_too_many_wait)
{
        sd_bus_message *answers[TOO_MANY] = {};
        unsigned refused = 0;

        if (world.transport != TRANSPORT_DIRECT)
                return;
        make_children(5 * LARGE - 1); /* that ends after the last call has come, since both have turns */
        stop_daemon();
        for (int i = 0; i < TOO_MANY; i++)
                SEND(bus, &answers[i], "Cancel", "ss", "large", "");
        go_on(bus);
        run_until(bus, TOO_MANY);
        for (int i = 0; i < TOO_MANY; i++) {
                refused += sd_bus_message_is_method_error(answers[i], CTXD_ERROR_LIMITS_EXCEEDED) > 0;
                sd_bus_message_unref(answers[i]);
        }
        ck_assert_uint_gt(refused, 0);
        ck_assert_uint_le(refused, TOO_MANY - 64);
}
END_TEST

START_TEST(nobody_waits_any_more)
{
        sd_bus *other;
        int fd;

        if (world.transport != TRANSPORT_DIRECT)
                return;
        other = connect_bus();
        make_large();
        fd = done_handle(bus, FIRST);
        (void) property_u64(other, "large", "Id"); /* it is connected */
        stop_daemon();
        ck_assert_int_ge(sd_bus_call_method_async(other, NULL, CTXD_BUS_NAME, CTXD_OBJECT,
                                         CTXD_MANAGER_INTERFACE, "Cancel", NULL, NULL, "ss", "large",
                                         "all of it"),
                        0);
        ck_assert_int_ge(sd_bus_flush(other), 0);
        sd_bus_close_unref(other);
        go_on(bus);
        ck_assert(becomes_readable(fd));
        close(fd);
}
END_TEST

Suite *suite_large(void)
{
        Suite *s = suite_create("large");

        ADD_TESTS(s, "large", start_retaining, others_are_served_between,
                        law05_who_comes_second_waits_for_all, what_is_looked_at_is_done_at_once,
                        a_release_comes_in_slices_too, what_goes_through_all_lets_others_between,
                        walks_beside_changes, a_walk_of_nobody, not_too_many_wait, nobody_waits_any_more);
        return s;
}
