/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <stdlib.h>

#include "tests/world/world.h"

/* Without BPF members are read from /proc one by one. That is done in parts, between which others are served,
 * and between which anything may happen. */

#define KIN 40
#define PART 3
#define AT_FIRST 24 /* files are read before others have turns */

static const struct policy term = {.signal = SIGTERM, .kill_after_usec = CTXD_USEC_INFINITY};
static const struct policy quiet = {.kill_after_usec = CTXD_USEC_INFINITY};

/* A member with so many children, which count their signals; it ignores its own. */
static struct child *family(struct context *c, const struct policy *policy)
{
        struct child *child = child_start(child_breed);

        attach(c, child, policy);
        for (int i = 0; i < KIN; i++)
                breed(child, "f");
        return child;
}

static struct members_look *look_at(struct context *c)
{
        struct members_look *l;

        ck_assert_int_eq(engine_look(world.engine, c, true, true, &l), 0);
        return l;
}

/* Goes on until it is over; how many parts that took. */
static unsigned finish(struct members_look *l)
{
        size_t n = members_look_count(l);
        unsigned parts = 1;
        int r;

        for (; (r = members_look_go(l, PART)) == 0; parts++) {
                ck_assert_uint_le(members_look_count(l) - n, PART);
                n = members_look_count(l);
        }
        ck_assert_int_eq(r, 1);
        return parts;
}

START_TEST(law48_members_are_looked_at_in_parts)
{
        struct context *c = make("a");
        struct member_process *list;
        struct members_look *l;
        size_t n;

        family(c, &quiet);
        l = look_at(c);
        ck_assert_uint_ge(finish(l), KIN / PART);
        ck_assert_int_eq(members_look_processes(l, &list, &n), 0);
        ck_assert_uint_eq(n, KIN + 1);
        for (size_t i = 1; i < n; i++)
                ck_assert_uint_lt(list[i - 1].pid, list[i].pid);
        free(list);
        members_look_free(l);
}
END_TEST

/* What the engine opens and reads: the linker puts these in the place of open() and read(). */
static unsigned n_opened, n_read;

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...); /* creates none */
ssize_t __real_read(int fd, void *buffer, size_t size);
ssize_t __wrap_read(int fd, void *buffer, size_t size);

int __wrap_open64(const char *path, int flags, ...)
{
        n_opened++;
        return __real_open64(path, flags);
}

ssize_t __wrap_read(int fd, void *buffer, size_t size)
{
        n_read++;
        return __real_read(fd, buffer, size);
}

#define OF_LISTS 8 /* are read beside the members */

/* What its members are is asked without a pause, and so is how many they are. Each is read once, and once
 * whether it has children, and once more when it is seen first. */
START_TEST(law48_a_member_is_read_once)
{
        struct context *c = make("a");
        struct member_task *tasks;
        size_t n;

        family(c, &quiet);
        for (unsigned most = 3; most > 1; most--) {
                n_opened = n_read = 0;
                ck_assert_int_eq(engine_tasks(world.engine, c, true, &tasks, &n), 0);
                ck_assert_uint_eq(n, KIN + 1);
                ck_assert_uint_le(n_opened, most * (KIN + 1) + OF_LISTS);
                ck_assert_uint_le(n_read, most * (KIN + 1) + OF_LISTS);
                free(tasks);
        }
}
END_TEST

/* What the pidfd is, and once what the process is, and its uids. Where there are control groups, who is in
 * its group is read, too. */
START_TEST(law48_who_is_attached_is_read_once)
{
        struct child *child = child_start(child_sleep);
        struct context *c = make("a");

        n_opened = n_read = 0;
        attach(c, child, &quiet);
        ck_assert_uint_le(n_opened, 5);
        ck_assert_uint_le(n_read, 5);
}
END_TEST

START_TEST(what_goes_between_parts)
{
        struct context *c = make("a"), *below = make("a/b"), *other = make("c");
        struct child *child = family(c, &quiet), *second = family(below, &quiet);
        struct members_look *left = look_at(c), *moved = look_at(c), *gone = look_at(c), *never = look_at(c);
        struct member_process *list;
        struct refused refused = {};
        size_t n;

        if (_i == 1) /* its children are known by now, and stay */
                ck_assert_uint_eq(engine_count_members(world.engine, below, false), KIN + 1);
        for (int i = 0; i < 4; i++) {
                ck_assert_int_eq(members_look_go(left, PART), 0);
                ck_assert_int_eq(members_look_go(moved, PART), 0);
                ck_assert_int_eq(members_look_go(gone, PART), 0);
        }
        kill(second->pid, SIGKILL);
        (void) child_wait(second);
        (void) finish(left);
        ck_assert_int_eq(engine_attach(world.engine, &(struct caller){.uid = 0}, other, child->pidfd, &quiet,
                                         &refused),
                        0);
        world_drain(NULL);
        (void) finish(moved);
        if (_i == 1)
                ck_assert_uint_eq(engine_count_members(world.engine, c, true), KIN);
        (void) cancel(c);
        (void) finish(gone);
        ck_assert_int_eq(members_look_processes(left, &list, &n), 0);
        free(list);
        members_look_free(left);
        members_look_free(moved);
        members_look_free(gone);
        members_look_free(never);
        ck_assert_uint_eq(engine_count_members(world.engine, other, false), KIN + 1);
}
END_TEST

/* Expects that the family tells of so many signals that were sent before, and of no more. */
static void expect_signals(struct child *c, unsigned n)
{
        while (n > 0) {
                char byte = child_say(c);

                ck_assert_int_ne(byte, 0);
                n -= byte == 'T';
        }
        run_for(100000); /* in which there are other passes */
        ck_assert(child_silent(c));
}

struct told {
        struct child *child;
        unsigned signals, wanted;
};

static bool is_not_told_of_all(void *userdata)
{
        struct told *t = userdata;

        while (t->signals < t->wanted && is_readable(t->child->out))
                t->signals += child_say(t->child) == 'T';
        return t->signals < t->wanted;
}

/* The same, of signals that other passes send. */
static void expect_later_signals(struct child *c, unsigned n)
{
        run_while(is_not_told_of_all, &(struct told){c, .wanted = n});
        expect_signals(c, 0);
}

START_TEST(law48_a_cancel_signals_in_parts)
{
        struct context *c = make("a");
        struct child *child = family(c, &term);
        struct signal_pass *p;
        unsigned parts = 0;
        uint32_t n, more;

        n_opened = 0;
        n = cancel(c);
        ck_assert_uint_lt(n, KIN);
        ck_assert_uint_le(n_opened, AT_FIRST);
        p = engine_take_signals(world.engine);
        ck_assert_ptr_nonnull(p);
        while (engine_signals_go(world.engine, p, PART, &more) == 0)
                parts++;
        ck_assert_uint_ge(parts, KIN / PART);
        ck_assert_uint_eq(n + more, KIN + 1);
        engine_signals_let_go(world.engine, p);
        expect_signals(child, KIN);
}
END_TEST

START_TEST(law_32_a_child_that_is_born_between_parts)
{
        struct context *c = make("a");
        struct child *child = family(c, &term);
        struct signal_pass *p;
        unsigned n = 0;
        char byte;
        uint32_t more;

        cancel_only(c);
        world_drain(c);
        p = engine_take_signals(world.engine);
        ck_assert_ptr_nonnull(p);
        for (int i = 0; i < 8; i++)
                ck_assert_int_eq(engine_signals_go(world.engine, p, PART, &more), 0);
        child_tell(child, 'f');
        while ((byte = child_say(child)) != '!') {
                ck_assert_int_eq(byte, 'T');
                n++;
        }
        while (engine_signals_go(world.engine, p, PART, &more) == 0) {
        }
        engine_signals_let_go(world.engine, p);
        expect_later_signals(child, KIN + 1 - n);
}
END_TEST

START_TEST(law_32_in_parts_that_nobody_waits_for)
{
        struct context *c = make("a");
        struct child *child = family(c, &term);

        cancel_only(c);
        world_drain(NULL);
        ck_assert_ptr_null(engine_take_signals(world.engine));
        expect_later_signals(child, KIN);
}
END_TEST

START_TEST(law_32_in_parts_that_are_finished_at_the_end)
{
        struct context *c = make("a");
        struct child *child = family(c, &term);

        (void) cancel(c);
        engine_signals_finish(world.engine);
        expect_signals(child, KIN);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {law48_members_are_looked_at_in_parts, law48_a_member_is_read_once,
                        law48_who_is_attached_is_read_once, law48_a_cancel_signals_in_parts,
                        law_32_a_child_that_is_born_between_parts, law_32_in_parts_that_nobody_waits_for,
                        law_32_in_parts_that_are_finished_at_the_end, NULL};
        Suite *s = suite_create("look");
        TCase *c = tcase_create("look");

        tcase_add_checked_fixture(c, world_start, world_stop);
        for (size_t i = 0; tests[i]; i++)
                tcase_add_test(c, tests[i]);
        tcase_add_loop_test(c, what_goes_between_parts, 0, 2);
        suite_add_tcase(s, c);
        return run_suite(s);
}
