/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdatomic.h>

#include "lib/local/after.h"
#include "tests/interleave/tester.h"

/* A thread that ends in the middle: by pthread_cancel() (law 42), or since another one forks and it is not
 * there in the child. */

#define SOON 1000

static struct ctx *parent, *middle, *child;
static struct ctx_after *after;
static _Atomic int n_runs, n_new_runs;
static _Atomic bool is_running;

static void with_parent(void)
{
        parent = ctx_with_cancel(ctx_background());
}

static void with_three(void)
{
        with_parent();
        middle = ctx_with_cancel(parent);
        child = ctx_with_cancel(middle);
}

static void with_descriptors(void)
{
        with_three();
        EXPECT(ctx_done_fd(middle) >= 0);
        EXPECT(ctx_done_fd(child) >= 0);
}

static void callback(void *userdata)
{
        atomic_store(&is_running, true);
        n_runs++;
        atomic_store(&is_running, false);
}

static void with_callback(void)
{
        with_three();
        after = ctx_after_func(child, callback, NULL);
}

static void free_all(void)
{
        ctx_after_unref(after);
        ctx_unref(child);
        ctx_unref(middle);
        ctx_unref(parent);
}

static void cancel(void)
{
        EXPECT(ctx_cancel(parent) >= 0);
        EXPECT(ctx_err(parent) == -ECANCELED);
        EXPECT(!middle || ctx_err(middle) == -ECANCELED);
        EXPECT(!child || ctx_err(child) == -ECANCELED);
}

static void cancel_parent(void)
{
        EXPECT(ctx_cancel(parent) == 1);
}

static void cancel_a(void)
{
        cancel_thread('A');
}

static void unref_child(void)
{
        struct ctx *mine = child;

        child = NULL;
        ctx_unref(mine);
}

static void descriptors_are_readable(void)
{
        cancel();
        EXPECT(fd_is_readable(ctx_done_fd(middle)));
        EXPECT(fd_is_readable(ctx_done_fd(child)));
        free_all();
}

static void it_ran(void)
{
        EXPECT(n_runs == 1);
        free_all();
}

static void stop(void)
{
        ctx_after_stop_wait(after);
}

static void wait_for_child(void)
{
        EXPECT(ctx_wait(child, UINT64_MAX) == -ECANCELED);
}

/* -- Fork. */

static void derive(void)
{
        struct ctx *ctx = ctx_with_cancel(parent);

        (void) !ctx_err(ctx);
        ctx_unref(ctx);
}

static void enter_and_leave(void)
{
        EXPECT(ctx_enter(parent) == 0);
        EXPECT(ctx_current() == parent);
        ctx_leave(parent);
        EXPECT(ctx_current() == ctx_background());
}

static void fork_and_derive(void)
{
        struct ctx *ctx;

        fork_as_child();
        ctx = ctx_with_cancel(parent);
        cancel();
        EXPECT(ctx_err(ctx) == -ECANCELED);
        ctx_unref(ctx);
}

static void fork_and_cancel(void)
{
        fork_as_child();
        cancel();
}

/* A walk in the parent process has just come upon the child. */
static void fork_and_unref(void)
{
        fork_as_child();
        child = ctx_unref(child);
        middle = ctx_unref(middle);
}

/* Another thread was cancelling, and a third one had just added a child. */
static void link_child(void)
{
        child = ctx_with_cancel(parent);
}

static void fork_and_look(void)
{
        fork_as_child();
        EXPECT(!child || ctx_err(parent) == 0 || ctx_err(child) != 0);
}

static void fork_and_enter(void)
{
        fork_as_child();
        enter_and_leave();
}

static void fork_and_go_on(void)
{
        fork_as_parent();
        enter_and_leave();
        cancel();
}

static void fork_and_stop(void)
{
        fork_as_child();
        (void) ctx_after_stop_wait(after);
        cancel();
}

static void count(void *userdata)
{
        n_new_runs++;
}

static void fork_and_add(void)
{
        struct ctx *ctx = ctx_with_cancel(ctx_background());

        fork_as_child();
        EXPECT(ctx_after_func(ctx, count, NULL));
        EXPECT(ctx_cancel(ctx) == 1);
}

static void new_one_ran(void)
{
        EXPECT(n_new_runs == 1);
}

static void add_timed(void)
{
        struct ctx *ctx = ctx_with_timeout(parent, SOON);
        struct ctx_after *timed = ctx_after_func(ctx, callback, NULL);

        (void) ctx_after_stop(timed);
        ctx_after_unref(timed);
        ctx_unref(ctx);
}

static void fork_and_add_timed(void)
{
        fork_as_child();
        add_timed();
}

const struct program cancel_programs[] = {
                {"thread_cancelled_in_cancel", with_descriptors, {cancel, cancel_a}, descriptors_are_readable,
                                .bound = 3},
                {"thread_cancelled_in_cancel_beside_another", with_descriptors, {cancel, cancel_a, cancel},
                                descriptors_are_readable, .bound = 2},
                {"thread_cancelled_in_cancel_with_callback", with_callback, {cancel, cancel_a}, it_ran,
                                .bound = 2},
                {"thread_cancelled_in_unref", with_descriptors, {unref_child, cancel_a}, free_all,
                                .bound = 3},
                {"thread_cancelled_in_stop", with_callback, {stop, cancel_a, cancel}, free_all, .bound = 2},
                {"thread_cancelled_in_wait", with_three, {wait_for_child, cancel_a, cancel}, free_all,
                                .bound = 3},
                {"fork_with_derive", with_parent, {derive, fork_and_derive}, .bound = 3, .may_leak = true},
                {"fork_with_cancel", with_three, {cancel, fork_and_cancel}, .bound = 3, .may_leak = true},
                {"fork_with_cancel_and_descriptors", with_descriptors, {cancel, fork_and_cancel}, .bound = 2,
                                .may_leak = true},
                {"fork_with_cancel_and_unref", with_three, {cancel, fork_and_unref}, .bound = 3,
                                .may_leak = true},
                {"fork_with_cancel_and_derive", with_parent, {cancel_parent, link_child, fork_and_look},
                                .bound = 3, .may_leak = true},
                {"fork_with_enter", with_parent, {enter_and_leave, fork_and_enter}, .bound = 3,
                                .may_leak = true},
                {"fork_in_the_parent", with_callback, {derive, fork_and_go_on}, it_ran, .bound = 2},
                {"fork_with_stop", with_callback, {cancel, fork_and_stop}, .bound = 2, .may_leak = true},
                {"fork_with_new_callback", with_callback, {cancel, fork_and_add}, new_one_ran, .bound = 2,
                                .may_leak = true},
                {"fork_with_timers", with_callback, {add_timed, fork_and_add_timed}, .bound = 3,
                                .may_leak = true},
                {},
};
