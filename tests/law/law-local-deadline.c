/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/epoll.h>

#include "tests/law/local.h"

/* Laws 6 and 9 to 15 for local contexts, as far as they speak of deadlines. */

#define HOUR UINT64_C(3600000000)

START_TEST(law_10_the_earliest_deadline)
{
        uint64_t now = now_boottime_usec(), deadline;
        CTX_AUTO_UNREF struct ctx *none = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *two = ctx_with_deadline(none, now + 2 * HOUR);
        CTX_AUTO_UNREF struct ctx *later = ctx_with_deadline(two, now + 3 * HOUR);
        CTX_AUTO_UNREF struct ctx *earlier = ctx_with_deadline(later, now + HOUR);
        CTX_AUTO_UNREF struct ctx *below = ctx_with_cancel(earlier);
        CTX_AUTO_UNREF struct ctx *view = ctx_readonly(below);
        CTX_AUTO_UNREF struct ctx *without = ctx_without_cancel(view);
        CTX_AUTO_UNREF struct ctx *again = ctx_with_deadline(without, now + 5 * HOUR);
        struct ctx *others[] = {below, none};
        CTX_AUTO_UNREF struct ctx *merged = ctx_merge(two, others, 2);

        ck_assert_int_eq(ctx_deadline(none, &deadline), 0);
        ck_assert_int_eq(ctx_deadline(two, &deadline), 1);
        ck_assert_uint_eq(deadline, now + 2 * HOUR);
        ck_assert_int_eq(ctx_deadline(later, &deadline), 1);
        ck_assert_uint_eq(deadline, now + 2 * HOUR);
        ck_assert_int_eq(ctx_deadline(earlier, &deadline), 1);
        ck_assert_uint_eq(deadline, now + HOUR);
        ck_assert_int_eq(ctx_deadline(view, &deadline), 1);
        ck_assert_uint_eq(deadline, now + HOUR);
        ck_assert_int_eq(ctx_deadline(without, &deadline), 0);
        ck_assert_int_eq(ctx_deadline(again, &deadline), 1);
        ck_assert_uint_eq(deadline, now + 5 * HOUR);
        ck_assert_int_eq(ctx_deadline(merged, &deadline), 1);
        ck_assert_uint_eq(deadline, now + HOUR);
        ck_assert_uint_le(ctx_remaining(view), HOUR);
        ck_assert_uint_gt(ctx_remaining(view), HOUR / 2);
        ck_assert_int_eq(ctx_deadline(view, NULL), 1);
}
END_TEST

/* False if the time was over before all of them were made. */
static bool whose_cause_counts(uint64_t margin)
{
        uint64_t soon = now_boottime_usec() + margin;
        CTX_AUTO_UNREF struct ctx *parent = ctx_with_deadline_cause(ctx_background(), soon, EIO, "parent");
        CTX_AUTO_UNREF struct ctx *later = ctx_with_deadline_cause(parent, soon + 1, EPIPE, "later");
        CTX_AUTO_UNREF struct ctx *same = ctx_with_deadline_cause(parent, soon, EPIPE, "same");
        CTX_AUTO_UNREF struct ctx *earlier = ctx_with_deadline_cause(parent, soon - 1, EPIPE, "earlier");
        CTX_AUTO_UNREF struct ctx *plain = ctx_with_deadline(parent, soon - 1);
        CTX_AUTO_UNREF struct ctx *grandchild = ctx_with_cancel(plain);
        CTX_AUTO_UNREF struct ctx *below = ctx_with_cancel(later);
        CTX_AUTO_UNREF struct ctx *merged = ctx_merge(ctx_background(), &parent, 1);
        CTX_AUTO_UNREF struct ctx *of_merged = ctx_with_timeout(merged, HOUR);
        CTX_AUTO_UNREF struct ctx *error_only = ctx_with_deadline_cause(parent, soon - 1, EPROTO, NULL);

        if (now_boottime_usec() >= soon - 1)
                return false;
        sleep_until(soon + 1);
        assert_cause(below, EIO, "parent");
        assert_cause(parent, EIO, "parent");
        assert_cause(later, EIO, "parent");
        assert_cause(same, EIO, "parent");
        assert_cause(earlier, EPIPE, "earlier");
        assert_cause(plain, ETIMEDOUT, "context deadline exceeded");
        assert_cause(grandchild, ETIMEDOUT, "context deadline exceeded");
        assert_cause(merged, EIO, "parent");
        assert_cause(of_merged, EIO, "parent");
        assert_cause(error_only, EPROTO, "context deadline exceeded");
        ck_assert_ptr_null(ctx_with_deadline_cause(parent, soon, -1, NULL));
        ck_assert_int_eq(errno, EINVAL);
        return true;
}

START_TEST(law_10_whose_cause_counts)
{
        WITH_MORE_TIME(margin)
        if (whose_cause_counts(margin))
                return;
        ck_abort_msg("nothing gets done here");
}
END_TEST

START_TEST(law_11_done_at_birth)
{
        uint64_t past[] = {0, 1, now_boottime_usec()};

        for (size_t i = 0; i < 3; i++) {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_deadline(ctx_background(), past[i]);
                CTX_AUTO_UNREF struct ctx *first_asked_by_fd = ctx_with_deadline(ctx_background(), past[i]);

                ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
                ck_assert_int_eq(ctx_cancel(ctx), 0);
                ck_assert(is_readable(ctx_done_fd(ctx)));
                ck_assert_uint_eq(ctx_remaining(ctx), 0);
                ck_assert_int_eq(
                                poll(&(struct pollfd){.fd = ctx_done_fd(first_asked_by_fd), .events = POLLIN},
                                                1, 60000),
                                1);
        }
}
END_TEST

/* Every way to learn of it: the clock must have come that far. */
START_TEST(law_12_never_early)
{
        for (unsigned i = 0; i < 120; i++) {
                uint64_t deadline = now_boottime_usec() + 100 + i * 7;
                CTX_AUTO_UNREF struct ctx *ctx = i % 8 < 4 ? ctx_with_deadline(ctx_background(), deadline)
                                                           : ctx_with_timeout(ctx_background(), 100 + i * 7);
                CTX_AUTO_UNREF struct ctx *child = ctx_with_cancel(ctx);

                switch (i % 4) {
                case 0:
                        while (ctx_err(child) == 0)
                                ;
                        break;
                case 1:
                        ck_assert_int_eq(ctx_wait(child, UINT64_MAX), -ETIMEDOUT);
                        break;
                case 2:
                        ck_assert_int_eq(poll(&(struct pollfd){.fd = ctx_done_fd(child), .events = POLLIN}, 1,
                                                         -1),
                                        1);
                        break;
                default:
                        while (ctx_remaining(child) > 0)
                                ;
                        break;
                }
                ck_assert_uint_ge(now_boottime_usec(), deadline);
                ck_assert_int_eq(ctx_err(child), -ETIMEDOUT);
                ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
        }
}
END_TEST

START_TEST(law_12_a_cancel_after_it_changes_nothing)
{
        CTX_AUTO_UNREF struct ctx *top = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(top, 1000);
        CTX_AUTO_UNREF struct ctx *below = ctx_with_cancel(ctx);
        CTX_AUTO_UNREF struct ctx *second = ctx_with_timeout(top, 1000);

        /* Nobody has looked at any of them when the cancel comes. */
        usleep(5000);
        ck_assert_int_eq(ctx_cancel(second), 0);
        ck_assert_int_eq(ctx_err(second), -ETIMEDOUT);
        ck_assert_int_eq(ctx_cancel(top), 1);
        ck_assert_int_eq(ctx_err(top), -ECANCELED);
        ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
        ck_assert_int_eq(ctx_err(below), -ETIMEDOUT);
}
END_TEST

/* False if the deadline was the first. */
static bool cancel_before(uint64_t margin)
{
        uint64_t soon = now_boottime_usec() + margin;
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_deadline(ctx_background(), soon + 1000);
        CTX_AUTO_UNREF struct ctx *child = ctx_with_deadline(ctx, soon);

        ck_assert_int_ge(ctx_done_fd(child), 0);
        if (ctx_cancel(ctx) != 1 || ctx_err(child) != -ECANCELED) {
                ck_assert_uint_ge(now_boottime_usec(), soon);
                return false;
        }
        sleep_until(soon + 2000);
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        ck_assert_int_eq(ctx_err(child), -ECANCELED);
        /* It was set to the past, and runs no more. */
        ck_assert(is_readable(ctx_done_fd(child)));
        return true;
}

#define MANY 200000
#define TIMED 2

static struct ctx *timed[TIMED];

static void *look_at_the_first(void *ret)
{
        int r;

        while ((r = ctx_err(timed[0])) == 0)
                ;
        atomic_store((_Atomic int *) ret, r);
        return NULL;
}

/* True if the deadline has passed in the middle of the cancel, and changed nothing. */
static bool passes_under_way(struct ctx **all, uint64_t before_usec)
{
        static uint64_t margin = 50000;
        struct ctx *top = ctx_with_cancel(ctx_background());
        uint64_t deadline = now_boottime_usec() + margin, start, end;
        _Atomic int looked = 0;
        pthread_t looker;
        bool all_canceled;

        /* A cancel comes to the youngest first. */
        for (int i = 0; i < TIMED; i++)
                timed[i] = ctx_with_deadline(top, deadline);
        for (int i = 0; i < MANY; i++)
                all[i] = ctx_with_cancel(top);
        ck_assert_int_eq(pthread_create(&looker, NULL, look_at_the_first, &looked), 0);
        if (now_boottime_usec() + 20000 > deadline)
                margin *= 2; /* the machine is slow */
        sleep_until(deadline - 20000);
        do
                start = now_boottime_usec();
        while (start < deadline - before_usec);
        ctx_cancel(top);
        end = now_boottime_usec();
        pthread_join(looker, NULL);

        all_canceled = looked == -ECANCELED && ctx_err(timed[1]) == -ECANCELED;
        for (int i = 0; i < TIMED; i++) {
                ck_assert(i > 0 || ctx_err(timed[i]) == looked);
                ctx_unref(timed[i]);
        }
        for (int i = 0; i < MANY; i++)
                ctx_unref(all[i]);
        ctx_unref(top);
        return start < deadline && end > deadline && all_canceled;
}

/* Also where somebody looks at a context that the cancel has not come to yet. */
START_TEST(law_09_a_deadline_that_passes_under_way)
{
        struct ctx **all = malloc(MANY * sizeof *all);
        bool done = false;

        for (int i = 0; i < 300 && !done; i++)
                done = passes_under_way(all, 200 + (uint64_t) i % 10 * 200);
        free(all);
        ck_assert(done);
}
END_TEST

START_TEST(law_13_a_cancel_before_it)
{
        WITH_MORE_TIME(margin)
        if (cancel_before(margin))
                return;
        ck_abort_msg("nothing gets done here");
}
END_TEST

START_TEST(law_15_no_deadline_and_now)
{
        CTX_AUTO_UNREF struct ctx *never = ctx_with_timeout(ctx_background(), UINT64_MAX);
        CTX_AUTO_UNREF struct ctx *overflow = ctx_with_timeout(ctx_background(), UINT64_MAX - 1);
        CTX_AUTO_UNREF struct ctx *far = ctx_with_timeout(ctx_background(), UINT64_MAX / 2);
        CTX_AUTO_UNREF struct ctx *point = ctx_with_deadline(ctx_background(), UINT64_MAX);
        CTX_AUTO_UNREF struct ctx *now = ctx_with_timeout(ctx_background(), 0);

        ck_assert_int_eq(ctx_deadline(never, NULL), 0);
        ck_assert_int_eq(ctx_deadline(overflow, NULL), 0);
        ck_assert_int_eq(ctx_deadline(point, NULL), 0);
        ck_assert_int_eq(ctx_deadline(far, NULL), 1);
        ck_assert_int_eq(ctx_err(far), 0);
        ck_assert_int_ge(ctx_done_fd(far), 0);
        ck_assert(!is_readable(ctx_done_fd(far)));
        ck_assert_int_eq(ctx_wait(far, 1000), 0);
        ck_assert_int_eq(ctx_err(now), -ETIMEDOUT);
        ck_assert_int_eq(ctx_wait(now, UINT64_MAX), -ETIMEDOUT);
}
END_TEST

/* An edge-triggered loop would hear of it twice, and a poll between the two would find nothing. */
START_TEST(law_06_readable_stays_so)
{
        struct epoll_event edge = {.events = EPOLLIN | EPOLLET}, event;

        for (int cancelled = 0; cancelled < 2; cancelled++) {
                CTX_AUTO_UNREF struct ctx *ctx =
                                ctx_with_timeout(ctx_background(), cancelled ? 3600000000 : 1000);
                int set = epoll_create1(EPOLL_CLOEXEC);

                ck_assert_int_eq(epoll_ctl(set, EPOLL_CTL_ADD, ctx_done_fd(ctx), &edge), 0);
                if (cancelled)
                        ck_assert_int_eq(ctx_cancel(ctx), 1);
                ck_assert_int_eq(epoll_wait(set, &event, 1, -1), 1);
                /* The first one who looks after the kernel's timer makes the context done. */
                ck_assert_int_eq(ctx_err(ctx), cancelled ? -ECANCELED : -ETIMEDOUT);
                ck_assert_int_eq(ctx_cancel(ctx), 0);
                ck_assert_int_eq(epoll_wait(set, &event, 1, 0), 0);
                ck_assert(is_readable(ctx_done_fd(ctx)));
                close(set);
        }
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_06_readable_stays_so,
                        law_10_the_earliest_deadline,
                        law_10_whose_cause_counts,
                        law_11_done_at_birth,
                        law_12_never_early,
                        law_09_a_deadline_that_passes_under_way,
                        law_12_a_cancel_after_it_changes_nothing,
                        law_13_a_cancel_before_it,
                        law_15_no_deadline_and_now,
                        NULL,
        };

        return run_laws("local contexts: deadlines", tests);
}
