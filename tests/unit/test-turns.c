/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <time.h>

#include "daemon/bus/turns.h"
#include "tests/harness/suite.h"

#define ALICE 1001
#define BOB 1002
#define PAUSE_NSEC 50000000 /* the time of many turns */
#define ENOUGH 1000

static struct taker alice, bob;
static unsigned n_alices;
static bool bob_is_over;

static void rest(struct taker *taker)
{
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NSEC}, NULL);
        bob_is_over = true;
}

static void work(struct taker *taker)
{
        bob_is_over = bob_is_over || taker == &bob;
        n_alices += taker == &alice && !bob_is_over;
        if (!bob_is_over && n_alices < ENOUGH)
                taker_wait(taker);
}

/* In a turn of Bob's another program has the machine. That does not count for him. */
START_TEST(law48_the_time_of_other_programs)
{
        sd_event *event = NULL;
        struct turns t;

        ck_assert_int_ge(sd_event_new(&event), 0);
        ck_assert_int_ge(turns_init(&t, event), 0);
        ck_assert_int_eq(taker_init(&alice, &t, ALICE, work), 0);
        ck_assert_int_eq(taker_init(&bob, &t, BOB, rest), 0);
        taker_wait(&bob);
        while (!bob_is_over)
                ck_assert_int_ge(sd_event_run(event, UINT64_MAX), 0);
        bob_is_over = false;
        bob.run = work;
        taker_wait(&alice);
        taker_wait(&bob);
        while (!bob_is_over)
                ck_assert_int_ge(sd_event_run(event, UINT64_MAX), 0);
        ck_assert_uint_lt(n_alices, ENOUGH);
        taker_deinit(&alice);
        taker_deinit(&bob);
        turns_deinit(&t);
        sd_event_unref(event);
}
END_TEST

int main(void)
{
        const TTest *tests[] = {law48_the_time_of_other_programs, NULL};

        return run_tests("turns", tests);
}
