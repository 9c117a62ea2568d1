/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/harness/base.h"
#include "tests/harness/suite.h"

/* For one test; $CK_TIMEOUT_MULTIPLIER makes it longer. With that of ./test, 10, it is still less than what
 * meson gives the whole program: so what hangs has a name. */
#define TEST_SEC 60

TCase *add_case(Suite *suite, const char *name, const TTest *const *tests)
{
        TCase *c = tcase_create(name);

        tcase_set_timeout(c, TEST_SEC);
        for (; *tests; tests++)
                tcase_add_test(c, *tests);
        suite_add_tcase(suite, c);
        return c;
}

static void print_failures(SRunner *runner)
{
        TestResult **failures = srunner_failures(runner);

        for (int i = 0; i < srunner_ntests_failed(runner); i++)
                fprintf(stderr, "%s:%d: %s: %s\n", tr_lfile(failures[i]), tr_lno(failures[i]),
                                tr_tcname(failures[i]), tr_msg(failures[i]));
        free(failures);
}

#ifdef __SANITIZE_ADDRESS__
/* The sanitizer's allocator (gcc 12) is not made for fork(): a thread that is just being started may be in
 * it, and the child waits for its lock for ever. So the threads of a process may settle first; those that are
 * busy on purpose are not waited for again and again. */
static void settle(void)
{
        static unsigned naps_left = 2000;

        for (; naps_left > 0 && !process_sleeps(getpid(), gettid()); naps_left--)
                nap(1000);
}

static void make_forks_safe(void)
{
        if (pthread_atfork(settle, NULL, NULL) != 0)
                give_up("pthread_atfork", ENOMEM);
}
#else
static void make_forks_safe(void) {}
#endif

int run_suites(Suite *const *suites, size_t n)
{
        SRunner *runner = srunner_create(suites[0]);
        int failed;

        make_forks_safe();
        setvbuf(stdout, NULL, _IOLBF, 0);
        for (size_t i = 1; i < n; i++)
                srunner_add_suite(runner, suites[i]);
        srunner_set_tap(runner, "-");
        srunner_run_all(runner, CK_SILENT);
        failed = srunner_ntests_failed(runner);
        /* TAP has no line for a failure of what runs before the tests of a case. */
        print_failures(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int run_suite(Suite *suite)
{
        return run_suites(&suite, 1);
}

int run_tests(const char *name, const TTest *const *tests)
{
        Suite *suite = suite_create(name);

        add_case(suite, name, tests);
        return run_suite(suite);
}

static unsigned n_fds, n_eventfds;

void fds_before(void)
{
        n_fds = count_fds(getpid());
        n_eventfds = count_eventfds();
}

void fds_after(void)
{
        unsigned n = count_eventfds() - n_eventfds;

        ck_assert_uint_le(n, EVENTFDS_KEPT);
        ck_assert_uint_eq(count_fds(getpid()), n_fds + n);
}
