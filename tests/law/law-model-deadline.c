/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/law/model.h"

/* Laws 10 to 15 for the daemon's contexts, on virtual time. */

START_TEST(law_10_the_earlier_deadline_counts)
{
        struct context *p = make_until("p", 2000), *later = make_until("p/later", 3000),
                       *earlier = make_until("p/earlier", 1500);
        struct context *none = make("p/none"), *below = make_until("p/later/x", 2500);

        ck_assert_uint_eq(later->deadline_usec, 2000);
        ck_assert(!later->own_deadline);
        ck_assert_uint_eq(earlier->deadline_usec, 1500);
        ck_assert(earlier->own_deadline && p->own_deadline);
        ck_assert_uint_eq(none->deadline_usec, 2000);
        ck_assert_uint_eq(below->deadline_usec, 2000);
        ck_assert_uint_eq(t->n_waking, 2); /* the others end with p */
        ck_assert_uint_eq(tree_next_usec(t), 1500);
}
END_TEST

START_TEST(law_10_the_cause_of_a_later_deadline_does_not_count)
{
        struct context *p = make_because("p", 2000, EIO, "the parent's"),
                       *later = make_because("p/later", 3000, EBADF, "the later");
        struct context *same = make_because("p/same", 2000, EBADF, "the same");
        struct context *earlier = make_because("p/earlier", 1500, EPIPE, "the earlier"),
                       *below = make("p/earlier/x");

        at(3000);
        assert_done(p, CONTEXT_DEADLINE_EXCEEDED, p, EIO, "the parent's");
        assert_done(later, CONTEXT_DEADLINE_EXCEEDED, p, EIO, "the parent's");
        assert_done(same, CONTEXT_DEADLINE_EXCEEDED, p, EIO, "the parent's");
        /* Both had passed: in the order of the deadlines, however late one looks. */
        assert_done(earlier, CONTEXT_DEADLINE_EXCEEDED, earlier, EPIPE, "the earlier");
        assert_done(below, CONTEXT_DEADLINE_EXCEEDED, earlier, EPIPE, "the earlier");
}
END_TEST

START_TEST(law_10_the_cause_of_a_deadline_is_not_that_of_a_cancel)
{
        struct context *c = make_because("c", 2000, EIO, "slow");

        assert_active(c);
        ck_assert_str_eq(context_cause(c, NULL), "");
        cancel(c);
        assert_done(c, CONTEXT_CANCELED, c, ECANCELED, "context canceled");
        c = make_because("d", 2000, EIO, "slow");
        ck_assert_int_eq(tree_cancel(t, now, &root, c, NULL, NULL, &refused), 1);
        assert_done(c, CONTEXT_CANCELED, c, ECANCELED, "context canceled");
        ck_assert_ptr_null(context_canceled_by(c));
}
END_TEST

START_TEST(law_11_a_deadline_that_has_passed_makes_it_done_at_birth)
{
        struct context *past = make_until("past", now - 1), *zero = make_until("zero", 0),
                       *is = make_because("now", now, EIO, "slow");
        unsigned effects;

        assert_done(past, CONTEXT_DEADLINE_EXCEEDED, past, ETIMEDOUT, "context deadline exceeded");
        assert_done(zero, CONTEXT_DEADLINE_EXCEEDED, zero, ETIMEDOUT, "context deadline exceeded");
        assert_done(is, CONTEXT_DEADLINE_EXCEEDED, is, EIO, "slow");
        ck_assert_uint_eq(t->n_waking, 0);
        ck_assert_ptr_eq(effect_take(t, &effects), past);
        ck_assert_uint_eq(effects, EFFECT_NEW | EFFECT_DONE | EFFECT_ROOT | EFFECT_DRAINED);
}
END_TEST

START_TEST(law_12_a_deadline_never_fires_early_and_is_seen_when_it_has_passed)
{
        struct context *c = make_until("c", 2000), *d = make_until("d", 2000), *e = make_until("e", 2000);

        at(1999);
        assert_active(c);
        ck_assert_uint_eq(tree_next_usec(t), 2000);
        now = 2000; /* each verb looks first */
        ck_assert_int_eq(cancel_because(c, 0, "too late", NULL), 0);
        assert_done(c, CONTEXT_DEADLINE_EXCEEDED, c, ETIMEDOUT, "context deadline exceeded");
        assert_done(d, CONTEXT_DEADLINE_EXCEEDED, d, ETIMEDOUT, "context deadline exceeded");
        ck_assert_int_eq(tree_release(t, now, &root, e, &refused), 0);
        assert_done(e, CONTEXT_DEADLINE_EXCEEDED, e, ETIMEDOUT, "context deadline exceeded");
}
END_TEST

START_TEST(law_12_release_and_extend_look_first)
{
        struct context *c = make_until("c", 2000), *d = make_until("d", 2000);

        now = 2001;
        ck_assert_int_eq(tree_release(t, now, &root, c, &refused), 0);
        assert_done(c, CONTEXT_DEADLINE_EXCEEDED, c, ETIMEDOUT, "context deadline exceeded");
        d = make_until("e", 3000);
        now = 3000;
        ck_assert_int_eq(tree_extend(t, now, &root, d, 9000, &refused), -EALREADY);
        assert_done(d, CONTEXT_DEADLINE_EXCEEDED, d, ETIMEDOUT, "context deadline exceeded");
}
END_TEST

START_TEST(law_13_a_cancel_before_the_deadline_gives_canceled)
{
        struct context *p = make_until("p", 3000), *c = make_until("p/c", 2000), *d = make("d"),
                       *e = make_until("d/e", 2000);

        now = 1999;
        cancel(c);
        cancel(d);
        ck_assert_uint_eq(t->n_waking, 1); /* the timers are gone but for p's */
        at(2000);
        assert_done(c, CONTEXT_CANCELED, c, ECANCELED, "context canceled");
        assert_done(e, CONTEXT_CANCELED, d, ECANCELED, "context canceled");
        assert_active(p);
        ck_assert_uint_eq(tree_next_usec(t), 3000);
        cancel(p);
        ck_assert_uint_eq(t->n_waking, 0);
}
END_TEST

START_TEST(law_14_extend_moves_a_deadline)
{
        struct context *c = make_until("c", 2000);

        ck_assert_int_eq(tree_extend(t, now, &root, c, 3000, &refused), 0);
        ck_assert_uint_eq(c->deadline_usec, 3000);
        at(2999);
        assert_active(c);
        ck_assert_int_eq(tree_extend(t, now, &root, c, UINT64_MAX, &refused), 0);
        ck_assert_uint_eq(c->deadline_usec, UINT64_MAX);
        ck_assert(!c->own_deadline);
        ck_assert_uint_eq(tree_next_usec(t), UINT64_MAX);
        ck_assert_int_eq(tree_extend(t, now, &root, c, 4000, &refused),
                        0); /* nor is it only for those that had one */
        at(4000);
        assert_done(c, CONTEXT_DEADLINE_EXCEEDED, c, ETIMEDOUT, "context deadline exceeded");
}
END_TEST

START_TEST(law_14_extend_into_the_past_is_the_end)
{
        struct context *c = make_because("c", 2000, EIO, "slow"), *d = make("c/d");

        ck_assert_int_eq(tree_extend(t, now, &root, c, now, &refused), 0);
        assert_done(c, CONTEXT_DEADLINE_EXCEEDED, c, EIO, "slow");
        assert_done(d, CONTEXT_DEADLINE_EXCEEDED, c, EIO, "slow");
}
END_TEST

START_TEST(law_14_extend_is_for_the_owner_alone)
{
        struct create_options shared = plain;
        struct context *c;

        shared.mode = 0777;
        shared.deadline_usec = 2000;
        ck_assert_int_eq(create_as(&alice, "~/c", &shared, &c), 1);
        ck_assert_int_eq(tree_extend(t, now, &bob, c, 3000, &refused), -EACCES);
        ck_assert_int_eq(refused.reason, REFUSED_ACCESS);
        ck_assert_int_eq(tree_extend(t, now, &bob, c->parent, 3000, &refused), -ENOENT); /* 0700 */
        ck_assert_uint_eq(c->deadline_usec, 2000);
        ck_assert_int_eq(tree_extend(t, now, &alice, c, 3000, &refused), 0);
        ck_assert_int_eq(tree_extend(t, now, &root, c, 4000, &refused), 0);
        ck_assert_uint_eq(c->deadline_usec, 4000);
}
END_TEST

START_TEST(law_14_extend_never_passes_the_parents)
{
        struct context *p = make_until("p", 2000), *c = make_until("p/c", 1500);

        ck_assert_int_eq(tree_extend(t, now, &root, c, 2001, &refused), -EINVAL);
        ck_assert_int_eq(tree_extend(t, now, &root, c, UINT64_MAX, &refused), -EINVAL);
        ck_assert_uint_eq(c->deadline_usec, 1500);
        ck_assert_int_eq(tree_extend(t, now, &root, c, 2000, &refused), 0);
        ck_assert_uint_eq(c->deadline_usec, 2000);
        ck_assert(!c->own_deadline);
        ck_assert(p->own_deadline);
}
END_TEST

START_TEST(law_14_extend_of_a_parent_reaches_below)
{
        struct context *p = make_until("p", 2000), *later = make_until("p/later", 3000),
                       *none = make("p/none");
        struct context *earlier = make_until("p/earlier", 1500), *below = make_until("p/later/x", 5000),
                       *done = make("p/done");
        struct context *c;
        unsigned effects, moved = 0;

        cancel(done);
        drain();
        ck_assert_int_eq(tree_extend(t, now, &root, p, 4000, &refused), 0);
        tree_check(t);
        ck_assert_uint_eq(later->deadline_usec, 3000);
        ck_assert(later->own_deadline);
        ck_assert_uint_eq(below->deadline_usec, 3000);
        ck_assert_uint_eq(none->deadline_usec, 4000);
        ck_assert_uint_eq(earlier->deadline_usec, 1500);
        ck_assert_uint_eq(done->deadline_usec, 2000);
        while ((c = effect_take(t, &effects))) {
                ck_assert_uint_eq(effects, EFFECT_MOVED);
                ck_assert(c != earlier && c != done);
                moved++;
        }
        ck_assert_uint_eq(moved, 4);
        ck_assert_int_eq(tree_extend(t, now, &root, p, 1500, &refused), 0);
        tree_check(t);
        ck_assert(!earlier->own_deadline && !later->own_deadline);
        ck_assert_uint_eq(t->n_waking, 1);
}
END_TEST

START_TEST(law_14_extend_never_on_a_done_context)
{
        struct context *c = make_until("c", 2000);

        cancel(c);
        ck_assert_int_eq(tree_extend(t, now, &root, c, 3000, &refused), -EALREADY);
        ck_assert_int_eq(refused.reason, REFUSED_DONE);
        ck_assert_uint_eq(c->deadline_usec, 2000);
        ck_assert_uint_eq(t->n_waking, 0);
}
END_TEST

START_TEST(law_15_no_deadline_and_now)
{
        struct context *none = make_until("none", UINT64_MAX), *far = make_until("far", UINT64_MAX - 1),
                       *is = make_until("now", now);

        ck_assert(!none->own_deadline);
        ck_assert(far->own_deadline);
        ck_assert(context_is_done(is));
        at(UINT64_MAX - 2);
        assert_active(none);
        assert_active(far);
        at(UINT64_MAX - 1);
        assert_active(none);
        ck_assert(context_is_done(far));
}
END_TEST

int main(void)
{
        const TTest *tests[] = {
                        law_10_the_earlier_deadline_counts,
                        law_10_the_cause_of_a_later_deadline_does_not_count,
                        law_10_the_cause_of_a_deadline_is_not_that_of_a_cancel,
                        law_11_a_deadline_that_has_passed_makes_it_done_at_birth,
                        law_12_a_deadline_never_fires_early_and_is_seen_when_it_has_passed,
                        law_12_release_and_extend_look_first,
                        law_13_a_cancel_before_the_deadline_gives_canceled,
                        law_14_extend_moves_a_deadline,
                        law_14_extend_into_the_past_is_the_end,
                        law_14_extend_is_for_the_owner_alone,
                        law_14_extend_never_passes_the_parents,
                        law_14_extend_of_a_parent_reaches_below,
                        law_14_extend_never_on_a_done_context,
                        law_15_no_deadline_and_now,
                        NULL,
        };

        return run_laws("law-model-deadline", tests);
}
