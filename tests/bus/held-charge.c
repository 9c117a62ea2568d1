/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What waits because those hang who close it is charged to whom it was given. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "foreign.h"
#include "harness.h"
#include "held-set.h"

#define HANDLES_MAX 4

static void start_with_few_handles(void)
{
        world_start("MaxHandlesPerUser=4\nRetainSec=10min\n", NULL);
}

static bool gets_handle(void)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = sd_bus_call_method(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Done", &error,
                        NULL, "s", "more");

        if (r < 0) {
                ck_assert_str_eq(error.name, CTXD_ERROR_LIMITS_EXCEEDED);
                ck_assert_ptr_nonnull(strstr(error.message, "MaxHandlesPerUser"));
                return false;
        }
        OK(bus, "Undone", "s", "more");
        return true;
}

static void takes_handle(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        OK(b, "Create", "sa{sv}", "~/his", 0);
        close(done_handle(b, "~/his"));
        ck_assert(cancel(b, "~/his", ""));
}

START_TEST(handles_in_a_set_that_is_held_count)
{
        struct held_set h = {};
        int handles[HANDLES_MAX];
        char path[16];

        if (!held_start(&h))
                return;
        create(bus, "more");
        for (int i = 0; i < HANDLES_MAX; i++) {
                snprintf(path, sizeof path, "c%d", i);
                create(bus, path);
                held_add(&h, handles[i] = done_handle(bus, path));
        }
        held_lock(&h);
        for (int i = 0; i < HANDLES_MAX; i++) {
                close(handles[i]);
                snprintf(path, sizeof path, "c%d", i);
                ck_assert(cancel(bus, path, ""));
        }
        ck_assert_happens(!gets_handle());
        ck_assert(!gets_handle());
        run_as(BOB, takes_handle, NULL);
        held_end(&h);
        ck_assert_happens(gets_handle());
}
END_TEST

/* -- Those who close for one user all hang, and he has more closed than can wait uncharged. */

#define HANGING 4    /* as many as there may be for one user */
#define TABLE 4096   /* an eighth of it, and a uid's handles, and what is handed over at once, is less than */
#define AT_MOST 2000 /* this */
#define PAIRS 200
#define ROUNDS 50

static void start_with_small_table(void)
{
        world.table = TABLE;
        world_start("MaxHandlesPerUser=300\nRetainSec=10min\n", NULL);
}

static void hold_handles(const struct held_set *h, int *ret, int n)
{
        char path[16];

        for (int i = 0; i < n; i++) {
                snprintf(path, sizeof path, "c%d", i);
                create(bus, path);
                held_add(h, ret[i] = done_handle(bus, path));
        }
}

static void undo(int i, int handle)
{
        char path[16];

        close(handle);
        snprintf(path, sizeof path, "c%d", i);
        OK(bus, "Undone", "s", path);
}

/* Those who wait for jobs of all, and those who hang. */
static bool so_many_hang(pid_t closer, unsigned n)
{
        pid_t pids[CHILDREN_MAX];

        return children_of(closer, pids) >= 2 + n;
}

static void make_all_hang(struct held_set *h, pid_t closer)
{
        int handles[HANGING];

        hold_handles(h, handles, HANGING);
        held_lock(h);
        for (int i = 0; i < HANGING; i++) {
                undo(i, handles[i]);
                ck_assert_happens(so_many_hang(closer, (unsigned) i + 1));
        }
}

struct answers {
        unsigned n, refused;
};

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct answers *answers = userdata;

        answers->n++;
        if (sd_bus_message_is_method_error(m, NULL)) {
                ck_assert_str_eq(sd_bus_message_get_error(m)->name, CTXD_ERROR_LIMITS_EXCEEDED);
                answers->refused++;
        }
        return 1;
}

static void ask(const char *member, struct answers *answers)
{
        ck_assert_int_ge(sd_bus_call_method_async(bus, NULL, CTXD_BUS_NAME, CTXD_OBJECT,
                                         CTXD_MANAGER_INTERFACE, member, on_answer, answers, "s", "more"),
                        0);
}

/* The most descriptors that the daemon has had. */
static unsigned take_and_give_up(struct answers *answers)
{
        unsigned most = 0, n;

        for (unsigned asked = 0; asked < ROUNDS * 2 * PAIRS && answers->refused == 0;) {
                for (unsigned i = 0; i < PAIRS; i++) {
                        ask("Done", answers);
                        ask("Undone", answers);
                }
                asked += 2 * PAIRS;
                while (answers->n < asked) {
                        ck_assert_int_ge(sd_bus_process(bus, NULL), 0);
                        ck_assert_int_ge(sd_bus_wait(bus, 1000), 0);
                }
                n = count_fds(world.daemon.pid);
                most = n > most ? n : most;
        }
        return most;
}

START_TEST(so_many_handles_that_they_are_charged_at_once)
{
        pid_t closer = closer_of_daemon(), hands[CHILDREN_MAX];
        struct answers answers = {};
        struct held_set h = {};
        unsigned most;
        char *log;

        if (!held_start(&h))
                return;
        (void) hands_for_all(closer, hands);
        create(bus, "more");
        create(bus, "done");
        ck_assert(cancel(bus, "done", ""));
        make_all_hang(&h, closer);
        most = take_and_give_up(&answers);
        ck_assert_msg(most <= AT_MOST, "%u descriptors", most);
        ck_assert_uint_gt(answers.refused, 0);
        /* Nor can he have what is not charged as long as he has it. */
        FAILS(bus, CTXD_ERROR_LIMITS_EXCEEDED, "Done", "s", "done");
        FAILS(bus, CTXD_ERROR_LIMITS_EXCEEDED, "Alive", "");
        run_as(BOB, takes_handle, NULL);
        log = daemon_log();
        ck_assert_ptr_nonnull(
                        strstr(log, "Descriptors that uid 0 has sent, or was given, take long to close"));
        free(log);
        held_end(&h);
        ck_assert_happens(gets_handle());
        OK(bus, "Alive", "");
}
END_TEST

void add_held_charge(Suite *s)
{
        ADD_TESTS(s, "locked-charge", start_with_few_handles, handles_in_a_set_that_is_held_count);
        ADD_TESTS(s, "locked-charge-many", start_with_small_table,
                        so_many_handles_that_they_are_charged_at_once);
}
