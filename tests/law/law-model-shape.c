/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/law/model.h"

/* Laws 21, 22 and 31 for the daemon's contexts: width and depth, how they go away, and when they are drained.
 */

#define RETAIN (30 * UINT64_C(1000000))

static unsigned effects_of(const struct context *wanted)
{
        const struct context *c;
        unsigned effects, found = 0;

        while ((c = effect_take(t, &effects)))
                if (c == wanted)
                        found |= effects;
        return found;
}

START_TEST(law_21_sixty_four_levels_and_no_more)
{
        char path[CTXD_LABELS_MAX * 2 + 3];
        struct context *c, *top;
        int depth = 0;

        for (int i = 0; i < CTXD_LABELS_MAX; i++)
                strcpy(path + 2 * i, "x/");
        path[CTXD_LABELS_MAX * 2 - 1] = '\0';
        c = make(path);
        for (top = c; top->parent->parent; top = top->parent)
                depth++;
        ck_assert_int_eq(depth, CTXD_LABELS_MAX - 1);
        strcat(path, "/");
        ck_assert_int_eq(create_as(&root, path, &plain, &c),
                        -EINVAL); /* a label that is made up counts, too */
        ck_assert_int_eq(refused.reason, REFUSED_NAME);
        strcat(path, "x");
        ck_assert_int_eq(create_as(&root, path, &plain, &c), -EINVAL);
        ck_assert_uint_eq(t->n_contexts, CTXD_LABELS_MAX);
        cancel(top);
        assert_done(c, CONTEXT_CANCELED, top, ECANCELED, "context canceled");
        ck_assert_uint_eq(c->origin_up, CTXD_LABELS_MAX - 1);
        at(now + RETAIN); /* all of them at once, and not level by level */
        ck_assert_uint_eq(t->n_contexts, 0);
}
END_TEST

START_TEST(law_21_wide_without_quadratic_time)
{
        enum { WIDTH = 200000 };
        struct create_options o = plain;
        struct context *p = make("p"), *c;
        uint32_t n;

        o.parents = false;
        for (int i = 0; i < WIDTH; i++)
                ck_assert_int_eq(tree_create(t, now, &root, "p/", &o, &c, &refused), 1);
        ck_assert_uint_eq(p->n_children, WIDTH);
        ck_assert_int_eq(tree_cancel(t, now, &root, p, NULL, &n, &refused), 1);
        ck_assert_uint_eq(n, WIDTH + 1);
        drain();
        now += RETAIN;
        while (tree_settle(t, now) > 0)
                drain();
        ck_assert_uint_eq(t->n_contexts, 0);
}
END_TEST

START_TEST(law_22_a_done_context_is_retained_then_forgotten)
{
        struct context *c = make("c");

        drain();
        cancel(c);
        ck_assert_uint_eq(tree_next_usec(t), now + RETAIN);
        at(1000 + RETAIN - 1);
        ck_assert_ptr_eq(find("c"), c);
        drain();
        at(1000 + RETAIN);
        ck_assert_ptr_null(find("c"));
        ck_assert_uint_eq(effects_of(c), EFFECT_REMOVED);
        (void) tree_collect(t, UINT32_MAX);
        ck_assert_uint_eq(tree_next_usec(t), UINT64_MAX);
}
END_TEST

START_TEST(law_48_what_is_forgotten_is_freed_some_at_a_time)
{
        for (int i = 0; i < 10; i++)
                cancel(make("c"));
        now += RETAIN;
        while (tree_settle(t, now) > 0)
                ;
        for (unsigned effects; effect_take(t, &effects);)
                ;
        ck_assert_uint_eq(tree_collect(t, 4), 4);
        ck_assert_uint_eq(tree_collect(t, 4), 4);
        ck_assert_uint_eq(tree_collect(t, 4), 2);
        ck_assert_uint_eq(tree_collect(t, 4), 0);
}
END_TEST

START_TEST(law_22_members_and_children_and_handles_hold_it)
{
        struct context *p = make("p"), *c = make("p/c");

        tree_handles_given(t, c);
        tree_attached(t, c);
        cancel(p);
        at(1000 + RETAIN);
        ck_assert_ptr_eq(find("p/c"), c);
        ck_assert_ptr_eq(find("p"), p); /* overdue, waits for its child */
        tree_left(t, now, c);
        at(now + RETAIN);
        ck_assert_ptr_eq(find("p/c"), c);
        tree_handles_closed(t, now, c);
        at(now + RETAIN - 1);
        ck_assert_ptr_eq(find("p/c"), c);
        at(now + 1);
        ck_assert_uint_eq(t->n_contexts, 0);
        ck_assert(p->forgotten && c->forgotten);
}
END_TEST

START_TEST(law_22_a_handle_on_a_retired_one_holds_it_again)
{
        struct context *c = make("c");

        cancel(c);
        at(1000 + RETAIN - 1);
        tree_handles_given(t, c);
        tree_check(t);
        at(1000 + 2 * RETAIN);
        ck_assert_ptr_eq(find("c"), c);
        tree_handles_closed(t, now, c);
        at(now + RETAIN);
        ck_assert_ptr_null(find("c"));
}
END_TEST

START_TEST(law_22_an_overdue_parent_is_held_again)
{
        struct context *p = make("p"), *c = make("p/c");

        tree_attached(t, c);
        cancel(p);
        at(1000 + RETAIN); /* p is overdue */
        tree_handles_given(t, p);
        tree_left(t, now, c);
        at(now + RETAIN);
        ck_assert_ptr_null(find("p/c"));
        ck_assert_ptr_eq(find("p"), p);
        tree_handles_closed(t, now, p);
        at(now + RETAIN);
        ck_assert_ptr_null(find("p"));
}
END_TEST

START_TEST(law_22_taken_back_as_if_it_had_never_been)
{
        struct context *p = make("p"), *c;
        unsigned effects;

        drain();
        c = make_because("p/a/b/c", now + 10, EIO, "slow");
        tree_discard(t, c);
        tree_check(t);
        ck_assert_uint_eq(t->n_contexts, 1);
        ck_assert_ptr_null(find("p/a"));
        ck_assert_uint_eq(t->n_waking, 0);
        while ((c = effect_take(t, &effects)))
                ck_assert_uint_eq(effects, EFFECT_REMOVED | EFFECT_SILENT);
        (void) tree_collect(t, UINT32_MAX);
        /* What was there before, or was asked for by itself, stays. */
        make("p/a");
        tree_discard(t, make("p/a/b"));
        ck_assert_ptr_nonnull(find("p/a"));
        ck_assert_ptr_eq(find("p"), p);
        ck_assert_uint_eq(t->last_id, 6); /* ids stay used */
        c = make("p/member");             /* the attach that was asked for with it is undone as well */
        tree_attached(t, c);
        tree_discard(t, c);
        tree_check(t);
        ck_assert_uint_eq(p->n_busy_below, 0);
        cancel(p); /* born done */
        tree_discard(t, make("p/x/y"));
        ck_assert_ptr_null(find("p/x"));
}
END_TEST

START_TEST(law_31_drained_when_the_last_member_has_left)
{
        struct context *p = make("p"), *a = make("p/a"), *b = make("p/a/b"), *c = make("p/c");

        tree_attached(t, a);
        tree_attached(t, b);
        ck_assert_uint_eq(p->n_busy_below, 2);
        drain();
        cancel(p);
        ck_assert_uint_eq(c->drained_usec, now); /* never had any */
        ck_assert_uint_eq(p->drained_usec, 0);
        drain();
        now += 5;
        tree_left(t, now, a);
        ck_assert_uint_eq(a->drained_usec, 0); /* b is below it */
        ck_assert_uint_eq(drain(), 0);
        now += 5;
        tree_left(t, now, b);
        tree_check(t);
        ck_assert_uint_eq(b->drained_usec, now);
        ck_assert_uint_eq(a->drained_usec, now);
        ck_assert_uint_eq(p->drained_usec, now);
        ck_assert_uint_eq(effects_of(p), EFFECT_DRAINED);
}
END_TEST

START_TEST(law_31_not_drained_while_active)
{
        struct context *p = make("p"), *c = make("p/c");

        tree_attached(t, c);
        drain();
        tree_left(t, now, c);
        ck_assert_uint_eq(drain(), 0);
        ck_assert_uint_eq(c->drained_usec, 0);
        tree_attached(t, c);
        cancel(c);
        drain();
        tree_left(t, now, c);
        ck_assert_uint_eq(effects_of(c), EFFECT_DRAINED);
        ck_assert_uint_eq(p->drained_usec, 0);
        ck_assert_uint_eq(p->n_busy_below, 0);
}
END_TEST

START_TEST(law_31_drained_is_said_once)
{
        struct context *c = make("c");

        tree_attached(t, c);
        cancel(c);
        now++;
        tree_left(t, now, c);
        drain();
        tree_attached(t, c); /* a child that was born as it ended, found late */
        tree_check(t);
        at(now + 2 * RETAIN);
        ck_assert_ptr_eq(find("c"), c);
        tree_left(t, now, c);
        ck_assert_uint_eq(drain(), 0);
        ck_assert_uint_eq(c->drained_usec, 1001);
        at(now + RETAIN);
        ck_assert_ptr_null(find("c"));
}
END_TEST

START_TEST(law_32_kills_are_due_after_done)
{
        struct context *c = make_until("c", 2000);
        struct policy soon = {15, 100, 0}, late = {15, 500, 0}, never = {15, UINT64_MAX, 0},
                      other = {15, 100, 5};

        ck_assert_int_eq(policy_of(c, &late), 0);
        ck_assert_int_eq(policy_of(c, &never), 1);
        ck_assert_int_eq(policy_of(c, &soon), 2);
        ck_assert_int_eq(policy_of(c, &late), 0);
        ck_assert_int_eq(policy_of(c, &other), 3);
        ck_assert_uint_eq(c->n_policies, 4);
        tree_attached(t, c);
        at(2000);
        drain();
        ck_assert_uint_eq(tree_next_usec(t), 2100);
        at(2099);
        ck_assert_uint_eq(drain(), 0);
        at(2100);
        ck_assert_uint_eq(effects_of(c), EFFECT_KILL);
        ck_assert_uint_eq(tree_next_usec(t), 2500);
        at(2500);
        ck_assert_uint_eq(effects_of(c), EFFECT_KILL);
        ck_assert_uint_eq(tree_next_usec(t), UINT64_MAX);
        ck_assert_int_eq(policy_of(c, &soon), -EALREADY);
        tree_left(t, now, c);
}
END_TEST

START_TEST(law_32_nobody_is_killed_who_has_left)
{
        struct context *c = make("c"), *d = make("d");

        policy_of(c, &(struct policy){15, 100, 0});
        policy_of(d, &(struct policy){15, 100, 0});
        tree_attached(t, c);
        cancel(c);
        cancel(d); /* has had no member */
        ck_assert_uint_eq(t->n_waking, 1);
        drain();
        tree_left(t, now, c);
        tree_check(t);
        ck_assert_uint_eq(drain(), 1);
        ck_assert_uint_eq(t->n_waking, 0);
        at(1000 + 100);
        ck_assert_uint_eq(drain(), 0);
}
END_TEST

START_TEST(law_32_a_kill_after_nothing_is_due_at_once)
{
        struct context *c = make("c");

        policy_of(c, &(struct policy){15, 0, 0});
        tree_attached(t, c);
        cancel(c);
        drain();
        ck_assert_uint_eq(tree_next_usec(t), now);
        at(now);
        ck_assert_uint_eq(effects_of(c), EFFECT_KILL);
        ck_assert_uint_eq(tree_next_usec(t), UINT64_MAX);
        tree_left(t, now, c);
}
END_TEST

START_TEST(law_32_kinds_of_attach_are_bounded)
{
        struct context *c = make("c");

        for (int i = 0; i < CONTEXT_POLICIES_MAX; i++)
                ck_assert_int_eq(policy_of(c, &(struct policy){i, 5, 0}), i);
        ck_assert_int_eq(policy_of(c, &(struct policy){99, 5, 0}), -EDQUOT);
        ck_assert_int_eq(policy_of(c, &(struct policy){7, 5, 0}), 7);
        ck_assert_uint_eq(c->n_policies, CONTEXT_POLICIES_MAX);
}
END_TEST

int main(void)
{
        const TTest *tests[] = {
                        law_21_sixty_four_levels_and_no_more,
                        law_21_wide_without_quadratic_time,
                        law_22_a_done_context_is_retained_then_forgotten,
                        law_22_members_and_children_and_handles_hold_it,
                        law_48_what_is_forgotten_is_freed_some_at_a_time,
                        law_22_a_handle_on_a_retired_one_holds_it_again,
                        law_22_an_overdue_parent_is_held_again,
                        law_22_taken_back_as_if_it_had_never_been,
                        law_31_drained_when_the_last_member_has_left,
                        law_31_not_drained_while_active,
                        law_31_drained_is_said_once,
                        law_32_kills_are_due_after_done,
                        law_32_nobody_is_killed_who_has_left,
                        law_32_a_kill_after_nothing_is_due_at_once,
                        law_32_kinds_of_attach_are_bounded,
                        NULL,
        };

        return run_laws("law-model-shape", tests);
}
