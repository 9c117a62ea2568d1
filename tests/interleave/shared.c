/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/local/shared.h"
#include "tests/interleave/tester.h"

/* Shared contexts, with operations and a slot of our own in the daemon's place; and a list with a reader, as
 * the library's thread is. */

#define SOON 1000

struct fake {
        struct ctx_shared shared;
        _Atomic uint64_t word, deadline;
        int fd, error;
        struct fake *next;
};

static struct lock list_lock = LOCK_INIT(LOCK_WATCH);
static struct fake *list;
static struct ctx *one, *two, *child;
static _Atomic int was_first;

static int fake_settle(struct ctx_shared *shared, uint64_t word)
{
        return word / 4 == shared->given / 4 ? (int) (word & 3) : STATE_WORD_CANCELED;
}

static int fake_cause(struct ctx_shared *shared, int *ret_error, const char **ret_message)
{
        if (ret_error)
                *ret_error = ((struct fake *) shared)->error;
        if (ret_message)
                *ret_message = "over";
        return 1;
}

static int fake_done_fd(struct ctx_shared *shared, uint64_t *ret_usec)
{
        return ((struct fake *) shared)->fd;
}

static int fake_watch(struct ctx_shared *shared)
{
        return 0;
}

static struct fake *of(struct ctx *ctx)
{
        return (struct fake *) ctx;
}

/* As the daemon does it, whoever has asked for that. */
static void end(struct ctx *ctx)
{
        struct fake *fake = of(ctx);
        uint64_t word = fake->shared.given;

        if (atomic_compare_exchange_strong(&fake->word, &word, fake->shared.given | STATE_WORD_CANCELED))
                eventfd_write(fake->fd, 1);
}

static int fake_cancel(struct ctx_shared *shared, int error, const char *message)
{
        end(&shared->wide.ctx);
        ctx_finish(&shared->wide.ctx, STATE_WORD_CANCELED, CAUSE_SHARED);
        return 1;
}

static void fake_free(struct ctx_shared *shared)
{
        struct fake *fake = (struct fake *) shared, **place = &list;

        lock_acquire(&list_lock);
        while (*place != fake)
                place = &(*place)->next;
        *place = fake->next;
        lock_release(&list_lock);
        close(fake->fd);
        free(fake);
}

static const struct ctx_shared_ops fake_ops = {
                .settle = fake_settle,
                .cause = fake_cause,
                .done_fd = fake_done_fd,
                .watch = fake_watch,
                .cancel = fake_cancel,
                .free = fake_free,
};

__attribute__((noinline)) static struct ctx *fake_new(int error)
{
        struct fake *fake = calloc(1, sizeof(struct fake));

        ctx_shared_init(&fake->shared, &fake_ops);
        fake->shared.given = 7 * 4;
        fake->word = fake->shared.given;
        fake->deadline = CTX_NEVER;
        fake->shared.word = &fake->word;
        fake->shared.deadline_usec = &fake->deadline;
        fake->fd = eventfd(0, EFD_CLOEXEC);
        fake->error = error;
        fake->next = list;
        list = fake;
        return &fake->shared.wide.ctx;
}

static void with_one(void)
{
        one = fake_new(1);
}

static void with_child(void)
{
        with_one();
        child = ctx_with_cancel(one);
}

static void with_deadline(void)
{
        with_child();
        of(one)->deadline = clock_now() + SOON;
}

static void with_merge(void)
{
        struct ctx *merged;

        one = fake_new(1);
        two = fake_new(2);
        merged = ctx_merge(one, &two, 1);
        child = ctx_with_cancel(merged);
        ctx_unref(merged);
}

static void free_all(void)
{
        ctx_unref(child);
        ctx_unref(one);
        ctx_unref(two);
}

static void end_one(void)
{
        end(one);
}

static void end_two(void)
{
        end(two);
}

/* -- The last reference goes while the library's thread comes upon it (law 44). */

static void unref_one(void)
{
        one = ctx_unref(one);
}

static void unref_child(void)
{
        child = ctx_unref(child);
}

static void finish_what_is_listed(void)
{
        struct ctx *ctx = NULL;

        lock_acquire(&list_lock);
        if (list && ctx_ref_if_alive(&list->shared.wide.ctx))
                ctx = &list->shared.wide.ctx;
        lock_release(&list_lock);
        if (!ctx)
                return;
        end(ctx);
        ctx_finish(ctx, STATE_WORD_CANCELED, CAUSE_SHARED);
        ctx_unref(ctx);
}

/* -- Laws 5 and 8. */

static void derive(void)
{
        child = ctx_with_cancel(one);
}

static void cancel_one(void)
{
        EXPECT(ctx_cancel(one) == 1);
        EXPECT(ctx_err(one) == -ECANCELED);
}

static void child_is_done(void)
{
        int error = 0;

        EXPECT(ctx_err(child) == -ECANCELED);
        EXPECT(ctx_cause(child, &error, NULL) == 1 && error == 1);
        free_all();
}

static void wait_for_child(void)
{
        EXPECT(ctx_wait(child, UINT64_MAX) == -ECANCELED);
}

static void cancel_child(void)
{
        atomic_store(&was_first, ctx_cancel_cause(child, 3, NULL));
        EXPECT(ctx_err(child) == -ECANCELED);
}

static void first_cause_stays(void)
{
        int error = 0;

        EXPECT(ctx_cause(child, &error, NULL) == 1);
        EXPECT(was_first ? error == 3 : error == 1);
        free_all();
}

/* -- A merge of two: law 2. */

static void read_cause_twice(void)
{
        int before = 0, after = 0;

        if (ctx_cause(child, &before, NULL) == 0)
                return;
        ctx_cause(child, &after, NULL);
        EXPECT(before == after);
}

static void merge_is_done(void)
{
        EXPECT(ctx_err(child) == -ECANCELED);
        free_all();
}

/* The other one ends later. */
static void end_two_then_one(void)
{
        int before = 0, after = 0;

        end(two);
        EXPECT(ctx_cause(child, &before, NULL) == 1);
        end(one);
        EXPECT(ctx_cause(child, &after, NULL) == 1);
        EXPECT(before == after);
}

/* -- Deadlines: laws 12 and 13. */

static void look(void)
{
        EXPECT(ctx_err(child) != -ETIMEDOUT);
}

static void look_at_one(void)
{
        EXPECT(ctx_err(one) != -ETIMEDOUT);
}

static void end_then_pass(void)
{
        end(one);
        clock_advance(SOON);
}

static void extend_then_pass(void)
{
        atomic_store(&of(one)->deadline, clock_now() + 2 * SOON);
        clock_advance(SOON);
}

static void it_was_the_cancel(void)
{
        EXPECT(ctx_err(one) == -ECANCELED);
        EXPECT(ctx_err(child) == -ECANCELED);
        free_all();
}

static void it_is_active(void)
{
        EXPECT(ctx_err(one) == 0);
        EXPECT(ctx_err(child) == 0);
        free_all();
}

const struct program shared_programs[] = {
                {"unref_of_shared_with_end", with_one, {unref_one, finish_what_is_listed}, free_all,
                                .bound = 3},
                {"unref_of_shared_and_child_with_end", with_child,
                                {unref_one, finish_what_is_listed, unref_child}, free_all, .bound = 3},
                {"derive_from_shared_with_cancel", with_one, {derive, cancel_one}, child_is_done, .bound = 3},
                {"derive_from_shared_with_end", with_one, {derive, end_one}, child_is_done, .bound = 3},
                {"wait_below_shared_with_end", with_child, {wait_for_child, end_one}, child_is_done,
                                .bound = 3},
                {"wait_below_shared_with_cancel", with_child, {wait_for_child, cancel_one}, child_is_done,
                                .bound = 3},
                {"cancel_below_shared_with_end", with_child, {cancel_child, end_one}, first_cause_stays,
                                .bound = 3},
                {"cancel_below_shared_with_cancel", with_child, {cancel_child, cancel_one}, first_cause_stays,
                                .bound = 3},
                {"merge_of_shared_with_two_ends", with_merge, {read_cause_twice, end_one, end_two},
                                merge_is_done, .bound = 3},
                {"merge_of_shared_that_end_in_turn", with_merge, {end_two_then_one, read_cause_twice},
                                merge_is_done, .bound = 3},
                {"merge_of_shared_with_two_unrefs", with_merge,
                                {unref_one, unref_child, finish_what_is_listed}, free_all, .bound = 2},
                {"err_of_shared_with_cancel_and_deadline", with_deadline, {look_at_one, end_then_pass},
                                it_was_the_cancel, .bound = 3},
                {"err_below_shared_with_cancel_and_deadline", with_deadline, {look, end_then_pass},
                                it_was_the_cancel, .bound = 3},
                {"err_of_shared_with_extend_and_deadline", with_deadline, {look_at_one, extend_then_pass},
                                it_is_active, .bound = 3},
                {"err_below_shared_with_extend_and_deadline", with_deadline, {look, extend_then_pass},
                                it_is_active, .bound = 3},
                {},
};
