/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How much each uid may make the daemon keep. A full quota concerns nobody else. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

START_TEST(quotas_say_which)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

        create(bus, "q");
        for (int i = 0; i < 9; i++) {
                char path[16];

                snprintf(path, sizeof path, "q/%d", i);
                create(bus, path);
        }
        ck_assert_int_lt(sd_bus_call_method(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Create",
                                         &error, NULL, "sa{sv}", "q/one-more", 0),
                        0);
        ck_assert_str_eq(error.name, CTXD_ERROR_LIMITS_EXCEEDED);
        ck_assert_ptr_nonnull(strstr(error.message, "10 of 10"));
        ck_assert_ptr_nonnull(strstr(error.message, "MaxContextsPerUser"));
        REFUSED(bus, CTXD_ERROR_LIMITS_EXCEEDED, "Create", "sa{sv}", "x/y/z", 1, "parents", "b", 1);
        OK(bus, "Release", "s", "q/3");
        create(bus, "q/again");

        int fds[4];
        for (int i = 0; i < 4; i++) {
                char path[16];

                snprintf(path, sizeof path, "q/%d", i + 4);
                fds[i] = done_handle(bus, path);
        }
        REFUSED(bus, CTXD_ERROR_LIMITS_EXCEEDED, "Done", "s", "q");
        OK(bus, "Undone", "s", "q/4");
        close(done_handle(bus, "q"));
        for (int i = 0; i < 4; i++)
                close(fds[i]);
}
END_TEST

static void start_small_handles(void)
{
        world_start("MaxContextsPerUser=10\nMaxHandlesPerUser=4\nRetainSec=10min\n", NULL);
}

/* A quota is each user's own. */
static void fill_quota(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

        for (;;)
                if (sd_bus_call_method(b, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Create",
                                    &error, NULL, "sa{sv}", "~/", 0) < 0)
                        break;
        ck_assert_str_eq(error.name, CTXD_ERROR_LIMITS_EXCEEDED);
}

static void has_room(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        for (int i = 0; i < 40; i++)
                OK(b, "Create", "sa{sv}", "~/", 0);
        close(done_handle(b, "~"));
}

static void start_small(void)
{
        world_start("MaxContextsPerUser=50\nRetainSec=10min\n", NULL);
}

START_TEST(one_users_full_quota_is_nobody_elses)
{
        run_as(ALICE, fill_quota, NULL);
        run_as(BOB, has_room, NULL);
        create(bus, "roots");
}
END_TEST

static void start_small_for_all(void)
{
        world_start("MaxContexts=1024\nRetainSec=10min\n", NULL);
}

static void makes_a_few(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        OK(b, "Create", "sa{sv}", "~/", 0);
}

/* A user may have 65,536 uids besides the own one. */
START_TEST(subordinate_uids_leave_something)
{
        run_as(ALICE, fill_quota, NULL);
        for (uid_t uid = 100000; uid < 165536; uid += 1171)
                run_as(uid, fill_quota, NULL);
        for (uid_t uid = BOB; uid < BOB + 3; uid++)
                run_as(uid, makes_a_few, NULL);
}
END_TEST

static void start_few_bytes_for_all(void)
{
        world_start("MaxBytes=64K\nMaxSubscriptions=64\nRetainSec=10min\n", NULL);
}

/* Whether the call is refused in the end. */
static bool fill(sd_bus *b, const char *member, const char *types, const char *text, unsigned most)
{
        for (unsigned i = 0; i < most; i++) {
                _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
                _cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;

                ck_assert_int_ge(sd_bus_message_new_method_call(b, &m, CTXD_BUS_NAME, CTXD_OBJECT,
                                                 CTXD_MANAGER_INTERFACE, member),
                                0);
                if (strcmp(types, "s") == 0) {
                        char prefix[16];

                        snprintf(prefix, sizeof prefix, "p%u", i);
                        ck_assert_int_ge(sd_bus_message_append(m, "s", prefix), 0);
                } else {
                        ck_assert_int_ge(
                                        sd_bus_message_append(m, "sa{sv}", "~/", 1, "description", "s", text),
                                        0);
                }
                reply = send_call(b, m, &error);
                if (reply)
                        continue;
                ck_assert_str_eq(error.name, CTXD_ERROR_LIMITS_EXCEEDED);
                ck_assert_msg(strstr(error.message, "of all users"), "%s", error.message);
                return true;
        }
        return false;
}

static void fill_bytes_and_subscriptions(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        char text[1001];

        memset(text, 'x', sizeof text - 1);
        text[sizeof text - 1] = '\0';
        ck_assert(fill(b, "Create", "sa{sv}", text, 1000));
        ck_assert(fill(b, "Subscribe", "s", NULL, 1000));
        ck_assert_int_eq(write(*(int *) userdata, "", 1), 1);
        for (;;)
                pause();
}

static void has_a_share(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        char text[501];

        memset(text, 'x', sizeof text - 1);
        text[sizeof text - 1] = '\0';
        OK(b, "Create", "sa{sv}", "~/", 1, "description", "s", text);
        OK(b, "Subscribe", "s", "/");
}

START_TEST(subordinate_uids_leave_bytes_and_subscriptions)
{
        int pipes[20][2];
        pid_t pids[20];
        uid_t uid = ALICE;

        for (size_t i = 0; i < ELEMENTSOF(pids); i++) {
                char byte;

                ck_assert_int_eq(pipe2(pipes[i], O_CLOEXEC), 0);
                pids[i] = spawn_as(uid, fill_bytes_and_subscriptions, &pipes[i][1]);
                close(pipes[i][1]);
                ck_assert_int_eq(read(pipes[i][0], &byte, 1), 1);
                uid = uid == ALICE ? 100000 : uid + 1171;
        }
        run_as(BOB, has_a_share, NULL);
        for (size_t i = 0; i < ELEMENTSOF(pids); i++) {
                end_process(pids[i]);
                close(pipes[i][0]);
        }
        /* However many uids are refused. */
        ck_assert_uint_eq(logged("bytes of all users"), 1);
        ck_assert_uint_eq(logged("subscriptions of all users"), 1);
}
END_TEST

static void start_small_all(void)
{
        world_start("MaxContextsPerUser=10\nMaxHandlesPerUser=4\nMaxMembersPerUser=2\nMaxBytesPerUser=1K\n"
                    "MaxSubscriptionsPerUser=3\nMaxConnectionsPerUser=8\nRetainSec=10min\n",
                        NULL);
}

/* The refusal says which limit it is, how much is used, how much is allowed, and which setting raises it.
 * Nothing has changed. */
static void expect_limit(sd_bus *b, const char *what, const char *figures, const char *key,
                const char *member, const char *types, ...)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *before = snapshot(b), *after = NULL;
        _cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;
        va_list ap;

        va_start(ap, types);
        m = new_callv(b, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member, types, ap);
        va_end(ap);
        reply = send_call(b, m, &error);
        ck_assert_msg(!reply, "%s was not refused", member);
        ck_assert_str_eq(error.name, CTXD_ERROR_LIMITS_EXCEEDED);
        ck_assert_msg(strstr(error.message, what) && strstr(error.message, figures) &&
                                        strstr(error.message, key),
                        "%s: %s", member, error.message);
        after = snapshot(b);
        ck_assert_str_eq(before, after);
}

START_TEST(each_limit_says_which)
{
        char text[900];
        pid_t pids[3];
        int pidfds[3];

        memset(text, 'x', sizeof text);
        text[sizeof text - 1] = '\0';
        create(bus, "q");
        OK(bus, "Create", "sa{sv}", "q/1", 1, "description", "s", text);
        expect_limit(bus, "bytes", "of 1024", "MaxBytesPerUser", "Create", "sa{sv}", "q/2", 1, "description",
                        "s", text);
        expect_limit(bus, "bytes", "of 1024", "MaxBytesPerUser", "Create", "sa{sv}", "q/2", 1, "values",
                        "a{ss}", 1, "org.example.x", text);
        OK(bus, "Subscribe", "s", "a");
        OK(bus, "Subscribe", "s", "b");
        OK(bus, "Subscribe", "s", "c");
        OK(bus, "Subscribe", "s", "c"); /* has it */
        expect_limit(bus, "subscriptions", "3 of 3", "MaxSubscriptionsPerUser", "Subscribe", "s", "d");
        OK(bus, "Unsubscribe", "s", "b");
        OK(bus, "Subscribe", "s", "d");
        OK(bus, "Unsubscribe", "s", "a");
        OK(bus, "Unsubscribe", "s", "c");
        OK(bus, "Unsubscribe", "s", "d");
        for (int i = 0; i < 3; i++)
                pids[i] = sleeper(&pidfds[i]);
        create(bus, "q/m1");
        create(bus, "q/m2");
        create(bus, "q/m3");
        OK(bus, "Attach", "sha{sv}", "q/m1", pidfds[0], 0);
        OK(bus, "Attach", "sha{sv}", "q/m2", pidfds[1], 0);
        expect_limit(bus, "members", "2 of 2", "MaxMembersPerUser", "Attach", "sha{sv}", "q/m3", pidfds[2],
                        0);
        /* It comes when all else of the call was done: the old one keeps its path. */
        OK(bus, "Create", "sa{sv}", "q/m3/below", 0);
        cancel(bus, "q/m3", "");
        expect_limit(bus, "members", "2 of 2", "MaxMembersPerUser", "Create", "sa{sv}", "q/m3", 1, "attach",
                        "h", pidfds[2]);
        ck_assert_int_eq(code_of(bus, "q/m3"), ECANCELED);
        ck_assert_int_eq(code_of(bus, "q/m3/below"), ECANCELED);
        for (int i = 0; i < 3; i++) {
                end_process(pids[i]);
                close(pidfds[i]);
        }
}
END_TEST

/* A client that reaches its limit again and again is one line in the log, until it was well below the
 * limit. */
START_TEST(the_first_refusal_is_logged)
{
        char path[16];
        int fds[4];

        for (int round = 1; round <= 2; round++) {
                for (int i = 0; i < 4; i++) {
                        snprintf(path, sizeof path, "l%d-%d", round, i);
                        create(bus, path);
                        fds[i] = done_handle(bus, path);
                }
                create(bus, "over");
                for (int i = 0; i < 5; i++)
                        REFUSED(bus, CTXD_ERROR_LIMITS_EXCEEDED, "Done", "s", "over");
                ck_assert_uint_eq(logged("handles"), (unsigned) round);
                for (int i = 0; i < 4; i++) {
                        snprintf(path, sizeof path, "l%d-%d", round, i);
                        OK(bus, "Release", "s", path);
                        close(fds[i]);
                }
                OK(bus, "Release", "s", "over");
                close(done_handle(bus, (create(bus, "again"), "again")));
                OK(bus, "Release", "s", "again");
        }
}
END_TEST

/* What is refused keeps nothing of the quota: here the place of a context among those that have members. */
START_TEST(a_refused_thread_page_costs_nothing)
{
        int fds[4], pidfd;
        char path[16];
        pid_t pid;

        for (int i = 0; i < 4; i++) {
                snprintf(path, sizeof path, "t%d", i);
                create(bus, path);
                fds[i] = done_handle(bus, path);
        }
        for (int i = 0; i < 4; i++) {
                snprintf(path, sizeof path, "t%d", i);
                expect_limit(bus, "handles", "4 of 4", "MaxHandlesPerUser", "Threads", "s", path);
        }
        pid = sleeper(&pidfd);
        create(bus, "t4");
        OK(bus, "Attach", "sha{sv}", "t4", pidfd, 0);
        end_process(pid);
        close(pidfd);
        for (int i = 0; i < 4; i++)
                close(fds[i]);
}
END_TEST

Suite *suite_quotas(void)
{
        Suite *s = suite_create("quotas");

        ADD_TESTS(s, "limits", start_small_all, each_limit_says_which, the_first_refusal_is_logged,
                        a_refused_thread_page_costs_nothing);

        ADD_TESTS(s, "quotas", start_small_handles, quotas_say_which);
        return s;
}

Suite *suite_quotas_of_uids(void)
{
        Suite *s = suite_create("quotas");

        ADD_TESTS(s, "quotas", start_small, one_users_full_quota_is_nobody_elses);
        if (world.transport == TRANSPORT_DIRECT) /* dbus-daemon does not know these uids */
                ADD_TESTS(s, "all", start_small_for_all, subordinate_uids_leave_something);
        if (world.transport == TRANSPORT_DIRECT)
                ADD_TESTS(s, "bytes", start_few_bytes_for_all,
                                subordinate_uids_leave_bytes_and_subscriptions);
        return s;
}
