/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdatomic.h>

#include "lib/local/after.h"
#include "tests/interleave/tester.h"

/* Law 42: ctx_err() and ctx_cancel() may be called from a signal handler, whatever the thread was doing that
 * the signal has interrupted. */

#define SOON 1000

static struct ctx *ctx, *child;
static struct ctx_after *after;
static struct ctx_chan *chan;
static _Atomic int n_runs;
static int handled = 1;

static void callback(void *userdata)
{
        n_runs++;
}

static void with_context(void)
{
        ctx = ctx_with_cancel(ctx_background());
        child = ctx_with_cancel(ctx);
}

/* Nobody has looked at it since the deadline. */
static void overdue(void)
{
        ctx = ctx_with_timeout(ctx_background(), SOON);
        child = ctx_with_cancel(ctx);
        clock_advance(SOON);
}

static void overdue_with_callback(void)
{
        ctx = ctx_with_timeout(ctx_background(), SOON);
        child = ctx_with_cancel(ctx);
        after = ctx_after_func(child, callback, NULL);
        clock_advance(SOON);
}

static void with_callback(void)
{
        with_context();
        after = ctx_after_func(child, callback, NULL);
}

/* As ctx_spawn() has one. */
static void with_direct_callback(void)
{
        with_context();
        after = after_new(child, callback, NULL, true);
}

static void with_channel(void)
{
        with_context();
        chan = ctx_chan_new(1, 0);
}

static void free_all(void)
{
        if (after)
                ctx_after_stop(after);
        ctx_after_unref(after);
        ctx_chan_unref(chan);
        ctx_unref(child);
        ctx_unref(ctx);
}

/* In the handler. */

static void err_in_handler(void)
{
        handled = ctx_err(ctx);
}

static void cancel_in_handler(void)
{
        EXPECT(ctx_cancel(ctx) >= 0);
        handled = ctx_err(ctx);
}

/* In the thread. */

static void derive(void)
{
        struct ctx *born = ctx_with_cancel(ctx);

        ctx_unref(born);
}

static void look(void)
{
        EXPECT(ctx_err(ctx) == -ETIMEDOUT);
}

static void look_and_cancel(void)
{
        EXPECT(ctx_err(child) == -ETIMEDOUT);
        EXPECT(ctx_cancel(ctx) == 0);
}

static void cancel(void)
{
        EXPECT(ctx_cancel(ctx) >= 0);
        EXPECT(ctx_err(child) == -ECANCELED);
}

static void unref_child(void)
{
        child = ctx_unref(child);
}

static void descriptor(void)
{
        EXPECT(ctx_done_fd(child) >= 0);
}

static void wait_for_it(void)
{
        EXPECT(ctx_wait(child, SOON) <= 0);
}

static void add_callback(void)
{
        after = ctx_after_func(child, callback, NULL);
}

static void stop(void)
{
        ctx_after_stop_wait(after);
}

static void send_item(void)
{
        (void) !ctx_chan_send(ctx_background(), chan, "");
}

static void receive(void)
{
        char item;

        EXPECT(ctx_chan_recv(ctx_background(), chan, &item) == 1);
}

static void handler_saw_the_deadline(void)
{
        EXPECT(handled == 1 || handled == -ETIMEDOUT);
        free_all();
}

static void handler_saw_the_cancel(void)
{
        EXPECT(handled == 1 || handled == -ECANCELED);
        EXPECT(handled == 1 || !child || ctx_err(child) == -ECANCELED);
        free_all();
}

const struct program signal_programs[] = {
                {"handler_err_in_derive", overdue, {derive}, handler_saw_the_deadline, err_in_handler,
                                .bound = 2},
                {"handler_err_in_err", overdue, {look}, handler_saw_the_deadline, err_in_handler, .bound = 2},
                {"handler_err_in_cancel", overdue, {look_and_cancel}, handler_saw_the_deadline,
                                err_in_handler, .bound = 2},
                {"handler_err_in_unref", overdue, {unref_child}, handler_saw_the_deadline, err_in_handler,
                                .bound = 2},
                {"handler_err_beside_derive", overdue, {derive, derive}, handler_saw_the_deadline,
                                err_in_handler, .bound = 2},
                {"handler_err_in_wait", overdue, {wait_for_it}, handler_saw_the_deadline, err_in_handler,
                                .bound = 2},
                {"handler_err_with_callback", overdue_with_callback, {look_and_cancel},
                                handler_saw_the_deadline, err_in_handler, .bound = 2},
                {"handler_cancel_in_derive", with_context, {derive}, handler_saw_the_cancel,
                                cancel_in_handler, .bound = 2},
                {"handler_cancel_in_cancel", with_context, {cancel}, handler_saw_the_cancel,
                                cancel_in_handler, .bound = 2},
                {"handler_cancel_beside_cancel", with_context, {derive, cancel}, handler_saw_the_cancel,
                                cancel_in_handler, .bound = 2},
                {"handler_cancel_in_unref", with_context, {unref_child}, handler_saw_the_cancel,
                                cancel_in_handler, .bound = 2},
                {"handler_cancel_in_wait", with_context, {wait_for_it}, handler_saw_the_cancel,
                                cancel_in_handler, .bound = 2},
                {"handler_cancel_in_descriptor", with_context, {descriptor}, handler_saw_the_cancel,
                                cancel_in_handler, .bound = 2},
                {"handler_cancel_in_after_func", with_context, {add_callback}, handler_saw_the_cancel,
                                cancel_in_handler, .bound = 2},
                {"handler_cancel_in_stop", with_callback, {stop}, handler_saw_the_cancel, cancel_in_handler,
                                .bound = 2},
                {"handler_cancel_with_direct_callback", with_direct_callback, {cancel},
                                handler_saw_the_cancel, cancel_in_handler, .bound = 2},
                {"handler_cancel_in_stop_of_direct_callback", with_direct_callback, {stop},
                                handler_saw_the_cancel, cancel_in_handler, .bound = 2},
                {"handler_cancel_in_channel", with_channel, {send_item, receive}, handler_saw_the_cancel,
                                cancel_in_handler, .bound = 2},
                {},
};
