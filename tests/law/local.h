/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <check.h>
#include <dirent.h>
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

/* What the laws of local contexts share: each file lists its tests, main() runs them with a look at the
 * descriptors before and after each. */

static inline uint64_t boottime_usec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_BOOTTIME, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

static inline void sleep_until(uint64_t usec)
{
        for (uint64_t now = boottime_usec(); now < usec; now = boottime_usec())
                usleep((useconds_t) (usec - now));
}

/* For tests that have to get something done before a deadline: with more and more time, until a machine that may be
 * slow has managed it. */
#define WITH_MORE_TIME(margin) for (uint64_t margin = 20000; margin < UINT64_C(100000000); margin *= 4)

/* A thread of this process is asleep in the kernel: it has come to where it waits. */
static inline bool sleeps(pid_t tid)
{
        char path[64], text[512] = "";
        const char *end;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int) tid);
        f = fopen(path, "re");
        if (f) {
                (void) !fread(text, 1, sizeof(text) - 1, f);
                fclose(f);
        }
        end = strrchr(text, ')');
        return end && end[1] == ' ' && end[2] == 'S';
}

static inline bool is_readable(int fd)
{
        return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1;
}

#define assert_cause(ctx, expected_error, expected_message)              \
        do {                                                             \
                int error_ = -1;                                         \
                const char *message_ = NULL;                             \
                ck_assert_int_eq(ctx_cause(ctx, &error_, &message_), 1); \
                ck_assert_int_eq(error_, expected_error);                \
                ck_assert_str_eq(message_, expected_message);            \
        } while (0)

static inline unsigned count_fds(void)
{
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

static unsigned fds_before;
static void (*warm)(void); /* opens what stays open */

static inline void look_before(void)
{
        if (warm)
                warm();
        fds_before = count_fds();
}

static inline void look_after(void)
{
        ck_assert_uint_eq(count_fds(), fds_before);
}

/* Tests that are run once, and one (or NULL) that is run n times with _i from 0. */
static inline int run_laws_and_loop(const char *name, const TTest *const *tests, const TTest *loop, int n)
{
        Suite *suite = suite_create(name);
        TCase *tcase = tcase_create(name);
        SRunner *runner;
        int failed;

        tcase_set_timeout(tcase, 60);
        tcase_add_checked_fixture(tcase, look_before, look_after);
        for (; *tests; tests++)
                tcase_add_test(tcase, *tests);
        if (loop)
                tcase_add_loop_test(tcase, loop, 0, n);
        suite_add_tcase(suite, tcase);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? 1 : 0;
}

static inline int run_laws(const char *name, const TTest *const *tests)
{
        return run_laws_and_loop(name, tests, NULL, 0);
}
