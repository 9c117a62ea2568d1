/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/law/local.h"

/* Laws 22 to 25 for local contexts. */

struct record {
        struct ctx *ctx;
        struct ctx_after *after;
        pthread_t thread;
        _Atomic int runs;
        _Atomic bool hold, in;
        int err, stop_wait;
};

static void wait_for(_Atomic int *value, int wanted)
{
        for (int i = 0; i < 120000 && atomic_load(value) != wanted; i++)
                usleep(500);
        ck_assert_int_eq(atomic_load(value), wanted);
}

static void note(void *userdata)
{
        struct record *r = userdata;

        r->thread = pthread_self();
        r->err = r->ctx ? ctx_err(r->ctx) : 0;
        atomic_store(&r->in, true);
        while (atomic_load(&r->hold))
                usleep(100);
        if (r->after)
                r->stop_wait = ctx_after_stop_wait(r->after);
        atomic_fetch_add(&r->runs, 1);
}

/* The helper's descriptors stay. */
static void warm_up(void)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct ctx_after *after = ctx_after_func(ctx, note, &(struct record){});

        ck_assert_int_eq(ctx_after_stop(after), 1);
        ctx_after_unref(after);
}

START_TEST(law_23_once_after_done_on_another_thread)
{
        CTX_AUTO_UNREF struct ctx *top = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(top);
        struct record r = {.ctx = ctx}, at_once = {.ctx = ctx};
        struct ctx_after *after = ctx_after_func(ctx, note, &r), *second;

        usleep(2000);
        ck_assert_int_eq(r.runs, 0);
        ck_assert_int_eq(ctx_cancel(top), 1);
        wait_for(&r.runs, 1);
        ck_assert_int_eq(r.err, -ECANCELED);
        ck_assert(!pthread_equal(r.thread, pthread_self()));
        second = ctx_after_func(ctx, note, &at_once);
        wait_for(&at_once.runs, 1);
        ck_assert(!pthread_equal(at_once.thread, pthread_self()));
        ck_assert_int_eq(r.runs, 1);
        ctx_after_unref(after);
        ctx_after_unref(second);
}
END_TEST

START_TEST(law_23_cancel_does_not_wait)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct record r = {.hold = true};
        struct ctx_after *after = ctx_after_func(ctx, note, &r);

        ck_assert_int_eq(ctx_cancel(ctx), 1); /* would hang */
        while (!atomic_load(&r.in))
                usleep(100);
        ck_assert_int_eq(r.runs, 0);
        atomic_store(&r.hold, false);
        wait_for(&r.runs, 1);
        ctx_after_unref(after);
}
END_TEST

START_TEST(law_23_by_deadline)
{
        CTX_AUTO_UNREF struct ctx *parent = ctx_with_timeout(ctx_background(), 5000);
        struct record r[20] = {};
        struct ctx_after *after[20];

        for (int i = 0; i < 20; i++) {
                CTX_AUTO_UNREF struct ctx *ctx = i % 2 ? ctx_with_cancel(parent)
                                                       : ctx_with_timeout(parent, 1000 * (uint64_t) (20 - i));

                r[i].ctx = ctx;
                after[i] = ctx_after_func(ctx, note, &r[i]);
        }
        for (int i = 0; i < 20; i++) {
                wait_for(&r[i].runs, 1);
                ck_assert_int_eq(r[i].err, -ETIMEDOUT);
                ctx_after_unref(after[i]);
        }
}
END_TEST

/* The program has let go of the context and of the handle. */
START_TEST(law_23_a_registration_keeps_its_context)
{
        struct ctx *top = ctx_with_cancel(ctx_background());
        struct ctx *ctx = ctx_with_cancel(top);
        struct record r = {.ctx = ctx}, never = {};
        struct ctx_after *forgotten;

        ctx_after_unref(ctx_after_func(ctx, note, &r));
        ctx_unref(ctx);
        ck_assert_int_eq(ctx_cancel(top), 1);
        wait_for(&r.runs, 1);
        ctx_unref(top);

        /* A value, not its source alone; and one that was done before. */
        for (int i = 0; i < 2; i++) {
                static const struct ctx_key key = CTX_KEY("key");
                CTX_AUTO_UNREF struct ctx *parent = ctx_with_cancel(ctx_background());
                struct record value = {.ctx = ctx_with_value(parent, &key, parent, NULL)};

                if (i == 1) {
                        ck_assert_int_eq(ctx_cancel(parent), 1);
                        ctx_unref(value.ctx);
                        value.ctx = ctx_with_cancel(parent);
                }
                atomic_store(&r.runs, 0);
                atomic_store(&r.in, false);
                atomic_store(&r.hold, true);
                r.ctx = NULL;
                if (i == 1) { /* keeps the helper busy until the context has been given up */
                        ctx_after_unref(ctx_after_func(parent, note, &r));
                        while (!atomic_load(&r.in))
                                usleep(100);
                }
                ctx_after_unref(ctx_after_func(value.ctx, note, &value));
                ctx_unref(value.ctx);
                ctx_cancel(parent);
                atomic_store(&r.hold, false);
                wait_for(&value.runs, 1);
                ck_assert_int_eq(value.err, -ECANCELED);
        }

        forgotten = ctx_after_func(ctx_background(), note, &never);
        ck_assert_int_eq(ctx_after_stop(forgotten), 1);
        ck_assert_int_eq(ctx_after_stop(forgotten), 0);
        ctx_after_unref(forgotten);
        ck_assert_int_eq(never.runs, 0);
}
END_TEST

START_TEST(law_24_stop_says_whether_it_will_run)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *timed = ctx_with_timeout(ctx, 1000000000);
        struct record r = {}, held = {.hold = true}, queued = {};
        struct ctx_after *after = ctx_after_func(timed, note, &r), *holder, *behind;

        ck_assert_int_eq(ctx_after_stop(after), 1);
        ck_assert_int_eq(ctx_after_stop(after), 0);
        ck_assert_int_eq(ctx_after_stop_wait(after), 0);
        ctx_after_unref(after);

        holder = ctx_after_func(ctx, note, &held);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        while (!atomic_load(&held.in))
                usleep(100);
        ck_assert_int_eq(ctx_after_stop(holder), 0); /* it has begun */
        behind = ctx_after_func(ctx, note, &queued);
        ck_assert_int_eq(ctx_after_stop(behind), 1); /* it has not */
        atomic_store(&held.hold, false);
        ck_assert_int_eq(ctx_after_stop_wait(holder), 0);
        ck_assert_int_eq(held.runs, 1);
        usleep(2000);
        ck_assert_int_eq(queued.runs, 0);
        ck_assert_int_eq(r.runs, 0);
        ctx_after_unref(holder);
        ctx_after_unref(behind);
        ck_assert_int_eq(ctx_after_stop(NULL), -EINVAL);
        ck_assert_int_eq(ctx_after_stop_wait(NULL), -EINVAL);
        ck_assert_ptr_null(ctx_after_func(NULL, note, NULL));
        ck_assert_ptr_null(ctx_after_func(ctx, NULL, NULL));
}
END_TEST

START_TEST(law_24_stop_and_wait)
{
        for (int round = 0; round < 300; round++) {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
                struct record r = {};
                struct ctx_after *after = ctx_after_func(ctx, note, &r);
                int stopped;

                ctx_cancel(ctx);
                for (int i = 0; i < round % 50; i++)
                        sched_yield();
                stopped = ctx_after_stop_wait(after);
                /* It runs now or never. */
                ck_assert_int_eq(r.runs, !stopped);
                ctx_after_unref(after);
        }
}
END_TEST

START_TEST(law_24_from_inside)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct record r = {.stop_wait = 1};

        r.after = ctx_after_func(ctx, note, &r);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        wait_for(&r.runs, 1);
        ck_assert_int_eq(r.stop_wait, -EDEADLK);
        ctx_after_unref(r.after);
}
END_TEST

START_TEST(law_25_a_wait_after_done)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *never = ctx_without_cancel(ctx);
        uint64_t before;

        ck_assert_int_eq(ctx_wait(ctx, 0), 0);
        before = now_boottime_usec();
        ck_assert_int_eq(ctx_wait(ctx, 2000), 0);
        ck_assert_uint_ge(now_boottime_usec(), before + 2000);
        before = now_boottime_usec();
        ck_assert_int_eq(ctx_wait(never, 2000), 0);
        ck_assert_uint_ge(now_boottime_usec(), before + 2000);
        ck_assert_int_eq(ctx_wait(never, UINT64_MAX), -EDEADLK);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_int_eq(ctx_wait(ctx, UINT64_MAX), -ECANCELED);
        ck_assert_int_eq(ctx_wait(ctx, 0), -ECANCELED);
}
END_TEST

static void *wait_long(void *userdata)
{
        return (void *) (intptr_t) ctx_wait(userdata, UINT64_MAX);
}

START_TEST(law_25_no_wait_is_missed)
{
        for (int round = 0; round < 300; round++) {
                CTX_AUTO_UNREF struct ctx *top = ctx_with_cancel(ctx_background());
                CTX_AUTO_UNREF struct ctx *middle = ctx_with_cancel(top);
                CTX_AUTO_UNREF struct ctx *ctx =
                                round % 2 ? ctx_with_timeout(middle, 1000000000) : ctx_with_cancel(middle);
                pthread_t threads[2];
                void *result;

                for (int i = 0; i < 2; i++)
                        ck_assert_int_eq(pthread_create(&threads[i], NULL, wait_long, ctx), 0);
                for (int i = 0; i < round % 40; i++)
                        sched_yield();
                /* Children come and go meanwhile, which changes the word that is waited on. */
                ctx_unref(ctx_with_cancel(ctx));
                ctx_cancel(top);
                for (int i = 0; i < 2; i++) {
                        pthread_join(threads[i], &result);
                        ck_assert_int_eq((int) (intptr_t) result, -ECANCELED);
                }
        }
}
END_TEST

START_TEST(law_22_storm)
{
        /* In tests/lib/storm.c, with more threads; here one of each. */
        for (int round = 0; round < 100; round++) {
                struct ctx *top = ctx_with_timeout(ctx_background(), 300);
                struct ctx *ctx = ctx_with_cancel(top);
                struct record r = {};
                struct ctx_after *after = ctx_after_func(ctx, note, &r);
                pthread_t thread;

                ck_assert_int_eq(pthread_create(&thread, NULL, wait_long, ctx), 0);
                if (round % 2)
                        ctx_cancel(ctx);
                pthread_join(thread, NULL);
                ctx_unref(top);
                ctx_unref(ctx);
                wait_for(&r.runs, 1);
                ctx_after_unref(after);
        }
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_22_storm,
                        law_23_once_after_done_on_another_thread,
                        law_23_cancel_does_not_wait,
                        law_23_by_deadline,
                        law_23_a_registration_keeps_its_context,
                        law_24_stop_says_whether_it_will_run,
                        law_24_stop_and_wait,
                        law_24_from_inside,
                        law_25_a_wait_after_done,
                        law_25_no_wait_is_missed,
                        NULL,
        };

        warm = warm_up;
        return run_laws("local contexts: callbacks and waits", tests);
}
