/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Others are served while the leaks that a caller may read are counted (law 48). */

#include <stdio.h>

#include "daemon/engine/internal.h"
#include "daemon/world/leak.h"
#include "inside.h"
#include "proto/probe-record.h"

#define CALLER 1001
#define CONTEXTS 64
#define USERS (2 * PROBE_LEAKS_MAX) /* each has a leak; there is no room for more */
#define TURNS 2                     /* a tenth of what it takes */

/* Root and the daemon's own are not counted for. */
static struct client *client_of(uid_t uid)
{
        struct client *c;

        ck_assert_int_eq(seteuid(uid), 0);
        c = client_new();
        ck_assert_int_eq(seteuid(0), 0);
        return c;
}

static int on_count(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        ck_assert_int_gt(sd_bus_message_read(m, "v", "t", userdata), 0);
        return 1;
}

static uint64_t count_leaks(struct client *c, unsigned *ret_turns)
{
        uint64_t count = UINT64_MAX;

        *ret_turns = 0;
        ck_assert_int_ge(sd_bus_call_method_async(c->bus, NULL, CTXD_BUS_NAME, CTXD_OBJECT,
                                         "org.freedesktop.DBus.Properties", "Get", on_count, &count, "ss",
                                         CTXD_MANAGER_INTERFACE, "LeaksFound"),
                        0);
        for (; count == UINT64_MAX; ++*ret_turns) {
                ck_assert_int_gt(sd_event_run(event, 60 * SECOND), 0);
                (void) n_heard();
        }
        return count;
}

static void make_leaks(void)
{
        struct context *contexts[CONTEXTS];
        char path[32];

        for (unsigned i = 0; i < CONTEXTS; i++) {
                snprintf(path, sizeof path, "leaky/%u", i);
                contexts[i] = make(path);
                /* Half of them are none of the caller's business. */
                contexts[i]->mode = i % 2 ? 0755 : 0700;
        }
        for (uint32_t i = 1; i <= USERS; i++) {
                struct probe_leak record = {.header = {PROBE_LEAK, sizeof record},
                                .leak_id = i,
                                .kind = PROBE_LEAK_BLOCKED,
                                .pid = i,
                                .tid = i,
                                .uid = i};

                leaks_add(service.engine->leaks, anchor_of(service.engine, contexts[i % CONTEXTS]), &record);
        }
        (void) run();
}

START_TEST(law48_others_are_served_while_leaks_are_counted)
{
        struct client *c;
        unsigned before, turns;

        if (geteuid() != 0) /* it takes another uid */
                return;
        c = client_of(CALLER);
        (void) run();
        ck_assert_uint_eq(count_leaks(c, &before), 0);
        make_leaks();
        ck_assert_uint_eq(count_leaks(c, &turns), USERS / 2);
        ck_assert_uint_ge(turns, before + TURNS);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {law48_others_are_served_while_leaks_are_counted, NULL};
        Suite *s = suite_create("counts");

        tcase_add_checked_fixture(add_case(s, "counts", tests), inside_setup, inside_teardown);
        return run_suite(s);
}
