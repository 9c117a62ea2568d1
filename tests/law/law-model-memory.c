/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/harness/refused-memory.h"
#include "tests/law/model.h"

/* Law 35 where memory runs out: the linker hands the model's allocations to us, and each one in turn is
 * refused. Whatever the verb, it says -ENOMEM and has changed nothing, or it succeeds without. */

START_TEST(law_35_create_without_memory_changes_nothing)
{
        static const struct value values[] = {{(char *) "a.b", (char *) "1"}, {(char *) "a.c", (char *) "2"}};
        struct create_options o = plain;
        struct context *c = NULL;
        unsigned failures = 0;
        int r;

        o.deadline_usec = now + 100;
        o.has_cause = true;
        o.cause_message = "slow";
        o.values = values;
        o.n_values = 2;
        o.description = "described";
        make("there");
        drain();
        for (unsigned i = 1;; i++) {
                countdown = i;
                r = tree_create(t, now, &alice, "~/x/y/z", &o, &c, &refused);
                if (countdown > 0)
                        break;
                ck_assert_int_eq(r, -ENOMEM);
                ck_assert_ptr_null(c);
                tree_check(t);
                ck_assert_uint_eq(t->n_contexts, 1);
                ck_assert_uint_eq(t->last_id, 1);
                ck_assert_uint_eq(t->last_label, 0);
                ck_assert_uint_eq(t->users.n, 1);
                ck_assert_uint_eq(HASH_COUNT(t->users.parties), 1); /* no reservation is left */
                ck_assert_uint_eq(drain(), 0);
                failures++;
        }
        countdown = 0;
        ck_assert_int_eq(r, 1);
        ck_assert_uint_ge(failures, 4 + 1 + 1 + 1 + 1); /* contexts, user, values, cause, heap */
        ck_assert_str_eq(context_value(c, "a.c"), "2");
}
END_TEST

START_TEST(law_35_other_verbs_without_memory)
{
        struct context *c = make("c");

        countdown = 1;
        ck_assert_int_eq(tree_extend(t, now, &root, c, now + 5, &refused), -ENOMEM);
        tree_check(t);
        ck_assert_uint_eq(c->deadline_usec, UINT64_MAX);
        countdown = 1;
        ck_assert_int_eq(tree_release(t, now, &root, c, &refused), -ENOMEM);
        tree_check(t);
        assert_active(c);
        ck_assert_ptr_eq(find("c"), c);
        countdown = 1;
        ck_assert_int_eq(policy_of(c, &(struct policy){15, UINT64_MAX, 0}), -ENOMEM);
        countdown = 1;
        ck_assert_int_eq(policy_of(c, &(struct policy){15, 5, 0}), -ENOMEM);
        countdown = 2;
        ck_assert_int_eq(policy_of(c, &(struct policy){15, 5, 0}), -ENOMEM);
        tree_check(t);
        ck_assert_uint_eq(c->n_policies, 0);
        countdown = 1;
        ck_assert_ptr_null(cause_new(5, "x", 0, 0, NULL));
        countdown = 1;
        ck_assert_ptr_null(user_ref(&t->users, 77));
        countdown = 0;
}
END_TEST

/* A cancel allocates nothing: a million of them must not need memory that is not there. */
START_TEST(law_05_a_cancel_needs_no_memory)
{
        struct context *p = make_until("p", now + 10), *c;
        int r, released;
        unsigned left;
        uint32_t n;

        for (int i = 0; i < 1000; i++) {
                c = make_until("p/", now + 5 + (uint64_t) i % 9);
                policy_of(c, &(struct policy){15, 7, 0});
                if (i % 2)
                        tree_attached(t, c);
        }
        drain();

        countdown = 1;
        r = tree_cancel(t, now, &root, p, NULL, &n, &refused);
        tree_settle(t, now + 100);
        for (c = p; c; c = context_next(c, p))
                tree_left(t, now + 100, c);
        left = countdown;
        countdown = 1; /* the table of released ones would grow, but need not */
        released = tree_release(t, now + 100, &root, p, &refused);
        drain();
        while (tree_settle(t, now + 100 + t->retain_usec) > 0)
                drain();
        countdown = 0;

        ck_assert_uint_eq(left, 1);
        ck_assert_int_eq(r, 1);
        ck_assert_uint_eq(n, 1001);
        ck_assert_int_eq(released, 0);
        ck_assert_uint_eq(t->n_contexts, 0);
}
END_TEST

START_TEST(law_35_a_table_that_cannot_grow_still_works)
{
        struct context *c = make("first");

        for (unsigned i = 0; i < 1000; i++) {
                char path[32];
                int r;

                snprintf(path, sizeof path, "%u", i);
                countdown = 2; /* the context, then the buckets where there are to be more */
                r = tree_create(t, now, &root, path, &plain, &c, &refused);
                countdown = 0;
                ck_assert_int_eq(r, 1);
                ck_assert_ptr_eq(find(path), c);
        }
        tree_check(t);
}
END_TEST

START_TEST(law_35_no_tree_without_memory)
{
        struct tree *other = NULL;
        unsigned i;
        bool done;

        for (i = 1;; i++) {
                int r;

                countdown = i;
                r = tree_new(&other);
                done = countdown > 0;
                countdown = 0;
                if (done)
                        break;
                ck_assert_int_eq(r, -ENOMEM);
                ck_assert_ptr_null(other);
        }
        ck_assert_uint_eq(i, 5);
        tree_free(other);
}
END_TEST

int main(void)
{
        const TTest *tests[] = {
                        law_35_create_without_memory_changes_nothing,
                        law_35_other_verbs_without_memory,
                        law_05_a_cancel_needs_no_memory,
                        law_35_a_table_that_cannot_grow_still_works,
                        law_35_no_tree_without_memory,
                        NULL,
        };

        return run_laws("law-model-memory", tests);
}
