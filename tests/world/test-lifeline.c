/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/world/world.h"

static int lifeline(struct context *c)
{
        struct refused refused = {};
        int fd;

        ck_assert_int_ge(engine_lifeline(world.engine, getuid(), c, &fd, &refused), 0);
        return fd;
}

START_TEST(law_29_the_last_close_cancels)
{
        struct context *c = make("a");
        int first = lifeline(c), second = lifeline(c), copy = dup(first);

        close(first);
        close(second);
        run_for(20000);
        ck_assert(!context_is_done(c));
        close(copy);
        run_until(&world.n_done, 1);
        ck_assert_int_eq(c->state, CONTEXT_CANCELED);
        ck_assert_str_eq(context_cause(c, NULL), "lifeline closed");
}
END_TEST

static void hold(int in, int out)
{
        child_ready(out);
        pause();
}

START_TEST(law_29_a_holder_that_is_killed_lets_go)
{
        struct context *c = make("a");
        int fd = lifeline(c);
        struct child *child;

        ck_assert_int_eq(fcntl(fd, F_SETFD, 0), 0);
        child = child_start(hold); /* which has inherited it */
        close(fd);
        run_for(20000);
        ck_assert(!context_is_done(c));
        kill(child->pid, SIGKILL);
        run_until(&world.n_done, 1);
        ck_assert(context_is_done(c));
}
END_TEST

/* Who writes could lock it. And what one holder does to it is nothing to the others. */
START_TEST(a_holder_can_do_nothing_but_close_it)
{
        struct context *c = make("a");
        int fd = lifeline(c), copy = dup(fd);
        char byte;

        ck_assert_int_eq(write(fd, "", 1), -1);
        ck_assert_int_eq(errno, EBADF);
        ck_assert_int_eq(read(fd, &byte, 1), -1);
        ck_assert_int_eq(errno, EAGAIN);
        ck_assert_int_eq(shutdown(fd, SHUT_RDWR), -1);
        close(fd);
        run_for(20000);
        ck_assert(!context_is_done(c));
        close(copy);
        run_until(&world.n_done, 1);
}
END_TEST

START_TEST(several_are_charged_once)
{
        struct context *c = make("a");
        uint64_t used = c->user->used[RESOURCE_HANDLES];
        int first = lifeline(c), second = lifeline(c);

        ck_assert_uint_eq(c->user->used[RESOURCE_HANDLES], used + 1);
        close(first);
        close(second);
        run_until(&world.n_done, 1);
        ck_assert_uint_eq(c->user->used[RESOURCE_HANDLES], used);
}
END_TEST

START_TEST(a_done_context_has_none)
{
        struct context *c = make("a"), *other = make("b");
        struct refused refused = {};
        int fd = lifeline(c), none;
        uint64_t used = c->user->used[RESOURCE_HANDLES];

        cancel(c);
        ck_assert_uint_eq(c->user->used[RESOURCE_HANDLES], used - 1); /* given back */
        ck_assert_int_eq(engine_lifeline(world.engine, getuid(), c, &none, &refused), -EALREADY);
        ck_assert_int_eq(refused.reason, REFUSED_DONE);
        ck_assert_str_eq(refused.path, "a#1");
        close(fd);
        run_for(20000);
        ck_assert(!context_is_done(other));
        ck_assert_uint_eq(world.n_done, 1);
}
END_TEST

START_TEST(limits_are_the_handles)
{
        struct context *c = make("a");
        struct refused refused = {};
        int none;

        world.tree->users.limit[RESOURCE_HANDLES] = 0;
        ck_assert_int_eq(engine_lifeline(world.engine, getuid(), c, &none, &refused), -EDQUOT);
        ck_assert_str_eq(refused.limit_key, "MaxHandlesPerUser");
}
END_TEST

static int drained_handle(struct context *c)
{
        struct refused refused = {};
        struct process *p;
        int fd;

        ck_assert_int_eq(engine_process_open_pid(world.engine, getpid(), &p), 0);
        ck_assert_int_ge(engine_handle(world.engine, p, 0, c, HANDLE_DRAINED, &fd, &refused), 0);
        fd = dup(fd);
        engine_process_close(p);
        return fd;
}

START_TEST(law_31_drained_when_the_last_member_below_has_left)
{
        struct policy policy = {.kill_after_usec = UINT64_MAX, .uid = getuid()};
        struct context *a = make("a"), *b = make("a/b");
        struct child *child = child_start(child_sleep);
        int fd = drained_handle(a);

        attach(b, child, &policy);
        cancel(a);
        ck_assert(!is_readable(fd));
        run_for(20000);
        ck_assert(!is_readable(fd));
        kill(child->pid, SIGKILL);
        child_wait(child);
        for (unsigned i = 0; i < 500 && !is_readable(fd); i++)
                run_for(10000);
        ck_assert(is_readable(fd));
        ck_assert(b->drained_usec > 0 && a->drained_usec >= b->drained_usec);
        close(fd);
}
END_TEST

START_TEST(law_31_drained_at_once_without_members)
{
        struct context *c = make("a");
        int fd = drained_handle(c), later;

        ck_assert(!is_readable(fd));
        cancel(c);
        ck_assert(is_readable(fd));
        later = drained_handle(c); /* born signalled */
        ck_assert(is_readable(later));
        close(fd);
        close(later);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("lifeline");
        TCase *c = tcase_create("lifeline");

        tcase_add_checked_fixture(c, world_start, world_stop);
        tcase_set_timeout(c, 60);
        tcase_add_test(c, law_29_the_last_close_cancels);
        tcase_add_test(c, law_29_a_holder_that_is_killed_lets_go);
        tcase_add_test(c, a_holder_can_do_nothing_but_close_it);
        tcase_add_test(c, several_are_charged_once);
        tcase_add_test(c, a_done_context_has_none);
        tcase_add_test(c, limits_are_the_handles);
        tcase_add_test(c, law_31_drained_when_the_last_member_below_has_left);
        tcase_add_test(c, law_31_drained_at_once_without_members);
        suite_add_tcase(s, c);
        return run_suite(s);
}
