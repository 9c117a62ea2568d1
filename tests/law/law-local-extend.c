/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/law/local.h"

/* Laws 10, 12, 14 and 15 for local contexts whose deadline is moved. */

#define HOUR UINT64_C(3600000000)

static uint64_t deadline_of(struct ctx *ctx)
{
        uint64_t usec = UINT64_MAX;

        return ctx_deadline(ctx, &usec) == 1 ? usec : UINT64_MAX;
}

START_TEST(law_14_who_may_be_moved_and_how_far)
{
        uint64_t now = now_boottime_usec();
        CTX_AUTO_UNREF struct ctx *parent = ctx_with_deadline(ctx_background(), now + 5 * HOUR);
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_deadline(parent, now + HOUR);
        CTX_AUTO_UNREF struct ctx *view = ctx_readonly(ctx);
        static const struct ctx_key key = CTX_KEY("key");
        CTX_AUTO_UNREF struct ctx *value = ctx_with_value(ctx, &key, &now, NULL);
        CTX_AUTO_UNREF struct ctx *without = ctx_without_cancel(ctx);
        CTX_AUTO_UNREF struct ctx *overdue = ctx_with_timeout(parent, 0);

        ck_assert_int_eq(ctx_extend(NULL, now), -EINVAL);
        ck_assert_int_eq(ctx_extend(ctx_background(), now + HOUR), -EINVAL);
        ck_assert_int_eq(ctx_extend(without, now + HOUR), -EINVAL);
        ck_assert_int_eq(ctx_extend(value, now + HOUR), -EINVAL);
        ck_assert_int_eq(ctx_extend(view, now + HOUR), -EPERM);
        ck_assert_int_eq(ctx_extend(ctx, now + 5 * HOUR + 1), -EINVAL);
        ck_assert_int_eq(ctx_extend(ctx, UINT64_MAX), -EINVAL);
        ck_assert_uint_eq(deadline_of(ctx), now + HOUR);
        ck_assert_int_eq(ctx_extend(ctx, now + 5 * HOUR), 0);
        ck_assert_uint_eq(deadline_of(view), now + 5 * HOUR);
        ck_assert_uint_eq(deadline_of(value), now + 5 * HOUR);
        ck_assert_int_eq(ctx_extend(overdue, now + HOUR), -EALREADY);
        ck_assert_int_eq(ctx_err(overdue), -ETIMEDOUT);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_int_eq(ctx_extend(ctx, now + HOUR), -EALREADY);
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
}
END_TEST

/* The tree of the next tests: what a deadline at the top is for each context below. */
START_TEST(law_10_descendants_follow)
{
        uint64_t now = now_boottime_usec();
        CTX_AUTO_UNREF struct ctx *root = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *top = ctx_with_deadline(root, now + 4 * HOUR);
        CTX_AUTO_UNREF struct ctx *plain = ctx_with_cancel(top);
        CTX_AUTO_UNREF struct ctx *earlier = ctx_with_deadline(plain, now + 2 * HOUR);
        CTX_AUTO_UNREF struct ctx *later = ctx_with_deadline(plain, now + 6 * HOUR);
        CTX_AUTO_UNREF struct ctx *same = ctx_with_deadline(plain, now + 4 * HOUR);
        CTX_AUTO_UNREF struct ctx *of_earlier = ctx_with_cancel(earlier);
        CTX_AUTO_UNREF struct ctx *of_later = ctx_readonly(later);
        CTX_AUTO_UNREF struct ctx *other = ctx_with_deadline(ctx_background(), now + 5 * HOUR);
        CTX_AUTO_UNREF struct ctx *merged = ctx_merge(other, &plain, 1);
        CTX_AUTO_UNREF struct ctx *of_merged = ctx_with_deadline(merged, now + 7 * HOUR);
        CTX_AUTO_UNREF struct ctx *without = ctx_without_cancel(plain);
        CTX_AUTO_UNREF struct ctx *born = NULL;
        /* To which hour the top is moved, and what the others have then; 0: no deadline. */
        static const unsigned table[][6] = {
                        /* top, earlier, later, same, merged, plain */
                        {4, 2, 4, 4, 4, 4},
                        {8, 2, 6, 4, 5, 8},
                        {1, 1, 1, 1, 1, 1},
                        {3, 2, 3, 3, 3, 3},
                        {0, 2, 6, 4, 5, 0},
                        {5, 2, 5, 4, 5, 5},
                        {9, 2, 6, 4, 5, 9},
        };

        for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
                struct ctx *all[] = {top, earlier, later, same, merged, plain};

                ck_assert_int_eq(ctx_extend(top, table[i][0] ? now + table[i][0] * HOUR : UINT64_MAX), 0);
                for (size_t j = 0; j < 6; j++)
                        ck_assert_uint_eq(deadline_of(all[j]),
                                        table[i][j] ? now + table[i][j] * HOUR : UINT64_MAX);
                ck_assert_uint_eq(deadline_of(of_earlier), deadline_of(earlier));
                ck_assert_uint_eq(deadline_of(of_later), deadline_of(later));
                ck_assert_uint_eq(deadline_of(of_merged), deadline_of(merged));
                ck_assert_uint_eq(deadline_of(without), UINT64_MAX);
                ck_assert_uint_eq(deadline_of(root), UINT64_MAX);
                born = ctx_with_cancel(plain);
                ck_assert_uint_eq(deadline_of(born), deadline_of(plain));
                born = ctx_unref(born);
        }
        /* One that had none gets one, and its children with it. */
        ck_assert_int_eq(ctx_extend(root, now + 3 * HOUR), 0);
        ck_assert_uint_eq(deadline_of(plain), now + 3 * HOUR);
        ck_assert_uint_eq(deadline_of(later), now + 3 * HOUR);
        ck_assert_uint_eq(deadline_of(earlier), now + 2 * HOUR);
        ck_assert_int_eq(ctx_err(later), 0);
}
END_TEST

START_TEST(law_10_the_cause_of_the_one_that_counts)
{
        WITH_MORE_TIME(margin)
        {
                uint64_t soon = now_boottime_usec() + margin;
                CTX_AUTO_UNREF struct ctx *top =
                                ctx_with_deadline_cause(ctx_background(), soon + HOUR, EIO, "top");
                CTX_AUTO_UNREF struct ctx *middle =
                                ctx_with_deadline_cause(top, soon + HOUR / 2, EPIPE, "middle");
                CTX_AUTO_UNREF struct ctx *below =
                                ctx_with_deadline_cause(middle, soon + HOUR, EPROTO, "below");
                CTX_AUTO_UNREF struct ctx *leaf = ctx_with_cancel(below);

                /* At first that of the middle; then its own; then that of the top. */
                ck_assert_int_eq(ctx_extend(middle, soon + HOUR), 0);
                if (ctx_extend(below, soon - 1) != 0 || ctx_extend(top, soon) != 0 ||
                                now_boottime_usec() >= soon - 1)
                        continue;
                sleep_until(soon + 1);
                assert_cause(leaf, EPROTO, "below");
                assert_cause(middle, EIO, "top");
                assert_cause(below, EPROTO, "below");
                assert_cause(top, EIO, "top");
                return;
        }
        ck_abort_msg("nothing gets done here");
}
END_TEST

START_TEST(law_14_a_time_that_has_passed)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *child = ctx_with_cancel(ctx);
        int fd = ctx_done_fd(child);

        ck_assert_int_eq(ctx_extend(ctx, 1), 0);
        ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
        ck_assert_int_eq(ctx_err(child), -ETIMEDOUT);
        ck_assert(is_readable(fd));
}
END_TEST

enum { BY_WAIT, BY_FD, BY_CALLBACK, BY_LOOKS, BY_MUTEX, HOW };

static _Atomic bool ran;

static void callback(void *userdata)
{
        atomic_store(&ran, true);
}

struct waiter {
        struct ctx *ctx;
        int how;
        uint64_t when;
        _Atomic pid_t tid;
};

/* Waits until ctx is done, in one way, and says when that was. */
static void *wait_for_end(void *userdata)
{
        struct waiter *waiter = userdata;
        struct ctx_mutex mutex = {};
        struct ctx_after *after = NULL;
        struct pollfd pollfd = {.events = POLLIN};

        if (waiter->how == BY_CALLBACK)
                after = ctx_after_func(waiter->ctx, callback, NULL);
        pollfd.fd = waiter->how == BY_FD ? ctx_done_fd(waiter->ctx) : -1;
        ck_assert_int_eq(ctx_mutex_trylock(&mutex), 0);
        atomic_store(&waiter->tid, gettid());
        switch (waiter->how) {
        case BY_WAIT:
                ck_assert_int_eq(ctx_wait(waiter->ctx, UINT64_MAX), -ETIMEDOUT);
                break;
        case BY_FD:
                ck_assert_int_eq(poll(&pollfd, 1, -1), 1);
                break;
        case BY_CALLBACK:
                while (!atomic_load(&ran))
                        usleep(500);
                break;
        case BY_LOOKS:
                while (ctx_err(waiter->ctx) == 0)
                        usleep(500);
                break;
        default:
                ck_assert_int_eq(ctx_mutex_lock(waiter->ctx, &mutex), -ETIMEDOUT);
                break;
        }
        waiter->when = now_boottime_usec();
        ck_assert_int_eq(ctx_err(waiter->ctx), -ETIMEDOUT);
        ctx_after_unref(after);
        return NULL;
}

/* From one deadline to another one (0: none), and every way to learn of it. False if the first one has passed
 * before it could be moved. */
static bool who_waits_learns_of_it(uint64_t before, uint64_t after)
{
        for (int how = 0; how < HOW; how++) {
                uint64_t start = now_boottime_usec();
                CTX_AUTO_UNREF struct ctx *root = ctx_with_cancel(ctx_background());
                CTX_AUTO_UNREF struct ctx *top =
                                before ? ctx_with_deadline(root, start + before) : ctx_with_cancel(root);
                CTX_AUTO_UNREF struct ctx *child = ctx_with_cancel(top);
                struct waiter waiter = {.ctx = child, .how = how};
                pthread_t thread;
                int r;

                atomic_store(&ran, false);
                ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_end, &waiter), 0);
                while (atomic_load(&waiter.tid) == 0)
                        usleep(100);
                usleep(2000); /* it sleeps by now, or not yet: both are right */
                r = ctx_extend(top, start + after);
                pthread_join(thread, NULL);
                if (r == -EALREADY)
                        return false;
                ck_assert_int_eq(r, 0);
                ck_assert_uint_ge(waiter.when, start + after);
                ck_assert_uint_lt(waiter.when, start + after + HOUR / 2);
        }
        return true;
}

START_TEST(law_12_moved_to_a_later_time)
{
        WITH_MORE_TIME(margin)
        if (who_waits_learns_of_it(margin, 2 * margin))
                return;
        ck_abort_msg("nothing gets done here");
}
END_TEST

START_TEST(law_12_moved_to_an_earlier_time)
{
        ck_assert(who_waits_learns_of_it(HOUR, 50000));
}
END_TEST

START_TEST(law_12_where_there_was_none)
{
        ck_assert(who_waits_learns_of_it(0, 50000));
}
END_TEST

#define STORM_THREADS 3

static struct ctx *top_of_storm;
static uint64_t base;
static _Atomic bool over;

static void *derive_meanwhile(void *userdata)
{
        unsigned seed = (unsigned) (uintptr_t) userdata;

        while (!atomic_load(&over)) {
                struct ctx *a = ctx_with_cancel(top_of_storm),
                           *b = ctx_with_deadline(a, base + rand_r(&seed) % 9 * HOUR);
                struct ctx *others[] = {b, top_of_storm};
                struct ctx *merged = ctx_merge(ctx_background(), others, 2), *leaf = ctx_with_cancel(merged);

                for (int i = 0; i < 5; i++)
                        ck_assert_uint_le(deadline_of(leaf), base + 20 * HOUR);
                if (rand_r(&seed) % 2)
                        ctx_cancel(a);
                ctx_unref(merged);
                ctx_unref(a);
                ctx_unref(b);
                ctx_unref(leaf);
        }
        return NULL;
}

/* When all is quiet, each context has the earliest from itself up. */
START_TEST(law_10_moved_while_others_derive)
{
        pthread_t threads[STORM_THREADS];
        struct ctx *kids[50];

        base = now_boottime_usec() + 10 * HOUR;
        top_of_storm = ctx_with_deadline(ctx_background(), base + 8 * HOUR);
        for (int i = 0; i < STORM_THREADS; i++)
                ck_assert_int_eq(pthread_create(&threads[i], NULL, derive_meanwhile,
                                                 (void *) (uintptr_t) (i + 1)),
                                0);
        for (unsigned round = 0; round < 300; round++) {
                uint64_t to = base + round % 10 * HOUR;

                for (int i = 0; i < 50; i++) {
                        kids[i] = i % 2 ? ctx_with_deadline(top_of_storm, base + 5 * HOUR)
                                        : ctx_with_cancel(top_of_storm);
                        if (i == 25)
                                ck_assert_int_eq(ctx_extend(top_of_storm, to), 0);
                }
                for (int i = 0; i < 50; i++) {
                        ck_assert_uint_eq(deadline_of(kids[i]),
                                        i % 2 && to > base + 5 * HOUR ? base + 5 * HOUR : to);
                        ctx_unref(kids[i]);
                }
        }
        atomic_store(&over, true);
        for (int i = 0; i < STORM_THREADS; i++)
                pthread_join(threads[i], NULL);
        ctx_unref(top_of_storm);
}
END_TEST

static void warm_up(void)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct ctx_after *after = ctx_after_func(ctx, callback, NULL);

        ctx_after_stop(after);
        ctx_after_unref(after);
}

int main(void)
{
        const TTest *tests[] = {
                        law_14_who_may_be_moved_and_how_far,
                        law_10_descendants_follow,
                        law_10_the_cause_of_the_one_that_counts,
                        law_14_a_time_that_has_passed,
                        law_12_moved_to_a_later_time,
                        law_12_moved_to_an_earlier_time,
                        law_12_where_there_was_none,
                        law_10_moved_while_others_derive,
                        NULL,
        };

        warm = warm_up;
        return run_laws("local contexts: moved deadlines", tests);
}
