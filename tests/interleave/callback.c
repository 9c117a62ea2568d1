/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdatomic.h>

#include "lib/local/after.h"
#include "tests/interleave/tester.h"

/* Callbacks: laws 23 and 24. The library's callback thread and timer thread run as well. */

#define SOON 1000

static struct ctx *ctx;
static struct ctx_after *after;
static _Atomic int n_runs, stopped;
static _Atomic bool runs;

static void callback(void *userdata)
{
        atomic_store(&runs, true);
        n_runs++;
        atomic_store(&runs, false);
}

static void with_context(void)
{
        ctx = ctx_with_cancel(ctx_background());
}

static void with_deadline(void)
{
        ctx = ctx_with_timeout(ctx_background(), SOON);
}

static void with_callback(void)
{
        with_context();
        after = ctx_after_func(ctx, callback, NULL);
}

static void with_direct_callback(void)
{
        with_context();
        after = after_new(ctx, callback, NULL, true);
}

static void with_timed_callback(void)
{
        with_deadline();
        after = ctx_after_func(ctx, callback, NULL);
}

static void add_callback(void)
{
        after = ctx_after_func(ctx, callback, NULL);
}

static void add_direct_callback(void)
{
        after = after_new(ctx, callback, NULL, true);
}

static void cancel(void)
{
        ctx_cancel(ctx);
}

static void cancel_and_unref(void)
{
        ctx_cancel(ctx);
        ctx = ctx_unref(ctx);
}

static void unref(void)
{
        ctx = ctx_unref(ctx);
}

static void pass(void)
{
        clock_advance(SOON);
}

static void stop(void)
{
        atomic_fetch_add(&stopped, ctx_after_stop(after));
}

/* When it has returned the callback does not run. */
static void stop_and_wait(void)
{
        int r = ctx_after_stop_wait(after);

        EXPECT(!atomic_load(&runs));
        atomic_fetch_add(&stopped, r);
}

static void stop_and_unref(void)
{
        stop();
        after = ctx_after_unref(after);
}

static void unref_callback(void)
{
        after = ctx_after_unref(after);
}

static void free_all(void)
{
        ctx_after_unref(after);
        ctx_unref(ctx);
}

static void it_ran(void)
{
        EXPECT(n_runs == 1);
        free_all();
}

static void it_ran_or_was_stopped(void)
{
        EXPECT(n_runs + stopped == 1);
        free_all();
}

static void it_ran_at_most_once(void)
{
        EXPECT(n_runs <= 1);
        free_all();
}

const struct program callback_programs[] = {
                {"after_func_with_cancel", with_context, {add_callback, cancel}, it_ran, .bound = 3},
                {"direct_callback_with_cancel", with_context, {add_direct_callback, cancel}, it_ran,
                                .bound = 3},
                {"stop_with_run", with_callback, {cancel, stop_and_wait}, it_ran_or_was_stopped, .bound = 3},
                {"stop_with_direct_run", with_direct_callback, {cancel, stop_and_wait}, it_ran_or_was_stopped,
                                .bound = 3},
                {"two_stops_with_run", with_callback, {cancel, stop, stop_and_wait}, it_ran_or_was_stopped,
                                .bound = 2},
                {"stop_and_unref_with_run", with_callback, {cancel_and_unref, stop_and_unref},
                                it_ran_or_was_stopped, .bound = 3},
                {"unref_with_run", with_callback, {cancel_and_unref, unref_callback}, it_ran, .bound = 3},
                {"unref_of_context_with_stop", with_callback, {unref, stop_and_unref}, it_ran_or_was_stopped,
                                .bound = 3},
                {"after_func_with_deadline", with_deadline, {add_callback, pass}, it_ran, .bound = 3},
                {"direct_callback_with_deadline", with_deadline, {add_direct_callback, pass}, it_ran,
                                .bound = 2},
                {"stop_with_deadline", with_timed_callback, {pass, stop_and_wait}, it_ran_or_was_stopped,
                                .bound = 3},
                {"unref_with_deadline", with_timed_callback, {pass, unref, stop_and_unref},
                                it_ran_at_most_once, .bound = 2},
                {"cancel_with_deadline_and_callback", with_timed_callback, {pass, cancel_and_unref}, it_ran,
                                .bound = 3},
                {},
};
