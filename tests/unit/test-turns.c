/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <time.h>

#include "daemon/bus/turns.h"
#include "tests/harness/suite.h"
#include "util/clock.h"

#define ALICE 1001
#define BOB 1002
#define PAUSE_NSEC 50000000 /* the time of many turns */
#define ENOUGH 1000
#define LONG_USEC 20000
#define SHORT_USEC 500
#define PIECE_USEC 30 /* several of them are taken before the rest of the daemon comes */

static sd_event *event;
static struct turns turns;
static struct taker alice, bob;
static unsigned n_alices, n_bobs;
static bool is_over;

static void setup(void)
{
        alice = bob = (struct taker){};
        n_alices = n_bobs = 0;
        ck_assert_int_ge(sd_event_new(&event), 0);
        ck_assert_int_ge(turns_init(&turns, event), 0);
}

static void teardown(void)
{
        taker_deinit(&alice);
        taker_deinit(&bob);
        turns_deinit(&turns);
        sd_event_unref(event);
}

static void run_until_over(void)
{
        is_over = false;
        while (!is_over)
                ck_assert_int_ge(sd_event_run(event, UINT64_MAX), 0);
}

static void rest(struct taker *taker)
{
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NSEC}, NULL);
        is_over = true;
}

static void work(struct taker *taker)
{
        is_over = is_over || taker == &bob;
        n_alices += taker == &alice && !is_over;
        if (!is_over && n_alices < ENOUGH)
                taker_wait(taker);
}

/* In a turn of Bob's another program has the machine. That does not count for him. */
START_TEST(law48_the_time_of_other_programs)
{
        ck_assert_int_eq(taker_init(&alice, &turns, ALICE, work), 0);
        ck_assert_int_eq(taker_init(&bob, &turns, BOB, rest), 0);
        taker_wait(&bob);
        run_until_over();
        bob.run = work;
        taker_wait(&alice);
        taker_wait(&bob);
        run_until_over();
        ck_assert_uint_lt(n_alices, ENOUGH);
}
END_TEST

static void spin(uint64_t usec)
{
        uint64_t until = clock_usec(CLOCK_THREAD_CPUTIME_ID) + usec;

        while (clock_usec(CLOCK_THREAD_CPUTIME_ID) < until)
                ;
}

/* Bob comes within her second turn. */
static void be_long(struct taker *taker)
{
        n_alices++;
        is_over = n_alices == 3;
        spin(LONG_USEC);
        if (n_alices == 2)
                taker_wait(&bob);
        if (!is_over)
                taker_wait(taker);
}

static void be_short(struct taker *taker)
{
        n_bobs++;
        spin(SHORT_USEC);
        taker_wait(taker);
}

/* Long turns that nobody waited for when they began count for who comes meanwhile, all but the first. */
START_TEST(law48_long_turns_alone)
{
        ck_assert_int_eq(taker_init(&alice, &turns, ALICE, be_long), 0);
        ck_assert_int_eq(taker_init(&bob, &turns, BOB, be_short), 0);
        taker_wait(&alice);
        run_until_over();
        ck_assert_uint_ge(n_bobs, LONG_USEC / SHORT_USEC / 2);
}
END_TEST

static void be_one_of_many(struct taker *taker)
{
        n_alices += !is_over;
        spin(PIECE_USEC);
        taker_wait(taker);
}

static void end(struct taker *taker)
{
        is_over = true;
}

/* It comes when she has had a turn, before the rest of the daemon comes. */
static void bring_answer(void *owner)
{
        if (n_alices > 0 && !is_over)
                taker_wait(&bob);
}

/* Bob waits for an answer that comes between two turns of hers. */
START_TEST(law48_an_answer_between_turns)
{
        turns.answers = bring_answer;
        ck_assert_int_eq(taker_init(&alice, &turns, ALICE, be_one_of_many), 0);
        ck_assert_int_eq(taker_init(&bob, &turns, BOB, end), 0);
        taker_wait(&alice);
        run_until_over();
        ck_assert_uint_eq(n_alices, 1);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("turns");
        TCase *c = add_case(s, "turns",
                        (const TTest *const[]){law48_the_time_of_other_programs, law48_long_turns_alone,
                                        law48_an_answer_between_turns, NULL});

        tcase_add_checked_fixture(c, setup, teardown);
        return run_suite(s);
}
