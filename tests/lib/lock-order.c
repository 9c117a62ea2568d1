/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <sys/resource.h>

#include "lib/local/ctx.h"
#include "tests/law/local.h"

/* The check of the order of locks finds what it is there for. The other tests that run this copy of the
 * library show that the library keeps the order. */

static struct lock outer = LOCK_INIT(LOCK_CLIENT), inner = LOCK_INIT(LOCK_WATCH);

START_TEST(the_order_is_kept)
{
        struct nest nest = {}, below = {};

        for (int i = 0; i < 2; i++) {
                lock_acquire(&outer);
                lock_acquire(&inner);
                nest_lock(&nest);
                nest_lock_at(&below, LOCK_NEST_BELOW);
                nest_unlock_at(&below, 0, LOCK_NEST_BELOW);
                nest_unlock(&nest, 0);
                lock_release(&outer); /* the order of releases is free */
                lock_release(&inner);
                ck_assert(lock_try_acquire(&inner));
                lock_release(&inner);
                lock_order_none();
        }
}
END_TEST

START_TEST(an_outer_lock_after_an_inner_one)
{
        lock_acquire(&inner);
        lock_acquire(&outer);
}
END_TEST

START_TEST(two_locks_of_one_rank)
{
        struct lock other = LOCK_INIT(LOCK_WATCH);

        lock_acquire(&inner);
        lock_try_acquire(&other);
}
END_TEST

START_TEST(two_nests_that_are_not_parent_and_child)
{
        struct nest nest = {}, other = {};

        nest_lock(&nest);
        nest_lock(&other);
}
END_TEST

START_TEST(a_lock_under_a_nest)
{
        struct nest nest = {};

        nest_lock(&nest);
        lock_acquire(&inner);
}
END_TEST

START_TEST(the_programs_code_under_a_lock)
{
        lock_acquire(&inner);
        lock_order_none();
}
END_TEST

START_TEST(a_release_of_what_is_not_held)
{
        lock_release(&inner);
}
END_TEST

int main(void)
{
        static const struct rlimit no_core = {};
        const TTest *wrong[] = {
                        an_outer_lock_after_an_inner_one,
                        two_locks_of_one_rank,
                        two_nests_that_are_not_parent_and_child,
                        a_lock_under_a_nest,
                        the_programs_code_under_a_lock,
                        a_release_of_what_is_not_held,
        };
        Suite *suite = suite_create("lock-order");
        TCase *tcase = tcase_create("lock-order");
        SRunner *runner;
        int failed;

        setrlimit(RLIMIT_CORE, &no_core);
        tcase_add_test(tcase, the_order_is_kept);
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
                tcase_add_test_raise_signal(tcase, wrong[i], SIGABRT);
        suite_add_tcase(suite, tcase);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? 1 : 0;
}
