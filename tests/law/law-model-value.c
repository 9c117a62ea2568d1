/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/law/model.h"

/* Laws 16 to 18 for the daemon's contexts. */

static struct context *make_valued(const char *path, const struct value *values, size_t n)
{
        struct create_options o = plain;

        o.values = values;
        o.n_values = n;
        return make_with(path, &o);
}

START_TEST(law_16_a_value_is_that_of_the_nearest)
{
        static const struct value upper[] = {{"org.example.user", "alice"}, {"org.example.trace", "1"}};
        static const struct value lower[] = {{"org.example.user", "bob"}, {"org.example.empty", ""}};
        struct context *p, *c, *d;

        p = make_valued("p", upper, 2);
        c = make_valued("p/c", lower, 2);
        d = make("p/c/d");
        ck_assert_str_eq(context_value(p, "org.example.user"), "alice");
        ck_assert_str_eq(context_value(c, "org.example.user"), "bob");
        ck_assert_str_eq(context_value(d, "org.example.user"), "bob");
        ck_assert_str_eq(context_value(d, "org.example.trace"), "1");
        ck_assert_str_eq(context_value(d, "org.example.empty"), "");
        ck_assert_ptr_null(context_value(p, "org.example.empty"));
        ck_assert_ptr_null(context_value(d, "org.example.use"));
        ck_assert_ptr_null(context_value(d, "org.example.users"));
        cancel(p); /* values stay */
        ck_assert_str_eq(context_value(d, "org.example.user"), "bob");
}
END_TEST

START_TEST(law_17_a_key_without_a_dot_is_refused)
{
        static const char *const bad[] = {"user", "", ".", ".a", "a.", "a..b", "a b.c", "a.\303\251"};
        struct value value = {.value = (char *) "x"};
        struct create_options o = plain;
        struct context *c = NULL;

        o.values = &value;
        o.n_values = 1;
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                value.key = (char *) bad[i];
                ck_assert_int_eq(create_as(&root, "c", &o, &c), -EINVAL);
                ck_assert_int_eq(refused.reason, REFUSED_KEY);
                ck_assert_ptr_nonnull(refused.detail);
        }
        ck_assert_ptr_null(c);
        ck_assert_uint_eq(t->n_contexts, 0);
}
END_TEST

START_TEST(law_17_a_key_is_given_once)
{
        static const struct value twice[] = {
                        {"org.example.a", "1"}, {"org.example.b", "1"}, {"org.example.a", "2"}};
        struct create_options o = plain;
        struct context *c;

        o.values = twice;
        o.n_values = 3;
        ck_assert_int_eq(create_as(&root, "c", &o, &c), -EINVAL);
        ck_assert_int_eq(refused.reason, REFUSED_KEY);
}
END_TEST

START_TEST(law_18_values_are_the_contexts_own)
{
        char key[] = "org.example.user", text[] = "alice";
        struct value value = {key, text};
        struct context *c = make_valued("c", &value, 1);

        memset(key, 'x', sizeof key - 1);
        memset(text, 'x', sizeof text - 1);
        ck_assert_str_eq(context_value(c, "org.example.user"), "alice");
}
END_TEST

START_TEST(law_18_limits_of_values)
{
        struct value values[CTXD_VALUES_MAX + 1];
        char keys[CTXD_VALUES_MAX + 1][32];
        struct create_options o = plain;
        struct context *c;

        for (size_t i = 0; i <= CTXD_VALUES_MAX; i++) {
                snprintf(keys[i], sizeof keys[i], "org.example.%03zu", i);
                values[i] = (struct value){keys[i], (char *) "1234"};
        }
        o.values = values;
        o.n_values = CTXD_VALUES_MAX + 1;
        ck_assert_int_eq(create_as(&root, "c", &o, &c), -EDQUOT);
        ck_assert_int_eq(refused.reason, REFUSED_LIMIT);
        o.n_values = CTXD_VALUES_MAX;
        t->max_value_bytes = CTXD_VALUES_MAX * 19 - 1;
        ck_assert_int_eq(create_as(&root, "c", &o, &c), -EDQUOT);
        ck_assert_str_eq(refused.limit_key, "MaxValueBytes");
        ck_assert_uint_eq(refused.used, CTXD_VALUES_MAX * 19);
        ck_assert_uint_eq(refused.allowed, CTXD_VALUES_MAX * 19 - 1);
        t->max_value_bytes++;
        ck_assert_int_eq(create_as(&root, "c", &o, &c), 1);
        ck_assert_str_eq(context_value(c, "org.example.063"), "1234");
}
END_TEST

int main(void)
{
        const TTest *tests[] = {
                        law_16_a_value_is_that_of_the_nearest,
                        law_17_a_key_without_a_dot_is_refused,
                        law_17_a_key_is_given_once,
                        law_18_values_are_the_contexts_own,
                        law_18_limits_of_values,
                        NULL,
        };

        return run_laws("law-model-value", tests);
}
