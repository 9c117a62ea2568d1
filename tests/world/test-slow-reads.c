/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <unistd.h>

#include "tests/world/kin.h"
#include "util/proc-reader-internal.h"
#include "util/proc-reader.h"

/* Processes that make who reads them in /proc wait, each for so short that nobody answers for it. There are
 * many of them, and whoever looks at all lets others have their turns all the same (law 48). */

#define CROWD 100
#define SLEEP_USEC 150
/* A turn ends by the read with which it has waited for so long. */
#define TURN_USEC 5000
#define TURN_MOST (2 * TURN_USEC)

static void sleep_before(pid_t pid, enum reader_file file)
{
        usleep(SLEEP_USEC);
}

static void start(void)
{
        reader_before = sleep_before;
        ck_assert_int_eq(proc_reader_start(), 0);
        world_start();
}

static void stop(void)
{
        world_stop();
        proc_reader_stop();
}

static void body_crowd(int in, int out)
{
        for (int i = 1; i < CROWD; i++)
                if (fork() == 0)
                        break;
        child_count(in, out);
}

static struct context *make_crowd(void)
{
        struct child *child = child_start(body_crowd);
        struct context *c = make("a");

        for (int i = 1; i < CROWD; i++)
                ck_assert_int_eq(child_say(child), '!');
        attach(c, child, &term);
        return c;
}

static uint64_t before_usec;
static unsigned n_turns, n_long;

static void begin_turn(void)
{
        before_usec = proc_reader_waited_usec();
}

static void end_turn(void)
{
        n_turns++;
        n_long += proc_reader_waited_usec() - before_usec > TURN_MOST;
}

static void expect_short_turns(void)
{
        ck_assert_uint_ge(n_turns, 3);
        ck_assert_uint_le(n_long, n_turns / 2); /* a busy machine */
}

START_TEST(law_48_a_list_of_them)
{
        struct context *c = make_crowd();
        struct members_look *look;
        int r;

        ck_assert_int_eq(engine_look(world.engine, c, true, false, &look), 0);
        do {
                begin_turn();
                r = members_look_go(look, UINT32_MAX);
                end_turn();
                ck_assert_int_ge(r, 0);
        } while (r == 0);
        ck_assert_uint_eq(members_look_count(look), CROWD);
        members_look_free(look);
        expect_short_turns();
}
END_TEST

START_TEST(law_48_their_signals)
{
        struct context *c = make_crowd();
        struct signal_pass *p;
        uint32_t n, more = 0;
        int r;

        begin_turn();
        n = cancel(c);
        end_turn();
        p = engine_take_signals(world.engine);
        ck_assert_ptr_nonnull(p);
        do {
                begin_turn();
                r = engine_signals_go(world.engine, p, UINT32_MAX, &more);
                end_turn();
        } while (r == 0);
        engine_signals_let_go(world.engine, p);
        ck_assert_uint_eq(n + more, CROWD);
        expect_short_turns();
}
END_TEST

int main(void)
{
        Suite *s = suite_create("slow-reads");
        TCase *c = tcase_create("slow-reads");

        tcase_add_checked_fixture(c, start, stop);
        tcase_add_test(c, law_48_a_list_of_them);
        tcase_add_test(c, law_48_their_signals);
        suite_add_tcase(s, c);
        return run_suite(s);
}
