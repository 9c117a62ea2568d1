/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/law/model.h"

/* Laws 1 to 9 for the daemon's contexts. */

START_TEST(law_01_the_background_is_never_done)
{
        struct context *background = find("/");

        ck_assert_ptr_eq(background, t->background);
        ck_assert_int_eq(cancel(background), -EPERM);
        ck_assert_int_eq(refused.reason, REFUSED_NOT_CANCELABLE);
        ck_assert_int_eq(tree_release(t, now, &root, background, &refused), -EPERM);
        ck_assert_int_eq(tree_extend(t, now, &root, background, now + 1, &refused), -EPERM);
        at(UINT64_MAX - 1);
        at(UINT64_MAX);
        assert_active(background);
        ck_assert_uint_eq(background->deadline_usec, UINT64_MAX);
        ck_assert_ptr_null(context_value(background, "org.example.key"));
        ck_assert_uint_eq(tree_next_usec(t), UINT64_MAX);
}
END_TEST

START_TEST(law_01_nothing_runs_under_the_background)
{
        ck_assert_int_eq(policy_of(t->background, &(struct policy){.signal = 15}), -EPERM);
        tree_attached(t, t->background);
        ck_assert(!t->background->busy);
}
END_TEST

START_TEST(law_02_done_once_and_never_changed)
{
        struct context *p = make("p"), *c = make_because("p/c", now + 50, EIO, "too late");

        ck_assert_int_eq(cancel_because(c, EPIPE, "the first", NULL), 1);
        assert_done(c, CONTEXT_CANCELED, c, EPIPE, "the first");
        now++;
        ck_assert_int_eq(cancel_because(c, EBADF, "the second", NULL), 0);
        ck_assert_int_eq(cancel_because(p, EBADF, "from above", NULL), 1);
        at(now + 100);
        ck_assert_int_eq(tree_release(t, now, &root, c, &refused), 0);
        assert_done(c, CONTEXT_CANCELED, c, EPIPE, "the first");
        ck_assert_uint_eq(c->done_usec, 1000);
        ck_assert_uint_eq(context_canceled_by(c)->uid, 7);
        ck_assert_int_eq(context_canceled_by(c)->pid, 77);
        ck_assert_str_eq(context_canceled_by(c)->comm, "canceller");
}
END_TEST

START_TEST(law_03_the_first_cancel_wins_and_says_so)
{
        struct context *c = make("c");
        uint32_t n = 77;

        make("c/d/e");
        ck_assert_int_eq(cancel_because(c, 0, "first", &n), 1);
        ck_assert_uint_eq(n, 3);
        ck_assert_int_eq(cancel_because(c, 0, "second", &n), 0);
        ck_assert_uint_eq(n, 0);
        assert_done(c, CONTEXT_CANCELED, c, ECANCELED, "first");
}
END_TEST

START_TEST(law_04_err_says_how_it_ended)
{
        struct context *a = make("a"), *b = make_until("b", now + 10);

        assert_active(a);
        assert_active(b);
        cancel(a);
        at(now + 10);
        ck_assert_int_eq(context_err_code(a), ECANCELED);
        ck_assert_str_eq(context_err(a), "context canceled");
        assert_done(a, CONTEXT_CANCELED, a, ECANCELED, "context canceled");
        ck_assert_int_eq(context_err_code(b), ETIMEDOUT);
        ck_assert_str_eq(context_err(b), "context deadline exceeded");
        assert_done(b, CONTEXT_DEADLINE_EXCEEDED, b, ETIMEDOUT, "context deadline exceeded");
        ck_assert_ptr_null(context_canceled_by(b)); /* only a clock did it */
}
END_TEST

START_TEST(law_05_a_cancel_reaches_every_descendant)
{
        struct context *top = make("top"), *c;
        unsigned effects, n = 0;

        for (int i = 0; i < 20; i++) {
                char path[64];

                snprintf(path, sizeof path, "top/%d/x/%d", i % 4, i);
                make(path);
        }
        drain();
        ck_assert_int_eq(cancel(top), 1);
        for (c = top; c; c = context_next(c, top))
                assert_done(c, CONTEXT_CANCELED, top, ECANCELED, "context canceled");
        /* The world is told of each of them, and of one root. */
        while ((c = effect_take(t, &effects))) {
                ck_assert(effects & EFFECT_DONE);
                ck_assert_int_eq(!!(effects & EFFECT_ROOT), c == top);
                n++;
        }
        ck_assert_uint_eq(n, 1 + 4 + 4 + 20);
}
END_TEST

START_TEST(law_05_a_cancel_that_lost_finds_it_complete)
{
        struct context *top = make_until("top", now + 10), *leaf = make("top/a/b");
        uint32_t n = 77;

        now += 10; /* nobody has looked yet */
        ck_assert_int_eq(cancel_because(leaf, 0, "late", &n), 0);
        ck_assert_uint_eq(n, 0);
        assert_done(top, CONTEXT_DEADLINE_EXCEEDED, top, ETIMEDOUT, "context deadline exceeded");
        assert_done(leaf, CONTEXT_DEADLINE_EXCEEDED, top, ETIMEDOUT, "context deadline exceeded");
}
END_TEST

START_TEST(law_06_a_state_is_there_before_it_is_told)
{
        struct context *top = make("top"), *c;
        unsigned effects;

        make("top/a/b");
        cancel(top);
        while ((c = effect_take(t, &effects)))
                if (effects & EFFECT_DONE)
                        ck_assert_int_ne(context_err_code(c), 0);
}
END_TEST

START_TEST(law_07_parent_and_siblings_go_on)
{
        struct context *p = make("p"), *a = make("p/a"), *b = make("p/b"), *below = make("p/a/x"),
                       *beside = make("p/b/x");

        cancel(a);
        assert_active(p);
        assert_active(b);
        assert_active(beside);
        assert_done(below, CONTEXT_CANCELED, a, ECANCELED, "context canceled");
        cancel(b);
        assert_active(p);
        assert_done(beside, CONTEXT_CANCELED, b, ECANCELED, "context canceled");
}
END_TEST

START_TEST(law_08_child_of_done_parent_is_born_done)
{
        struct context *p = make("p"), *c, *d;
        unsigned effects;

        cancel_because(p, EPIPE, "gone", NULL);
        drain();
        now += 5;
        c = make_because("p/c", now + 10, EIO, "never said");
        assert_done(c, CONTEXT_CANCELED, p, EPIPE, "gone");
        ck_assert_ptr_eq(effect_take(t, &effects), c);
        ck_assert_uint_eq(effects, EFFECT_NEW | EFFECT_DONE | EFFECT_ROOT | EFFECT_DRAINED);
        c = make_because("p/early", now - 1, EIO, "never said"); /* the parent's end comes before its own */
        assert_done(c, CONTEXT_CANCELED, p, EPIPE, "gone");
        d = make("p/x/y/z");
        assert_done(d, CONTEXT_CANCELED, p, EPIPE, "gone");
        assert_done(d->parent->parent, CONTEXT_CANCELED, p, EPIPE, "gone");
        ck_assert_uint_eq(tree_next_usec(t), 1000 + t->retain_usec);
}
END_TEST

START_TEST(law_08_child_of_overdue_parent_is_born_done)
{
        struct context *p = make_because("p", now + 10, EIO, "slow"), *c;

        now += 11; /* nobody has looked yet */
        c = make("p/c");
        assert_done(c, CONTEXT_DEADLINE_EXCEEDED, p, EIO, "slow");
        assert_done(p, CONTEXT_DEADLINE_EXCEEDED, p, EIO, "slow");
}
END_TEST

START_TEST(law_09_the_cause_names_the_ancestor_that_was_cancelled)
{
        struct context *a = make("a"), *b = make("a/b"), *c = make("a/b/c"), *d = make("a/b/c/d");

        cancel_because(c, EPIPE, "inner", NULL);
        cancel_because(a, EIO, "outer", NULL);
        assert_done(a, CONTEXT_CANCELED, a, EIO, "outer");
        assert_done(b, CONTEXT_CANCELED, a, EIO, "outer");
        assert_done(c, CONTEXT_CANCELED, c, EPIPE, "inner");
        assert_done(d, CONTEXT_CANCELED, c, EPIPE, "inner");
        ck_assert_ptr_eq(context_canceled_by(b), a->cause);
        ck_assert_ptr_eq(context_canceled_by(d), c->cause);
}
END_TEST

int main(void)
{
        const TTest *tests[] = {
                        law_01_the_background_is_never_done,
                        law_01_nothing_runs_under_the_background,
                        law_02_done_once_and_never_changed,
                        law_03_the_first_cancel_wins_and_says_so,
                        law_04_err_says_how_it_ended,
                        law_05_a_cancel_reaches_every_descendant,
                        law_05_a_cancel_that_lost_finds_it_complete,
                        law_06_a_state_is_there_before_it_is_told,
                        law_07_parent_and_siblings_go_on,
                        law_08_child_of_done_parent_is_born_done,
                        law_08_child_of_overdue_parent_is_born_done,
                        law_09_the_cause_names_the_ancestor_that_was_cancelled,
                        NULL,
        };

        return run_laws("law-model-state", tests);
}
