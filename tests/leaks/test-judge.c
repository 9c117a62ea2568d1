/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The verdict on virtual time. */

#include <stdlib.h>

#include "bpf/judge.h"
#include "tests/harness/suite.h"

#define DONE UINT64_C(1000000000)
#define GRACE UINT64_C(5000000)
#define MS UINT64_C(1000)

static struct sample asleep(uint64_t switches)
{
        return (struct sample){.state = 0x1, .nvcsw = switches};
}

START_TEST(activity)
{
        static const struct {
                struct sample sample;
                enum activity activity;
        } cases[] = {
                        {{.state = 0}, ACTIVITY_RUNS},
                        {{.state = 0x1}, ACTIVITY_SLEEPS},
                        {{.state = 0x2001}, ACTIVITY_SLEEPS}, /* freezable */
                        {{.state = 0x2}, ACTIVITY_SLEEPS},
                        {{.state = 0x2102}, ACTIVITY_SLEEPS},
                        {{.state = 0x104, .jobctl = 0x4000000}, ACTIVITY_HELD},
                        {{.state = 0x8, .jobctl = 0x8000000, .ptrace = 1}, ACTIVITY_HELD},
                        {{.state = 0x1, .ptrace = 0x10001}, ACTIVITY_SLEEPS}, /* traced, but let run */
                        {{.state = 0x2001, .jobctl = 0x800000}, ACTIVITY_HELD},
                        {{.state = 0x8000}, ACTIVITY_HELD},
                        {{.state = 0x1, .flags = 0x200, .core = 1}, ACTIVITY_HELD},
                        {{.state = 0x2402, .flags = 0x8}, ACTIVITY_HELD},
                        {{.state = 0x1, .core = 1}, ACTIVITY_HELD},
                        {{.state = 0x80, .exit_state = 0x20}, ACTIVITY_HELD},
                        {{.state = 0x1, .flags = 0x4}, ACTIVITY_HELD},
        };

        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
                ck_assert_msg(sample_activity(&cases[i].sample) == cases[i].activity, "case %zu", i);
}
END_TEST

START_TEST(baseline_then_grace)
{
        struct thread_clock clock = {};
        struct sample s = asleep(7);
        uint64_t at = DONE + 50 * MS;

        ck_assert_int_eq(thread_clock_feed(&clock, &s, at + 1), 0);
        ck_assert_uint_eq(thread_clock_blocked_at(&clock, DONE, GRACE), DONE + GRACE);
        at = DONE + GRACE;
        ck_assert_int_eq(thread_clock_feed(&clock, &s, at + 1), 0);
        ck_assert_uint_eq(thread_clock_blocked_at(&clock, DONE, GRACE), DONE + GRACE);
        ck_assert_uint_eq(thread_clock_blocked_at(&clock, DONE, UINT64_MAX), UINT64_MAX);
}
END_TEST

/* One that was first seen late is watched for a whole grace. */
START_TEST(late_baseline)
{
        struct thread_clock clock = {};
        struct sample s = asleep(7);
        uint64_t at = DONE + 3 * GRACE;

        thread_clock_feed(&clock, &s, at + 1);
        ck_assert_uint_eq(thread_clock_blocked_at(&clock, DONE, GRACE), at + 1 + GRACE);
}
END_TEST

START_TEST(moving_restarts)
{
        struct thread_clock clock = {};
        struct sample s = asleep(7), running = {.nvcsw = 8};
        uint64_t at = DONE + 50 * MS;

        thread_clock_feed(&clock, &s, at);
        s.nivcsw++;
        at += 100 * MS;
        ck_assert_int_eq(thread_clock_feed(&clock, &s, at + 5), 1);
        ck_assert_uint_eq(thread_clock_blocked_at(&clock, DONE, GRACE), at + 5 + GRACE);

        ck_assert_int_eq(thread_clock_feed(&clock, &running, at), 0);
        ck_assert_uint_eq(thread_clock_blocked_at(&clock, DONE, GRACE), UINT64_MAX);
        /* Back in a sleep, with the counts as they were (it was held): a new clock all the same. */
        at += 100 * MS;
        thread_clock_feed(&clock, &s, at);
        ck_assert_uint_eq(thread_clock_blocked_at(&clock, DONE, GRACE), at + GRACE);
}
END_TEST

START_TEST(suspend_restarts)
{
        struct thread_clock clock = {};
        struct sample s = asleep(7);
        uint64_t at = DONE + 50 * MS;

        thread_clock_feed(&clock, &s, at);
        thread_clock_restart(&clock, &s, DONE + GRACE - 1);
        ck_assert_uint_eq(thread_clock_blocked_at(&clock, DONE, GRACE), DONE + GRACE - 1 + GRACE);
}
END_TEST

START_TEST(ignoring)
{
        struct thread_clock clock = {};
        struct sample s = {.state = 0, .nvcsw = 1};
        unsigned int percent = 0;
        uint64_t at = DONE + 50 * MS;

        thread_clock_feed(&clock, &s, at);
        /* Busy: at grace, not before. */
        s.runtime_nsec = (GRACE / 2) * 1000;
        ck_assert(!thread_clock_ignoring(&clock, &s, DONE + GRACE - 1, DONE, GRACE, &percent));
        ck_assert(thread_clock_ignoring(&clock, &s, DONE + GRACE, DONE, GRACE, &percent));
        ck_assert_uint_ge(percent, 49);
        ck_assert_uint_le(percent, 51);
        ck_assert(!thread_clock_ignoring(&clock, &s, DONE + GRACE, DONE, UINT64_MAX, &percent));
        /* Hardly ever awake: after two. */
        s.runtime_nsec = 1000000;
        ck_assert(!thread_clock_ignoring(&clock, &s, DONE + GRACE + GRACE / 2, DONE, GRACE, &percent));
        ck_assert(thread_clock_ignoring(&clock, &s, DONE + 3 * GRACE, DONE, GRACE, &percent));
        /* In a sleep that may turn out to last. */
        s.state = 1;
        thread_clock_feed(&clock, &s, DONE + 2 * GRACE);
        ck_assert(!thread_clock_ignoring(&clock, &s, DONE + 3 * GRACE, DONE, GRACE, &percent));
        /* Stopped. */
        s.state = 0x104;
        ck_assert(!thread_clock_ignoring(&clock, &s, DONE + 3 * GRACE, DONE, GRACE, &percent));
}
END_TEST

/* It was woken, and waits for a CPU that others have: it had no chance to leave. */
START_TEST(starved)
{
        struct thread_clock clock = {};
        struct sample s = {.state = 0, .nvcsw = 1, .runtime_nsec = 5000};
        unsigned int percent = 0;

        thread_clock_feed(&clock, &s, DONE + 50 * MS);
        ck_assert(!thread_clock_ignoring(&clock, &s, DONE + 10 * GRACE, DONE, GRACE, &percent));
        s.nivcsw++; /* it has had a turn, and is still there */
        ck_assert(thread_clock_ignoring(&clock, &s, DONE + 10 * GRACE, DONE, GRACE, &percent));
        thread_clock_restart(&clock, &s, DONE + GRACE);
        ck_assert(!thread_clock_ignoring(&clock, &s, DONE + 10 * GRACE, DONE, GRACE, &percent));
        s.runtime_nsec++;
        ck_assert(thread_clock_ignoring(&clock, &s, DONE + 10 * GRACE, DONE, GRACE, &percent));
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {activity, baseline_then_grace, late_baseline, moving_restarts,
                        suspend_restarts, ignoring, starved, NULL};

        return run_tests("judge", tests);
}
