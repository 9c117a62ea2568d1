/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdatomic.h>

#include "lib/ctxclient.h"
#include "lib/local/nest.h"
#include "lib/local/poll-fd.h"
#include "tests/interleave/tester.h"

/* Local contexts with a deadline. */

#define SOON 1000

static struct ctx *parent, *child, *other, *top;
static _Atomic int was_first;

static void with_deadline(void)
{
        parent = ctx_with_timeout(ctx_background(), SOON);
        child = ctx_with_cancel(parent);
}

static void with_children(void)
{
        parent = ctx_with_cancel(ctx_background());
        child = ctx_with_timeout(parent, SOON);
        other = ctx_with_timeout(child, SOON);
}

static void free_all(void)
{
        ctx_unref(other);
        ctx_unref(child);
        ctx_unref(parent);
}

static void pass(void)
{
        clock_advance(SOON);
}

static void look(void)
{
        int before = ctx_err(child), after = ctx_err(child);

        EXPECT(!before || before == after);
}

static void wait_for_child(void)
{
        EXPECT(ctx_wait(child, UINT64_MAX) < 0);
}

static void cancel(void)
{
        atomic_store(&was_first, ctx_cancel(parent));
}

/* Law 13: the cancel was before the deadline. */
static void cancel_then_pass(void)
{
        cancel();
        clock_advance(SOON);
}

static void it_was_the_cancel(void)
{
        EXPECT(was_first == 1);
        EXPECT(ctx_err(parent) == -ECANCELED);
        EXPECT(ctx_err(child) == -ECANCELED);
        free_all();
}

/* Law 12: who looks after it has passed sees it. */
static void pass_then_look(void)
{
        clock_advance(SOON);
        EXPECT(ctx_err(child) != 0);
}

static void whoever_was_first(void)
{
        EXPECT(ctx_err(parent) == (was_first ? -ECANCELED : -ETIMEDOUT));
        free_all();
}

/* Law 9. The time passes only once the parent is done. */
static void pass_during_walk(void)
{
        if (ctx_err(parent))
                clock_advance(SOON);
}

static void children_are_canceled(void)
{
        EXPECT(ctx_err(parent) == -ECANCELED);
        EXPECT(ctx_err(child) == -ECANCELED);
        EXPECT(ctx_err(other) == -ECANCELED);
        free_all();
}

static void look_at_both(void)
{
        (void) !ctx_err(other);
        (void) !ctx_err(child);
}

static void descriptor(void)
{
        EXPECT(ctx_done_fd(child) >= 0);
}

static void descriptor_is_readable(void)
{
        EXPECT(fd_is_readable(ctx_done_fd(child)));
        free_all();
}

/* Two threads move one deadline. Whichever is last, what is below ends when it has come. */

static uint64_t begin_usec;
static struct ctx_after *after;
static _Atomic int n_ready;
static bool was_called;

static void with_descriptor(void)
{
        begin_usec = clock_now();
        parent = ctx_with_cancel(ctx_background());
        child = ctx_with_cancel(parent);
        EXPECT(ctx_done_fd(child) >= 0);
}

static void call(void *userdata)
{
        was_called = true;
}

static void with_callback(void)
{
        begin_usec = clock_now();
        parent = ctx_with_timeout(ctx_background(), SOON);
        after = ctx_after_func(parent, call, NULL);
}

/* The last one of n lets the time pass. */
static void ready(int n)
{
        uint64_t deadline;

        if (atomic_fetch_add(&n_ready, 1) + 1 < n)
                return;
        EXPECT(ctx_deadline(parent, &deadline) == 1);
        if (deadline > clock_now())
                clock_advance(deadline - clock_now());
}

static void move_to_5(void)
{
        (void) !ctx_extend(parent, begin_usec + 5 * SOON);
        ready(2);
}

static void move_to_20(void)
{
        (void) !ctx_extend(parent, begin_usec + 20 * SOON);
        ready(2);
}

static void child_is_told(void)
{
        EXPECT(fd_is_readable(ctx_done_fd(child)));
        free_all();
}

static void move_to_5_of_three(void)
{
        (void) !ctx_extend(parent, begin_usec + 5 * SOON);
        ready(3);
}

static void move_to_20_of_three(void)
{
        (void) !ctx_extend(parent, begin_usec + 20 * SOON);
        ready(3);
}

static void pass_of_three(void)
{
        clock_advance(SOON);
        ready(3);
}

/* Two walks of threads that share a stripe. */
static void with_two_trees(void)
{
        n_stripes = 1;
        parent = ctx_with_cancel(ctx_background());
        child = ctx_with_timeout(parent, SOON);
        top = ctx_with_cancel(ctx_background());
        other = ctx_with_cancel(top);
}

static void cancel_top(void)
{
        ctx_cancel(top);
}

static void pass_during_walk_and_look(void)
{
        if (!ctx_err(parent))
                return;
        clock_advance(SOON);
        (void) !ctx_err(child);
}

static void child_is_canceled(void)
{
        EXPECT(ctx_err(child) == -ECANCELED);
        free_all();
        ctx_unref(top);
}

static void move_to_5_only(void)
{
        (void) !ctx_extend(parent, begin_usec + 5 * SOON);
}

static void pass_and_look_at_parent(void)
{
        clock_advance(SOON);
        (void) !ctx_err(parent);
}

static void is_in_time(void)
{
        uint64_t deadline;

        EXPECT(ctx_deadline(parent, &deadline) == 1);
        EXPECT(clock_now() < deadline + 2 * SOON);
}

static void wait_in_time(void)
{
        EXPECT(ctx_wait(parent, UINT64_MAX) == -ETIMEDOUT);
        is_in_time();
}

static void poll_in_time(void)
{
        EXPECT(ctx_poll(parent, NULL, 0, UINT64_MAX) == -ETIMEDOUT);
        is_in_time();
}

static void free_all_and_kept(void)
{
        free_all();
        poll_fd_close_kept();
}

static void with_time(void)
{
        begin_usec = clock_now();
        parent = ctx_with_timeout(ctx_background(), SOON);
}

/* Something with a deadline comes to be below an only child while that is being made done. */
static void with_only_child(void)
{
        top = ctx_with_timeout(ctx_background(), SOON);
        parent = ctx_with_cancel(ctx_background());
        child = ctx_with_cancel(parent);
}

static void derive_timed(void)
{
        other = ctx_with_timeout(child, SOON);
}

static void derive_overdue(void)
{
        other = ctx_with_deadline(child, clock_now() - 1);
        was_called = !ctx_err(child);
}

static void all_are_canceled(void)
{
        EXPECT(ctx_err(other) == -ECANCELED);
        child_is_canceled();
}

/* Law 9: the deadline was first, unless the cancel was before the derive. */
static void deadline_was_first(void)
{
        EXPECT(!was_called || ctx_err(other) == -ETIMEDOUT);
        child_is_canceled();
}

static void callback_has_run(void)
{
        EXPECT(was_called);
        ctx_after_unref(after);
        free_all();
}

const struct program deadline_programs[] = {
                {"err_with_deadline", with_deadline, {look, pass_then_look, look}, free_all, .bound = 3},
                {"err_with_cancel_and_deadline", with_deadline, {look, cancel_then_pass}, it_was_the_cancel,
                                .bound = 3},
                {"cancel_with_deadline", with_deadline, {cancel, pass_then_look}, whoever_was_first,
                                .bound = 3},
                {"wait_with_deadline", with_deadline, {wait_for_child, pass}, free_all, .bound = 3},
                {"wait_with_cancel_and_deadline", with_deadline, {wait_for_child, cancel_then_pass},
                                it_was_the_cancel, .bound = 3},
                {"deadline_during_a_walk", with_children, {cancel, pass_during_walk}, children_are_canceled,
                                .bound = 2},
                {"deadline_seen_during_a_walk", with_children, {cancel, pass_during_walk, look_at_both},
                                children_are_canceled, .bound = 2},
                {"deadline_seen_during_two_walks", with_two_trees,
                                {cancel_top, cancel, pass_during_walk_and_look}, child_is_canceled,
                                .bound = 4},
                {"derive_below_only_child_with_cancel", with_only_child,
                                {cancel, derive_timed, pass_during_walk}, all_are_canceled, .bound = 2},
                {"derive_overdue_below_only_child", with_only_child, {cancel, derive_overdue},
                                deadline_was_first, .bound = 3},
                {"descriptor_with_deadline", with_deadline, {descriptor, pass_then_look},
                                descriptor_is_readable, .bound = 3},
                {"descriptor_with_cancel_and_deadline", with_deadline, {descriptor, cancel_then_pass},
                                descriptor_is_readable, .bound = 3},
                {"move_twice_with_descriptor", with_descriptor, {move_to_5, move_to_20}, child_is_told,
                                .bound = 2},
                {"move_twice_with_callback", with_callback,
                                {move_to_5_of_three, move_to_20_of_three, pass_of_three}, callback_has_run,
                                .bound = 2},
                {"move_too_late_with_wait", with_time,
                                {move_to_5_only, pass_and_look_at_parent, wait_in_time}, free_all,
                                .bound = 3},
                {"move_too_late_with_poll", with_time,
                                {move_to_5_only, pass_and_look_at_parent, poll_in_time}, free_all_and_kept,
                                .bound = 3},
                {},
};
