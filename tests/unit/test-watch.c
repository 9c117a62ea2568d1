/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <sys/epoll.h>
#include <unistd.h>

#include "util/epoll-set.h"
#include "util/watch.h"
#include "tests/harness/suite.h"

#define MANY 500
#define AT_ONCE_MAX 100

static struct pair {
        struct watch watch; /* first */
        int ends[2];
} pairs[MANY];
static unsigned n_ready;
static struct pair *ends_with_it;
static sd_event *event;
static struct watches *watches;

static void note(struct watch *w)
{
        n_ready++;
        watch_end(w);
        if (ends_with_it)
                watch_end(&ends_with_it->watch);
}

static void count(struct watch *w)
{
        n_ready++;
}

static void begin(struct pair *p, uint32_t events)
{
        p->watch.ready = note;
        ck_assert_int_eq(pipe(p->ends), 0);
        ck_assert_int_eq(watch_begin(watches, &p->watch, p->ends[0], events), 0);
}

static void setup(void)
{
        fds_before();
        ck_assert_int_ge(sd_event_new(&event), 0);
        ck_assert_int_eq(watches_new(&watches, event), 0);
}

static void teardown(void)
{
        for (unsigned i = 0; i < MANY; i++) {
                watch_end(&pairs[i].watch);
                if (pairs[i].ends[1] > 0)
                        close(pairs[i].ends[1]);
                if (pairs[i].ends[0] > 0)
                        close(pairs[i].ends[0]);
        }
        watches_free(watches);
        sd_event_unref(event);
        fds_after();
}

static void hang_up(struct pair *p)
{
        close(p->ends[1]);
        p->ends[1] = 0;
}

START_TEST(many_are_told_a_few_in_each_turn)
{
        unsigned before, turns = 0;

        for (unsigned i = 0; i < MANY; i++)
                begin(&pairs[i], 0);
        ck_assert_int_eq(sd_event_run(event, 0), 0);
        for (unsigned i = 0; i < MANY; i++)
                hang_up(&pairs[i]);
        for (; n_ready < MANY; turns++) {
                before = n_ready;
                ck_assert_int_gt(sd_event_run(event, 60000000), 0);
                ck_assert_uint_le(n_ready - before, AT_ONCE_MAX);
        }
        ck_assert_uint_le(turns, MANY / 10);
        while (sd_event_run(event, 0) > 0)
                ;
        ck_assert_uint_eq(n_ready, MANY);
}
END_TEST

START_TEST(each_wakes_the_loop_and_is_told_once)
{
        for (unsigned i = 0; i < 3; i++) {
                begin(&pairs[i], EPOLLIN);
                ck_assert_int_eq(write(pairs[i].ends[1], "", 1), 1); /* and nobody reads it */
                while (n_ready == i)
                        ck_assert_int_gt(sd_event_run(event, 60000000), 0);
                while (sd_event_run(event, 0) > 0)
                        ;
                ck_assert_uint_eq(n_ready, i + 1);
        }
}
END_TEST

static int note_wake(sd_event_source *source, void *userdata)
{
        n_ready++;
        return 0;
}

/* More often than the kernel keeps a list of. */
START_TEST(thousands_of_wakes)
{
        struct epoll_event in = {.events = EPOLLIN};
        struct epoll_set set;
        int ends[2];
        char byte;

        ck_assert_int_eq(pipe(ends), 0);
        ck_assert_int_ge(epoll_set_init(&set, event, note_wake, NULL), 0);
        ck_assert_int_eq(epoll_ctl(set.fd, EPOLL_CTL_ADD, ends[0], &in), 0);
        for (unsigned i = 1; i <= 5000; i++) {
                ck_assert_int_eq(write(ends[1], "", 1), 1);
                while (n_ready < i)
                        ck_assert_int_gt(sd_event_run(event, 60000000), 0);
                ck_assert_int_eq(read(ends[0], &byte, 1), 1);
                ck_assert_int_eq(epoll_set_arm(&set), 0);
                ck_assert_int_eq(epoll_set_arm(&set), 0); /* it is armed: nothing is done */
                ck_assert_int_eq(sd_event_run(event, 0), 0);
        }
        epoll_set_deinit(&set);
        close(ends[0]);
        close(ends[1]);
}
END_TEST

START_TEST(once_more_when_asked)
{
        struct pair *p = &pairs[0];
        char byte;

        begin(p, EPOLLIN);
        p->watch.ready = count;
        ck_assert_int_eq(write(p->ends[1], "", 1), 1);
        while (sd_event_run(event, 0) > 0)
                ;
        ck_assert_uint_eq(n_ready, 1);
        ck_assert_int_eq(watch_again(&p->watch), 0); /* it is still ready */
        while (sd_event_run(event, 0) > 0)
                ;
        ck_assert_uint_eq(n_ready, 2);
        ck_assert_int_eq(read(p->ends[0], &byte, 1), 1);
        ck_assert_int_eq(watch_again(&p->watch), 0);
        while (sd_event_run(event, 0) > 0)
                ;
        ck_assert_uint_eq(n_ready, 2);
}
END_TEST

/* The two are taken together, and whichever comes first ends the other. */
START_TEST(what_is_ended_is_not_told)
{
        struct pair *a = &pairs[0], *b = &pairs[1];

        begin(a, 0);
        begin(b, 0);
        ends_with_it = b;
        hang_up(a);
        hang_up(b);
        while (sd_event_run(event, 0) > 0)
                ;
        ck_assert_uint_eq(n_ready, 1);
        ck_assert_ptr_null(b->watch.watches);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("watch");
        TCase *c = add_case(s, "watch",
                        (const TTest *const[]){many_are_told_a_few_in_each_turn,
                                        each_wakes_the_loop_and_is_told_once, thousands_of_wakes,
                                        what_is_ended_is_not_told, once_more_when_asked, NULL});

        tcase_add_checked_fixture(c, setup, teardown);
        return run_suite(s);
}
