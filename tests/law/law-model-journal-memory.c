/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/harness/refused-memory.h"
#include "tests/law/journal-model.h"

/* Law 33 where memory runs out: each allocation of a replay is refused in turn. It says -ENOMEM, and leaves
 * what can be freed, or the tree is as it should be: never one from which something is missing. */

/* More than fit into the first buckets and heaps, with all that can be allocated. */
static void fill(void)
{
        static const struct value values[] = {{(char *) "a.b", (char *) "1"}};
        struct attachment a = {.wanted = {15, 1000, 7}};
        struct create_options o = plain;

        o.deadline_usec = now + 100;
        o.has_cause = true;
        o.cause_message = "slow";
        o.values = values;
        o.n_values = 1;
        o.description = "described";
        for (int i = 0; i < 100; i++) {
                struct context *c;
                char path[32];

                sprintf(path, "top/%d", i);
                c = make_with(path, &o);
                ck_assert_int_eq(tree_attach(t, now, &caller_daemon, c, &a, &refused), 0);
        }
        ck_assert_int_ge(create_as(&alice, "~/x", &o, &(struct context *){NULL}), 1);
        cancel(find("top/5"));
}

START_TEST(law_33_a_replay_without_memory_is_no_tree)
{
        unsigned failures = 0;
        bool is_last = false;
        char *text;

        begin();
        fill();
        commit();
        text = tree_text(t);
        for (unsigned i = 1; !is_last; i++) {
                struct tree *back;
                size_t used = 0;
                char *is;
                int r;

                ck_assert_int_eq(tree_new(&back), 0);
                countdown = i;
                r = journal_replay(back, file.bytes, file.used, file.used, &used);
                is_last = countdown > 0;
                countdown = 0;
                if (r < 0) {
                        ck_assert_int_eq(r, -ENOMEM);
                        failures++;
                        tree_free(back);
                        continue;
                }
                ck_assert_int_eq(r, 0);
                tree_restored(back, now);
                is = tree_text(back);
                ck_assert(text_is_same(is, text));
                tree_check(back);
                free(is);
                tree_free(back);
        }
        ck_assert_uint_gt(failures, 400);
        free(text);
        end();
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {law_33_a_replay_without_memory_is_no_tree, NULL};

        return run_laws("law-model-journal-memory", tests);
}
