/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What thousands of clients cause at one moment takes many turns of the loop, and others are served between
 * them (law 48). The tests count what one turn does. They measure no time. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/model/user.h"
#include "util/clock.h"
#include "tests/world/world.h"

#define MANY 2000
/* So many turns may another one wait. */
#define TURNS_MAX 20
/* So much may be done in one turn. */
#define AT_ONCE_MAX 600
#define DEADLINES_AT_ONCE_MAX 3000

struct growth {
        const unsigned *value;
        unsigned wanted;
};

static bool is_less(void *userdata)
{
        const struct growth *g = userdata;

        return *g->value < g->wanted;
}

/* Meanwhile *value goes from 0 to wanted, in steps. */
static void expect_growth(const unsigned *value, unsigned wanted, unsigned most)
{
        expect_turns(is_less, &(struct growth){value, wanted}, value, most, TURNS_MAX);
        ck_assert_uint_eq(*value, wanted);
}

static struct context *make_nth(int n)
{
        char path[32];

        snprintf(path, sizeof path, "storm/%d", n);
        return make(path);
}

START_TEST(law_48_lifelines_that_are_closed_together)
{
        struct refused refused = {};
        static int fds[MANY];

        for (int i = 0; i < MANY; i++)
                ck_assert_int_ge(engine_lifeline(world.engine, getuid(), make_nth(i), &fds[i], &refused), 0);
        run_for(1000);
        for (int i = 0; i < MANY; i++)
                close(fds[i]);
        expect_growth(&world.n_done, MANY, AT_ONCE_MAX);
}
END_TEST

static unsigned n_dropped;

/* Counts, after every turn, which handles and lifelines are gone. */
static int count_dropped(sd_event_source *source, void *userdata)
{
        const struct user *u = userdata;

        n_dropped = MANY - (unsigned) u->used[RESOURCE_HANDLES];
        return 0;
}

START_TEST(law_48_a_process_with_thousands_of_handles)
{
        struct refused refused = {};
        sd_event_source *source;
        struct context *c = NULL;
        struct child *child = child_start(child_sleep);
        struct process *p;
        int fd;

        ck_assert_int_eq(engine_process_open(world.engine, child->pidfd, &p), 0);
        for (int i = 0; i < MANY; i++) {
                c = make_nth(i);
                ck_assert_int_ge(engine_handle(world.engine, p, 0, c, HANDLE_DONE, &fd, &refused), 0);
        }
        engine_process_close(p);
        run_for(1000);
        ck_assert_uint_eq(c->user->used[RESOURCE_HANDLES], MANY);
        ck_assert_int_ge(sd_event_add_post(world.event, &source, count_dropped, c->user), 0);
        kill(child->pid, SIGKILL);
        expect_growth(&n_dropped, MANY, AT_ONCE_MAX);
        sd_event_source_disable_unref(source);
        ck_assert_uint_eq(world.n_done, 0);
}
END_TEST

static void own_thousands_and_die(struct child *child)
{
        struct process *p;

        ck_assert_int_eq(engine_process_open(world.engine, child->pidfd, &p), 0);
        for (int i = 0; i < MANY; i++)
                ck_assert_int_eq(engine_bind_owner(world.engine, make_nth(i), p), 0);
        engine_process_close(p);
        run_for(1000);
        kill(child->pid, SIGKILL);
}

START_TEST(law_48_a_process_that_owns_thousands)
{
        struct child *child = child_start(child_sleep);

        own_thousands_and_die(child);
        expect_growth(&world.n_done, MANY, AT_ONCE_MAX);
}
END_TEST

START_TEST(law_48_the_end_of_thousands_with_lifelines)
{
        struct refused refused = {};
        struct context *c = NULL;
        sd_event_source *source;
        static int fds[MANY];

        for (int i = 0; i < MANY; i++) {
                c = make_nth(i);
                ck_assert_int_ge(engine_lifeline(world.engine, 0, c, &fds[i], &refused), 0);
        }
        run_for(1000);
        ck_assert_int_ge(sd_event_add_post(world.event, &source, count_dropped, c->user), 0);
        cancel_only(c->parent);
        turn_again(&world.turn);
        expect_growth(&n_dropped, MANY, AT_ONCE_MAX);
        sd_event_source_disable_unref(source);
        for (int i = 0; i < MANY; i++)
                close(fds[i]);
}
END_TEST

START_TEST(law_48_deadlines_that_pass_together)
{
        uint64_t soon = now_boottime_usec() + 300000;
        char path[32];

        make("storm");
        for (int i = 0; i < 10 * MANY; i++) {
                snprintf(path, sizeof path, "storm/%d", i);
                make_with_deadline(path, soon);
        }
        world_drain(NULL);
        expect_growth(&world.n_done, 10 * MANY, DEADLINES_AT_ONCE_MAX);
}
END_TEST

/* What is tied to a context costs more than the context. */
START_TEST(law_48_thousands_that_are_forgotten_together)
{
        struct refused refused = {};
        struct page_place place;
        struct context *c = NULL;
        int fd;

        world.tree->retain_usec = 0;
        for (int i = 0; i < 2 * MANY; i++) {
                c = make_nth(i);

                ck_assert_int_eq(engine_page(world.engine, c, &place), 0);
                if (i % 2 == 0) {
                        ck_assert_int_ge(engine_lifeline(world.engine, 0, c, &fd, &refused), 0);
                        close(fd);
                }
        }
        run_for(1000);
        cancel_only(c->parent);
        turn_again(&world.turn);
        expect_growth(&world.n_removed, 2 * MANY + 1, AT_ONCE_MAX);
}
END_TEST

/* The drain of a request comes before its reply. */
#define IN_PASSING_MAX 30

START_TEST(law_48_a_request_does_not_wait_for_the_facts_of_others)
{
        struct child *child = child_start(child_sleep);
        unsigned before;

        own_thousands_and_die(child);
        run_until(&world.n_done, 1);
        before = world.n_done;
        ck_assert_uint_lt(before, MANY);
        world_drain(NULL);
        ck_assert_uint_gt(world.n_done, before);
        ck_assert_uint_le(world.n_done - before, IN_PASSING_MAX);
        run_until(&world.n_done, MANY);
}
END_TEST

#define PROCESSES 60

START_TEST(law_48_threads_that_enter_together)
{
        int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), kicks[PROCESSES], page;
        struct refused refused = {};
        struct context *c = make("storm");
        sd_event_source *source;
        struct process *p;

        for (int i = 0; i < PROCESSES; i++) {
                struct child *child = child_start(child_sleep);

                ck_assert_int_eq(engine_process_open(world.engine, child->pidfd, &p), 0);
                ck_assert_int_ge(engine_threads(world.engine, p, c, &page, &kicks[i], &refused), 0);
                engine_process_close(p);
        }
        ck_assert_int_ge(sd_event_add_io(world.event, &source, other, EPOLLIN, serve_another, NULL), 0);
        run_for(1000);
        for (int i = 0; i < PROCESSES; i++)
                ck_assert_int_eq(eventfd_write(kicks[i], 1), 0);
        ck_assert_int_ge(sd_event_run(world.event, 1000000), 0);
        ck_assert_int_eq(eventfd_write(other, 1), 0);
        for (unsigned turns = 0; n_served == 0; turns++) {
                ck_assert_uint_le(turns, TURNS_MAX);
                ck_assert_int_ge(sd_event_run(world.event, 1000000), 0);
        }
        sd_event_source_disable_unref(source);
        close(other);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("storm");
        TCase *c = tcase_create("storm");

        tcase_add_checked_fixture(c, world_start, world_stop);
        tcase_set_timeout(c, 120);
        tcase_add_test(c, law_48_lifelines_that_are_closed_together);
        tcase_add_test(c, law_48_a_process_with_thousands_of_handles);
        tcase_add_test(c, law_48_a_process_that_owns_thousands);
        tcase_add_test(c, law_48_the_end_of_thousands_with_lifelines);
        tcase_add_test(c, law_48_deadlines_that_pass_together);
        tcase_add_test(c, law_48_thousands_that_are_forgotten_together);
        tcase_add_test(c, law_48_a_request_does_not_wait_for_the_facts_of_others);
        tcase_add_test(c, law_48_threads_that_enter_together);
        suite_add_tcase(s, c);
        return run_suite(s);
}
