/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/law/local.h"

/* Law 12 with clocks of our own (the linker puts __wrap_clock_gettime() in place of the real one): steps,
 * suspends, a coarse clock that lags, and what happens between two reads. */

#define HOUR UINT64_C(3600000000)
#define TICK 4000

static uint64_t mono_usec = 1000000, suspended_usec, coarse_usec;
static unsigned n_reads;          /* of CLOCK_BOOTTIME */
static unsigned hook_in;          /* reads until before_read() is called */
static void (*before_read)(void); /* what happens before the next read */

/* The vDSO would go past the wrapper. */
void *__wrap_dlopen(const char *name, int flags);
void *__wrap_dlopen(const char *name, int flags)
{
        return NULL;
}

static void advance(uint64_t usec)
{
        mono_usec += usec;
}

static void tick(void)
{
        coarse_usec = mono_usec;
}

/* The kernel moves the coarse clock before and after, but hardly any time of its own passes. */
static void suspend(uint64_t usec)
{
        advance(1);
        tick();
        suspended_usec += usec;
        advance(1);
        tick();
}

static uint64_t boottime(void)
{
        return mono_usec + suspended_usec;
}

int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
        void (*hook)(void) = hook_in == 0 ? before_read : NULL;
        uint64_t usec;

        if (clock != CLOCK_BOOTTIME && clock != CLOCK_MONOTONIC_COARSE)
                return __real_clock_gettime(clock, ret);
        if (hook_in > 0)
                hook_in--;
        if (hook) {
                before_read = NULL;
                hook();
        }
        n_reads += clock == CLOCK_BOOTTIME;
        usec = clock == CLOCK_BOOTTIME ? boottime() : coarse_usec;
        *ret = (struct timespec){
                        .tv_sec = (time_t) (usec / 1000000), .tv_nsec = (long) (usec % 1000000 * 1000)};
        return 0;
}

static void look(struct ctx *ctx)
{
        ck_assert_int_le(ctx_err(ctx), 0);
}

START_TEST(law_12_neither_early_nor_late)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 3000000);
        uint64_t deadline;

        ck_assert_int_eq(ctx_deadline(ctx, &deadline), 1);
        for (; boottime() < deadline; advance(1000)) {
                ck_assert_int_eq(ctx_err(ctx), 0);
                if (mono_usec % TICK == 0)
                        tick();
        }
        ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
}
END_TEST

START_TEST(law_12_a_suspend)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), HOUR);
        CTX_AUTO_UNREF struct ctx *longer = ctx_with_timeout(ctx_background(), 2 * HOUR);

        tick();
        ck_assert_int_eq(ctx_err(ctx), 0);
        suspend(HOUR);
        ck_assert_int_eq(ctx_err(longer), 0);
        ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
        suspend(HOUR);
        ck_assert_int_eq(ctx_err(longer), -ETIMEDOUT);
}
END_TEST

/* The processor that moves the coarse clock does not run. */
START_TEST(law_12_a_coarse_clock_that_stands_still)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 1500000);

        tick();
        ck_assert_int_eq(ctx_err(ctx), 0);
        advance(900000);
        ck_assert_int_eq(ctx_err(ctx), 0);
        tick();
        ck_assert_int_eq(ctx_err(ctx), 0);
        advance(600000);
        ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
}
END_TEST

static void suspend_for_an_hour(void)
{
        suspend(HOUR);
}

START_TEST(law_12_a_suspend_between_two_reads)
{
        for (unsigned i = 0; i < 6; i++) {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 2 * HOUR);

                tick();
                if (i % 2)
                        look(ctx);
                advance(TICK);
                tick();
                before_read = suspend_for_an_hour;
                hook_in = i / 2;
                ck_assert_int_eq(ctx_err(ctx), 0);
                if (before_read)
                        suspend_for_an_hour(); /* there were not so many reads */
                before_read = NULL;
                advance(HOUR - 2 * TICK);
                ck_assert_int_eq(ctx_err(ctx), 0);
                advance(TICK);
                tick();
                ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
        }
}
END_TEST

static struct ctx *handlers;

static void handler_after_an_hour(void)
{
        suspend(HOUR);
        look(handlers);
}

/* A signal handler looks while the thread that it interrupts does. */
START_TEST(law_12_a_look_within_a_look)
{
        CTX_AUTO_UNREF struct ctx *far = ctx_with_timeout(ctx_background(), 10 * HOUR);
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), HOUR + HOUR / 2);

        handlers = far;
        for (int i = 0; i < 2; i++) {
                advance(TICK);
                tick();
                before_read = handler_after_an_hour;
                ck_assert_int_eq(ctx_err(far), 0);
                ck_assert_int_eq(ctx_err(ctx), i == 0 ? 0 : -ETIMEDOUT);
        }
}
END_TEST

static uint64_t random_number(void)
{
        static uint64_t state = 88172645463325252;

        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state;
}

static void anything(void)
{
        switch (random_number() % 8) {
        case 0:
                suspend(random_number() % HOUR);
                break;
        case 1:
        case 2:
                look(handlers);
                break;
        default:
                advance(random_number() % (2 * TICK));
                break;
        }
        if (mono_usec - coarse_usec > random_number() % 500000)
                tick();
}

START_TEST(law_12_whatever_happens)
{
        CTX_AUTO_UNREF struct ctx *far = ctx_with_timeout(ctx_background(), 1000000 * HOUR);

        handlers = far;
        for (int round = 0; round < 20000; round++) {
                uint64_t deadline = boottime() + random_number() % (1 << random_number() % 32);
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_deadline(ctx_background(), deadline);

                for (int i = 0; i < 30; i++) {
                        bool was_over, within = random_number() % 4 == 0;
                        int r;

                        anything();
                        was_over = boottime() >= deadline;
                        hook_in = (unsigned) (random_number() % 3);
                        before_read = within ? anything : NULL;
                        r = ctx_err(ctx);
                        before_read = NULL;
                        ck_assert(r == 0 || boottime() >= deadline);
                        ck_assert(r == -ETIMEDOUT || !was_over);
                }
        }
}
END_TEST

/* What all this is for. */
START_TEST(the_clock_is_read_once_in_a_tick)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), HOUR);

        advance(TICK);
        tick();
        n_reads = 0;
        for (int i = 0; i < 1000; i++)
                ck_assert_int_eq(ctx_err(ctx), 0);
        ck_assert_uint_eq(n_reads, 1);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_12_neither_early_nor_late,
                        law_12_a_suspend,
                        law_12_a_coarse_clock_that_stands_still,
                        law_12_a_suspend_between_two_reads,
                        law_12_a_look_within_a_look,
                        law_12_whatever_happens,
                        the_clock_is_read_once_in_a_tick,
                        NULL,
        };

        return run_laws("local contexts: clocks", tests);
}
