/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdatomic.h>

#include "lib/local/ctx.h"
#include "lib/local/poll-fd.h"
#include "tests/interleave/tester.h"

/* Local contexts: derive, cancel, wait and free. */

static struct ctx *parent, *middle, *child, *other;
static struct ctx *_Atomic born;
static _Atomic int first;

static void with_parent(void)
{
        parent = ctx_with_cancel(ctx_background());
}

static void with_child(void)
{
        with_parent();
        child = ctx_with_cancel(parent);
}

static void with_three(void)
{
        with_parent();
        middle = ctx_with_cancel(parent);
        child = ctx_with_cancel(middle);
}

static void free_all(void)
{
        ctx_unref(child);
        ctx_unref(middle);
        ctx_unref(parent);
        ctx_unref(other);
        ctx_unref(born);
}

static void read_cause(struct ctx *ctx, int *ret)
{
        EXPECT(ctx_cause(ctx, ret, NULL) == 1);
}

/* -- Derive with cancel: law 8, and law 5 for what was there before. */

static void derive(void)
{
        atomic_store(&born, ctx_with_cancel(parent));
}

static void cancel_parent(void)
{
        struct ctx *ctx;

        EXPECT(ctx_cancel(parent) >= 0);
        ctx = atomic_load(&born);
        EXPECT(!ctx || ctx_err(ctx) == -ECANCELED);
        EXPECT(!child || ctx_err(child) == -ECANCELED);
}

static void all_are_done(void)
{
        EXPECT(ctx_err(parent) == -ECANCELED);
        EXPECT(!born || ctx_err(born) == -ECANCELED);
        EXPECT(!child || ctx_err(child) == -ECANCELED);
        free_all();
}

/* -- The same where threads meet at the parent, which then gets stripes. */

static void derive_and_free(void)
{
        struct ctx *ctx = ctx_with_cancel(parent);

        (void) !ctx_err(ctx);
        ctx_unref(ctx);
}

static void with_stripes(void)
{
        n_stripes = 2;
        with_parent();
        nest_split(parent);
        child = ctx_with_cancel(parent);
}

/* -- Free. */

static void unref_parent(void)
{
        parent = ctx_unref(parent);
}

static void unref_middle(void)
{
        middle = ctx_unref(middle);
}

static void unref_child(void)
{
        child = ctx_unref(child);
}

static void cancel_and_unref_parent(void)
{
        EXPECT(ctx_cancel(parent) == 1);
        unref_parent();
}

static void cancel_and_unref_child(void)
{
        EXPECT(ctx_cancel(child) >= 0);
        unref_child();
}

static void with_two_children(void)
{
        with_child();
        other = ctx_with_cancel(parent);
}

static void unref_other(void)
{
        other = ctx_unref(other);
}

/* -- Two cancels: laws 2, 3, 5. */

static void cancel_with(struct ctx *ctx, int error)
{
        int before, after;

        atomic_fetch_add(&first, ctx_cancel_cause(ctx, error, NULL));
        EXPECT(ctx_err(child) == -ECANCELED);
        read_cause(child, &before);
        read_cause(child, &after);
        EXPECT(before == after);
}

static void cancel_parent_with_1(void)
{
        cancel_with(parent, 1);
}

static void cancel_parent_with_2(void)
{
        cancel_with(parent, 2);
}

static void cancel_middle_with_2(void)
{
        cancel_with(middle, 2);
}

static void one_was_first(void)
{
        int above, below;

        EXPECT(first == 1);
        read_cause(parent, &above);
        read_cause(child, &below);
        EXPECT(above == below);
        free_all();
}

/* A walk that comes upon another walk. */
static void with_waiting_child(void)
{
        with_three();
        EXPECT(ctx_done_fd(child) >= 0);
}

static void watch_child(void)
{
        bool readable = fd_is_readable(ctx_done_fd(child));

        EXPECT(!readable || ctx_err(child) != 0);
}

/* -- Merge. */

static void with_merge(void)
{
        with_child();
        other = ctx_with_cancel(ctx_background());
        ctx_unref(child);
        child = ctx_merge(parent, &other, 1);
        middle = ctx_with_cancel(child);
}

static void with_two(void)
{
        with_parent();
        other = ctx_with_cancel(ctx_background());
}

static void make_merge(void)
{
        child = ctx_merge(parent, &other, 1);
}

static void cancel_the_one(void)
{
        EXPECT(ctx_cancel_cause(parent, 1, NULL) == 1);
}

static void cancel_the_other(void)
{
        EXPECT(ctx_cancel_cause(other, 2, NULL) == 1);
}

static void cancel_one_of_merge(void)
{
        cancel_with(parent, 1);
}

static void cancel_other_of_merge(void)
{
        cancel_with(other, 2);
}

static void merge_is_done(void)
{
        int error;

        EXPECT(ctx_err(child) == -ECANCELED);
        read_cause(child, &error);
        EXPECT(error == 1 || error == 2);
        if (middle) {
                int below;

                EXPECT(ctx_err(middle) == -ECANCELED);
                read_cause(middle, &below);
                EXPECT(below == error);
        }
        free_all();
}

/* -- Waiting: law 25, and no wake-up is lost. */

static void wait_for_child(void)
{
        EXPECT(ctx_wait(child, UINT64_MAX) == -ECANCELED);
}

static void make_descriptor(void)
{
        EXPECT(ctx_done_fd(child) >= 0);
}

static void descriptor_is_readable(void)
{
        EXPECT(fd_is_readable(ctx_done_fd(child)));
        all_are_done();
}

static void poll_child(void)
{
        EXPECT(ctx_poll(child, NULL, 0, UINT64_MAX) == -ECANCELED);
}

static void unref_with_descriptor(void)
{
        EXPECT(ctx_done_fd(child) >= 0);
        child = ctx_unref(child);
}

static void only_cancel(void)
{
        ctx_cancel(parent);
}

static void descriptors_are_readable(void)
{
        descriptor_is_readable();
        poll_fd_close_kept();
}

const struct program local_programs[] = {
                {"derive_with_cancel", with_parent, {derive, cancel_parent}, all_are_done, .bound = 3},
                {"derive_with_cancel_and_child", with_child, {derive, cancel_parent}, all_are_done,
                                .bound = 3},
                {"two_derive_with_cancel", with_stripes, {derive_and_free, derive_and_free, cancel_parent},
                                all_are_done, .bound = 2},
                {"derive_in_a_stripe_with_cancel", with_stripes, {derive, cancel_parent}, all_are_done,
                                .bound = 3},
                {"two_derive_at_once", with_parent, {derive_and_free, derive_and_free}, free_all, .bound = 3},
                {"unref_of_child_and_parent", with_child, {unref_child, unref_parent}, .bound = 3},
                {"unref_of_child_and_cancel", with_child, {unref_child, cancel_and_unref_parent}, .bound = 3},
                {"unref_of_three", with_three, {unref_child, unref_middle, unref_parent}, .bound = 3},
                {"unref_of_two_children", with_two_children, {unref_child, unref_other, unref_parent},
                                .bound = 3},
                {"unref_in_a_stripe", with_stripes, {unref_child, unref_parent}, .bound = 3},
                {"cancel_of_child_and_unref", with_child, {cancel_and_unref_child, unref_parent}, .bound = 3},
                {"cancel_of_child_and_parent", with_child, {cancel_and_unref_child, cancel_and_unref_parent},
                                .bound = 3},
                {"cancel_above_unref", with_three, {cancel_and_unref_parent, unref_middle, unref_child},
                                .bound = 2},
                {"two_cancels", with_child, {cancel_parent_with_1, cancel_parent_with_2}, one_was_first,
                                .bound = 3},
                {"two_walks", with_waiting_child, {cancel_parent_with_1, cancel_middle_with_2}, free_all,
                                .bound = 3},
                {"walk_and_descriptor", with_waiting_child, {cancel_parent_with_1, watch_child}, free_all,
                                .bound = 3},
                {"merge_with_two_cancels", with_merge, {cancel_one_of_merge, cancel_other_of_merge},
                                merge_is_done, .bound = 3},
                {"merge_made_with_two_cancels", with_two, {make_merge, cancel_the_one, cancel_the_other},
                                merge_is_done, .bound = 3},
                {"merge_unref_and_cancel", with_merge, {unref_child, cancel_the_one, cancel_the_other},
                                free_all, .bound = 2},
                {"wait_with_cancel", with_child, {wait_for_child, cancel_parent}, all_are_done, .bound = 3},
                {"two_wait_with_cancel", with_child, {wait_for_child, cancel_parent, wait_for_child},
                                all_are_done, .bound = 3},
                {"descriptor_with_cancel", with_child, {make_descriptor, cancel_parent},
                                descriptor_is_readable, .bound = 3},
                {"two_descriptors_with_cancel", with_child, {make_descriptor, make_descriptor, cancel_parent},
                                descriptor_is_readable, .bound = 2},
                {"descriptor_and_poll_with_cancel", with_child, {make_descriptor, poll_child, cancel_parent},
                                descriptors_are_readable, .bound = 2},
                {"descriptor_unref_and_cancel", with_child, {unref_with_descriptor, only_cancel}, free_all,
                                .bound = 3},
                {},
};
