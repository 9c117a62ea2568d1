/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How much each uid may make the daemon keep, and that it is nobody else's loss. */

#include <string.h>

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
        world_start("MaxContextsPerUser=10\nMaxHandlesPerUser=4\nRetainSec=1s\n", NULL);
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
        world_start("MaxContextsPerUser=50\nRetainSec=1s\n", NULL);
}

START_TEST(one_users_full_quota_is_nobody_elses)
{
        run_as(ALICE, fill_quota, NULL);
        run_as(BOB, has_room, NULL);
        create(bus, "roots");
}
END_TEST

Suite *suite_quotas(void)
{
        Suite *s = suite_create("quotas");

        ADD_TESTS(s, "quotas", start_small_handles, quotas_say_which);
        return s;
}

Suite *suite_quotas_of_uids(void)
{
        Suite *s = suite_create("quotas");

        ADD_TESTS(s, "quotas", start_small, one_users_full_quota_is_nobody_elses);
        return s;
}
