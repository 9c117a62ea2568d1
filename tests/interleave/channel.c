/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdatomic.h>

#include "lib/ctxclient.h"
#include "tests/interleave/tester.h"

/* Channels and groups of threads: no item is lost or there twice (law 26), and the last one frees. */

static struct ctx *ctx;
static struct ctx_chan *chan;
static struct ctx_group *group;
static _Atomic int n_sent, n_received, n_ended;

static void with_channel(size_t capacity)
{
        ctx = ctx_with_cancel(ctx_background());
        chan = ctx_chan_new(sizeof(int), capacity);
}

static void unbuffered(void)
{
        with_channel(0);
}

static void buffered(void)
{
        with_channel(1);
}

static void two_references(void)
{
        with_channel(0);
        ctx_chan_ref(chan);
}

static void two_references_and_room(void)
{
        with_channel(1);
        ctx_chan_ref(chan);
}

static void free_all(void)
{
        ctx_chan_unref(chan);
        ctx_unref(ctx);
}

static void free_context(void)
{
        ctx_unref(ctx);
}

static void cancel(void)
{
        ctx_cancel(ctx);
}

static void send_under(struct ctx *under)
{
        int r = ctx_chan_send(under, chan, &(int){7});

        EXPECT(r == 0 || r == -ECANCELED || r == -EPIPE);
        n_sent += r == 0;
}

static int receive_under(struct ctx *under)
{
        int item = 0, r = ctx_chan_recv(under, chan, &item);

        EXPECT(r == 0 || r == 1 || r == -ECANCELED);
        EXPECT(r != 1 || item == 7);
        n_received += r == 1;
        return r;
}

static void send_item(void)
{
        send_under(ctx);
}

static void send_and_close(void)
{
        send_under(ctx);
        EXPECT(ctx_chan_close(chan) == 0);
}

static void receive_item(void)
{
        receive_under(ctx);
}

static void receive_all(void)
{
        while (receive_under(ctx_background()) == 1)
                ;
}

static void close_it(void)
{
        EXPECT(ctx_chan_close(chan) == 0);
}

static void nothing_is_lost(void)
{
        int item;

        ctx_cancel(ctx);
        (void) !ctx_chan_close(chan);
        while (ctx_chan_recv(ctx_background(), chan, &item) == 1)
                n_received++;
        EXPECT(n_sent == n_received);
        free_all();
}

/* Each has a reference, and gives it up as soon as its call has returned. */
static void send_and_unref(void)
{
        EXPECT(ctx_chan_send(ctx_background(), chan, &(int){7}) == 0);
        ctx_chan_unref(chan);
}

static void receive_and_unref(void)
{
        EXPECT(receive_under(ctx_background()) == 1);
        ctx_chan_unref(chan);
}

static void close_and_unref(void)
{
        EXPECT(ctx_chan_close(chan) == 0);
        ctx_chan_unref(chan);
}

static void receive_none_and_unref(void)
{
        EXPECT(receive_under(ctx_background()) == 0);
        ctx_chan_unref(chan);
}

/* -- Groups. */

static int work(struct ctx *under, void *userdata)
{
        EXPECT(ctx_current() == under);
        n_ended++;
        return 0;
}

static int work_and_fail(struct ctx *under, void *userdata)
{
        n_ended++;
        return -EIO;
}

static int work_until_cancelled(struct ctx *under, void *userdata)
{
        int r = ctx_wait(under, UINT64_MAX);

        n_ended++;
        return r;
}

static void with_group(void)
{
        ctx = ctx_with_cancel(ctx_background());
        group = ctx_group_new(ctx);
}

static void go_and_wait(void)
{
        EXPECT(ctx_group_go(group, work, NULL) == 0);
        EXPECT(ctx_group_go(group, work, NULL) == 0);
        EXPECT(ctx_group_wait(group) == 0);
        EXPECT(n_ended == 2);
        ctx_group_unref(group);
}

static void go_and_fail(void)
{
        int error = 0;

        EXPECT(ctx_group_go(group, work_and_fail, NULL) == 0);
        EXPECT(ctx_group_go(group, work_until_cancelled, NULL) == 0);
        EXPECT(ctx_group_wait(group) == -EIO);
        EXPECT(ctx_cause(ctx_group_ctx(group), &error, NULL) == 1 && error == EIO);
        ctx_group_unref(group);
}

static void go_and_unref(void)
{
        EXPECT(ctx_group_go(group, work_until_cancelled, NULL) == 0);
        ctx_group_unref(group);
}

static void go_and_wait_for_cancel(void)
{
        EXPECT(ctx_group_go(group, work_until_cancelled, NULL) == 0);
        EXPECT(ctx_group_wait(group) == -ECANCELED);
        EXPECT(n_ended == 1);
        ctx_group_unref(group);
}

const struct program channel_programs[] = {
                {"send_with_receive", unbuffered, {send_item, receive_item}, nothing_is_lost, .bound = 3},
                {"send_with_receive_and_cancel", unbuffered, {send_and_close, receive_all, cancel},
                                nothing_is_lost, .bound = 3},
                {"send_with_receive_that_is_cancelled", unbuffered, {send_item, receive_item, cancel},
                                nothing_is_lost, .bound = 3},
                {"two_send_with_receive_and_cancel", buffered, {send_item, send_and_close, receive_all},
                                nothing_is_lost, .bound = 3},
                {"send_into_room_with_cancel", buffered, {send_and_close, receive_all, cancel},
                                nothing_is_lost, .bound = 3},
                {"send_with_close", unbuffered, {send_item, close_it, receive_all}, nothing_is_lost,
                                .bound = 3},
                {"receive_with_close", unbuffered, {receive_item, close_it}, nothing_is_lost, .bound = 3},
                {"send_and_receive_with_unref", two_references, {send_and_unref, receive_and_unref},
                                free_context, .bound = 3},
                {"send_and_receive_with_room_and_unref", two_references_and_room,
                                {send_and_unref, receive_and_unref}, free_context, .bound = 3},
                {"close_with_unref", two_references, {close_and_unref, receive_none_and_unref}, free_context,
                                .bound = 3},
                {"group_with_wait", with_group, {go_and_wait}, free_context, .bound = 3},
                {"group_with_failure", with_group, {go_and_fail}, free_context, .bound = 3},
                {"group_with_unref", with_group, {go_and_unref}, free_context, .bound = 3},
                {"group_with_cancel", with_group, {go_and_wait_for_cancel, cancel}, free_context, .bound = 3},
                {},
};
