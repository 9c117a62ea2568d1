/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/ctxclient.h"
#include "tests/harness/base.h"
#include "tests/harness/suite.h"

/* What the laws of local contexts share: each file lists its tests, main() runs them with a look at the
 * descriptors before and after each. */

static inline void sleep_until(uint64_t usec)
{
        for (uint64_t now = now_boottime_usec(); now < usec; now = now_boottime_usec())
                nap(usec - now);
}

/* For tests that have to get something done before a deadline: with more and more time, until a machine that
 * may be slow has managed it. */
#define WITH_MORE_TIME(margin) for (uint64_t margin = 20000; margin < UINT64_C(100000000); margin *= 4)

/* A thread of this process is asleep in the kernel: it has come to where it waits. */
static inline bool sleeps(pid_t tid)
{
        return task_state(getpid(), tid) == 'S';
}

#define assert_cause(ctx, expected_error, expected_message)              \
        do {                                                             \
                int error_ = -1;                                         \
                const char *message_ = NULL;                             \
                ck_assert_int_eq(ctx_cause(ctx, &error_, &message_), 1); \
                ck_assert_int_eq(error_, expected_error);                \
                ck_assert_str_eq(message_, expected_message);            \
        } while (0)

static void (*warm)(void); /* opens what stays open */

/* Tests that are run once, and one (or NULL) that is run n times with _i from 0. */
static inline int run_laws_and_loop(const char *name, const TTest *const *tests, const TTest *loop, int n)
{
        Suite *suite = suite_create(name);
        TCase *tcase = add_case(suite, name, tests);

        if (loop)
                tcase_add_loop_test(tcase, loop, 0, n);
        tcase_add_checked_fixture(tcase, warm, NULL);
        tcase_add_checked_fixture(tcase, fds_before, fds_after);
        return run_suite(suite);
}

static inline int run_laws(const char *name, const TTest *const *tests)
{
        return run_laws_and_loop(name, tests, NULL, 0);
}
