/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/resource.h>

#include "tests/law/local.h"

/* Laws 16 to 22 for local contexts. */

static const struct ctx_key red = CTX_KEY("colour"), blue = CTX_KEY("colour"), missing = CTX_KEY("missing");

START_TEST(law_16_the_nearest_value)
{
        int a, b, c;
        CTX_AUTO_UNREF struct ctx *first = ctx_with_value(ctx_background(), &red, &a, NULL);
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(first);
        CTX_AUTO_UNREF struct ctx *second = ctx_with_value(ctx, &red, &b, NULL);
        CTX_AUTO_UNREF struct ctx *below = ctx_with_timeout(second, 1000000000);
        CTX_AUTO_UNREF struct ctx *other = ctx_with_value(below, &blue, &c, NULL);
        CTX_AUTO_UNREF struct ctx *null = ctx_with_value(other, &blue, NULL, NULL);

        ck_assert_ptr_eq(ctx_value(first, &red), &a);
        ck_assert_ptr_eq(ctx_value(ctx, &red), &a);
        ck_assert_ptr_eq(ctx_value(second, &red), &b);
        ck_assert_ptr_eq(ctx_value(other, &red), &b);
        ck_assert_ptr_eq(ctx_value(other, &blue), &c);
        ck_assert_ptr_null(ctx_value(null, &blue)); /* a NULL hides too */
        ck_assert_ptr_null(ctx_value(below, &blue));
        ck_assert_ptr_null(ctx_value(other, &missing));
        ck_assert_ptr_null(ctx_value(NULL, &red));
        ck_assert_ptr_null(ctx_value(other, NULL));
        ck_assert_ptr_null(ctx_with_value(other, NULL, &a, NULL));
        ck_assert_int_eq(errno, EINVAL);
}
END_TEST

START_TEST(law_17_keys_are_addresses)
{
        int a;
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_value(ctx_background(), &red, &a, NULL);

        ck_assert_str_eq(red.name, blue.name);
        ck_assert_ptr_null(ctx_value(ctx, &blue));
}
END_TEST

static void count(void *value)
{
        ++*(int *) value;
}

START_TEST(law_18_values_stay)
{
        int destroyed = 0;
        struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct ctx *value = ctx_with_value(ctx, &red, &destroyed, count);
        struct ctx *without = ctx_without_cancel(value);
        struct ctx *merged = ctx_merge(value, &ctx, 1);
        struct ctx *child = ctx_with_cancel(value);

        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_ptr_eq(ctx_value(without, &red), &destroyed);
        ck_assert_ptr_eq(ctx_value(merged, &red), &destroyed);
        ck_assert_ptr_eq(ctx_value(child, &red), &destroyed);
        ctx_unref(ctx);
        ctx_unref(value);
        ck_assert_ptr_eq(ctx_value(child, &red), &destroyed);
        ctx_unref(merged);
        ctx_unref(child);
        ck_assert_ptr_eq(ctx_value(without, &red), &destroyed);
        ck_assert_int_eq(destroyed, 0);
        child = ctx_with_cancel(without);
        ctx_unref(without);
        ck_assert_ptr_eq(ctx_value(child, &red), &destroyed);
        ck_assert_int_eq(destroyed, 0);
        ctx_unref(child);
        ck_assert_int_eq(destroyed, 1);
}
END_TEST

START_TEST(law_19_without_cancel)
{
        CTX_AUTO_UNREF struct ctx *parent = ctx_with_timeout(ctx_background(), 1000000000);
        CTX_AUTO_UNREF struct ctx *without = ctx_without_cancel(parent);
        CTX_AUTO_UNREF struct ctx *child = ctx_with_cancel(without);

        ck_assert_int_eq(ctx_cancel(parent), 1);
        ck_assert_int_eq(ctx_err(without), 0);
        ck_assert_int_eq(ctx_err(child), 0);
        ck_assert_int_eq(ctx_deadline(without, NULL), 0);
        ck_assert_int_eq(ctx_deadline(child, NULL), 0);
        ck_assert_int_eq(ctx_cancel(child), 1);
        ck_assert_int_eq(ctx_err(without), 0);
}
END_TEST

START_TEST(law_20_merge)
{
        for (int which = 0; which < 4; which++) {
                struct ctx *sources[4], *merged, *child;

                for (int i = 0; i < 4; i++)
                        sources[i] = ctx_with_cancel(ctx_background());
                merged = ctx_merge(sources[0], sources + 1, 3);
                child = ctx_with_cancel(merged);
                ck_assert_int_eq(ctx_err(child), 0);
                ck_assert_int_eq(ctx_cancel_cause(sources[which], 1 + which, "this one"), 1);
                ck_assert_int_eq(ctx_err(merged), -ECANCELED);
                assert_cause(child, 1 + which, "this one");
                for (int i = 0; i < 4; i++)
                        ck_assert_int_eq(ctx_err(sources[i]), i == which ? -ECANCELED : 0);
                for (int i = 0; i < 4; i++)
                        ctx_unref(sources[i]);
                ctx_unref(merged);
                assert_cause(child, 1 + which, "this one");
                ctx_unref(child);
        }
}
END_TEST

START_TEST(law_20_merge_by_itself)
{
        CTX_AUTO_UNREF struct ctx *a = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *b = ctx_with_cancel(ctx_background());
        struct ctx *twice[] = {a, b, a, a, ctx_background()}, *none[] = {NULL};
        CTX_AUTO_UNREF struct ctx *merged = ctx_merge(a, twice, 5);
        CTX_AUTO_UNREF struct ctx *of_merged = ctx_merge(merged, twice, 5);

        ck_assert_int_eq(ctx_cancel(merged), 1);
        ck_assert_int_eq(ctx_err(a), 0);
        ck_assert_int_eq(ctx_err(b), 0);
        ck_assert_int_eq(ctx_err(of_merged), -ECANCELED);
        ck_assert_ptr_null(ctx_merge(a, none, 1));
        ck_assert_int_eq(errno, EINVAL);
        ck_assert_ptr_null(ctx_merge(a, NULL, 1));
        ck_assert_ptr_null(ctx_merge(NULL, twice, 1));
}
END_TEST

static void small_stack(void)
{
        struct rlimit limit = {.rlim_cur = 128 * 1024, .rlim_max = 128 * 1024};

        setrlimit(RLIMIT_STACK, &limit);
}

START_TEST(law_21_deep)
{
        enum { LEVELS = 100000 };
        struct ctx **all = calloc(LEVELS, sizeof(struct ctx *));
        struct ctx *top = ctx_with_cancel(ctx_background());

        small_stack();
        for (int i = 0; i < LEVELS; i++)
                all[i] = i % 3 == 2 ? ctx_with_value(i ? all[i - 1] : top, &red, NULL, NULL)
                                    : ctx_with_cancel(i ? all[i - 1] : top);
        ck_assert_int_eq(ctx_err(all[LEVELS - 1]), 0);
        ck_assert_int_eq(ctx_cancel(top), 1);
        for (int i = 0; i < LEVELS; i++)
                ck_assert_int_eq(ctx_err(all[i]), -ECANCELED);
        /* The last one holds all the others. */
        ctx_unref(top);
        for (int i = 0; i < LEVELS - 1; i++)
                ctx_unref(all[i]);
        ck_assert_int_eq(ctx_err(all[LEVELS - 1]), -ECANCELED);
        ctx_unref(all[LEVELS - 1]);
        free(all);
}
END_TEST

START_TEST(law_21_deep_without_a_cancel)
{
        struct ctx *ctx = ctx_with_cancel(ctx_background());

        small_stack();
        for (int i = 0; i < 100000; i++) {
                struct ctx *child = i % 5 == 4 ? ctx_with_timeout_cause(ctx, 1000000000, EPIPE, "x")
                                               : ctx_with_cancel(ctx);

                ctx_unref(ctx);
                ctx = child;
        }
        ctx_unref(ctx);
}
END_TEST

START_TEST(law_21_wide)
{
        enum { CHILDREN = 1000000 };
        struct ctx **all = calloc(CHILDREN, sizeof(struct ctx *));
        struct ctx *top = ctx_with_cancel(ctx_background());

        small_stack();
        for (int i = 0; i < CHILDREN; i++)
                all[i] = ctx_with_cancel(top);
        /* From the front, the back and the middle, so that each kind of place in the list is left. */
        for (int i = 0; i < CHILDREN; i += 10)
                ctx_cancel(all[i]);
        ck_assert_int_eq(ctx_cancel(top), 1);
        for (int i = 0; i < CHILDREN; i++)
                ck_assert_int_eq(ctx_err(all[i]), -ECANCELED);
        for (int i = 0; i < CHILDREN; i++)
                ctx_unref(all[i]);
        ctx_unref(top);
        free(all);
}
END_TEST

/* Every order of giving up a small family, cancelled at every point of it. */
START_TEST(law_22_any_order)
{
        enum { N = 5 };
        int order[N] = {0, 1, 2, 3, 4}, destroyed = 0, made = 0;

        for (unsigned n = 0; n < 120; n++) {
                unsigned x = n;

                for (int i = 0; i < N; i++)
                        order[i] = i;
                for (int i = N - 1; i > 0; i--) {
                        int j = (int) (x % (unsigned) (i + 1)), t = order[i];

                        x /= (unsigned) (i + 1);
                        order[i] = order[j];
                        order[j] = t;
                }
                for (int cancelled = 0; cancelled < N; cancelled++) {
                        for (int at = 0; at <= N; at++) {
                                struct ctx *family[N];
                                bool gone[N] = {};

                                family[0] = ctx_with_cancel(ctx_background());
                                family[1] = ctx_with_timeout_cause(family[0], 1000000000, EPIPE, "late");
                                family[2] = ctx_with_value(family[1], &red, &destroyed, count);
                                family[3] = ctx_merge(family[2], &family[0], 1);
                                family[4] = ctx_with_cancel(family[3]);
                                for (int i = 0; i < N; i++) {
                                        if (i == at && !gone[cancelled])
                                                ctx_cancel(family[cancelled]);
                                        gone[order[i]] = true;
                                        ctx_unref(family[order[i]]);
                                }
                                ck_assert_int_eq(destroyed, ++made);
                        }
                }
        }
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_16_the_nearest_value,
                        law_17_keys_are_addresses,
                        law_18_values_stay,
                        law_19_without_cancel,
                        law_20_merge,
                        law_20_merge_by_itself,
                        law_21_deep,
                        law_21_deep_without_a_cancel,
                        law_21_wide,
                        law_22_any_order,
                        NULL,
        };

        return run_laws("local contexts: values and shape", tests);
}
