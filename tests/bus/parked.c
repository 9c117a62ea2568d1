/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A long reply waits until the bus has taken all that was sent, but not for ever: others may keep a slow bus
 * busy. The test says what the time is, and that the bus has never taken all. */

#include <errno.h>

#include "daemon/bus/park.h"
#include "daemon/bus/walk.h"
#include "inside.h"
#include "told-time.h"

#define LONG_BYTES 40000
#define PARKED_USEC 200000 /* as park.c has it */
#define EVENTS 100
#define SOME_UID 1001

int __wrap_sd_bus_get_n_queued_write(sd_bus *b, uint64_t *ret);
int __wrap_sd_bus_get_n_queued_write(sd_bus *b, uint64_t *ret)
{
        *ret = 1;
        return 0;
}

static bool is_short; /* memory */

int __real_sd_event_add_post(sd_event *e, sd_event_source **ret, sd_event_handler_t cb, void *userdata);
int __wrap_sd_event_add_post(sd_event *e, sd_event_source **ret, sd_event_handler_t cb, void *userdata);
int __wrap_sd_event_add_post(sd_event *e, sd_event_source **ret, sd_event_handler_t cb, void *userdata)
{
        return is_short ? -ENOMEM : __real_sd_event_add_post(e, ret, cb, userdata);
}

int __real_sd_event_add_time(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec,
                uint64_t accuracy, sd_event_time_handler_t cb, void *userdata);
int __wrap_sd_event_add_time(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec,
                uint64_t accuracy, sd_event_time_handler_t cb, void *userdata);
int __wrap_sd_event_add_time(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec,
                uint64_t accuracy, sd_event_time_handler_t cb, void *userdata)
{
        return is_short ? -ENOMEM : __real_sd_event_add_time(e, ret, clock, usec, accuracy, cb, userdata);
}

static void pass(uint64_t usec)
{
        now.tv_nsec += (long) usec * 1000;
        now.tv_sec += now.tv_nsec / 1000000000;
        now.tv_nsec %= 1000000000;
}

static struct endpoint a_bus;
static struct walk w;
static unsigned n_turns;

/* It would be parked again if it still had to wait. */
static void on_turn(struct taker *taker)
{
        n_turns += !park(&w);
}

static void begin(void)
{
        inside_setup();
        ck_assert_int_eq(__real_clock_gettime(CLOCK_MONOTONIC, &now), 0);
        a_bus.service = &service;
        w.request.service = &service;
        w.request.endpoint = &a_bus;
        w.bytes = LONG_BYTES;
        ck_assert_int_ge(taker_init(&w.taker, &service.turns, SOME_UID, on_turn), 0);
}

static void setup(void)
{
        begin();
        ck_assert(park(&w));
}

/* Who could not wait would ask for a turn again and again. */
static void setup_without_memory(void)
{
        begin();
        is_short = true;
        ck_assert(park(&w));
        is_short = false;
}

static void teardown(void)
{
        taker_deinit(&w.taker);
        inside_teardown();
}

static int on_event(sd_event_source *source, void *userdata)
{
        return 0;
}

/* Something happens, and then what comes of it. The timer goes by the real time, and may come too early. */
static void something_happens(void)
{
        sd_event_source *source;

        ck_assert_int_ge(sd_event_add_defer(event, &source, on_event, NULL), 0);
        for (unsigned i = 0; i < EVENTS && sd_event_run(event, 0) > 0; i++)
                ;
        sd_event_source_unref(source);
}

START_TEST(law48_a_busy_bus_is_not_waited_for_for_ever)
{
        for (unsigned i = 0; i < EVENTS; i++) {
                something_happens();
                ck_assert_uint_eq(n_turns, 0);
                pass(PARKED_USEC / EVENTS);
        }
        something_happens();
        ck_assert_uint_eq(n_turns, 1);
        ck_assert(!w.is_parked);
}
END_TEST

/* Not even an event comes. */
START_TEST(law48_a_bus_that_stands_still_is_not_waited_for_for_ever)
{
        something_happens();
        ck_assert_uint_eq(n_turns, 0);
        pass(PARKED_USEC);
        ck_assert_int_gt(sd_event_run(event, 60 * SECOND), 0); /* the timer */
        while (sd_event_run(event, 0) > 0)
                ;
        ck_assert_uint_eq(n_turns, 1);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {law48_a_busy_bus_is_not_waited_for_for_ever,
                        law48_a_bus_that_stands_still_is_not_waited_for_for_ever, NULL};
        Suite *s = suite_create("parked");

        tcase_add_checked_fixture(add_case(s, "parked", tests), setup, teardown);
        tcase_add_checked_fixture(add_case(s, "without memory", tests), setup_without_memory, teardown);
        return run_suite(s);
}
