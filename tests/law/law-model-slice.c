/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/law/model.h"

/* Ends that come in slices: what is looked at between them is as if there were none. */

#define CHILDREN 100
#define SLICE 7

static struct context *top, *child[CHILDREN], *leaf[CHILDREN];

static void make_tree(void)
{
        char path[32];

        top = make("top");
        for (int i = 0; i < CHILDREN; i++) {
                snprintf(path, sizeof path, "top/%03d", i);
                child[i] = make(path);
                snprintf(path, sizeof path, "top/%03d/leaf", i);
                leaf[i] = make(path);
        }
        drain();
        t->slice = SLICE;
}

/* Goes through all with a cursor, and gives how many it has met. */
static unsigned walk_on(struct cursor *k, unsigned n)
{
        unsigned met = 0;

        for (; k->next && met < n; met++)
                k->next = context_next(k->next, k->root);
        return met;
}

/* How many an ending says it has ended, once it is over. */
static uint32_t finish(void)
{
        uint32_t contexts = 0;
        struct ending *e;

        for (int i = 0; tree_is_behind(t, now); i++) {
                ck_assert_int_lt(i, 10 * CHILDREN);
                (void) tree_advance(t, now);
                tree_check(t);
                drain();
                while ((e = tree_take_ended(t))) {
                        if (!e->is_release)
                                contexts += e->contexts;
                        free(e);
                }
        }
        return contexts;
}

START_TEST(law_05_an_end_goes_on_until_all_is_done)
{
        uint64_t number;
        uint32_t n;

        make_tree();
        ck_assert_int_eq(cancel_because(top, 5, "all", &n), 1);
        ck_assert_uint_lt(n, 2 * SLICE);
        number = tree_ending(t, top);
        ck_assert_uint_gt(number, 0);
        ck_assert_uint_eq(tree_ending(t, leaf[0]), number);
        ck_assert(!tree_is_ended(t, NULL, number));
        ck_assert(!context_is_done(leaf[0])); /* nobody has looked */
        ck_assert_int_eq(cancel_because(top, 6, "again", NULL), 0);
        ck_assert_uint_eq(finish(), 1 + 2 * CHILDREN);
        ck_assert(tree_is_ended(t, NULL, number));
        ck_assert_uint_eq(tree_ending(t, top), 0);
        for (int i = 0; i < CHILDREN; i++) {
                assert_done(child[i], CONTEXT_CANCELED, top, 5, "all");
                assert_done(leaf[i], CONTEXT_CANCELED, top, 5, "all");
                ck_assert_uint_eq(leaf[i]->done_usec, top->done_usec);
        }
}
END_TEST

START_TEST(law_08_what_is_looked_at_is_done)
{
        struct context *c;

        make_tree();
        ck_assert_int_eq(cancel_because(top, 5, "all", NULL), 1);
        ck_assert(!context_is_done(leaf[0]));
        ck_assert_ptr_eq(find("top/000/leaf"), leaf[0]);
        assert_done(leaf[0], CONTEXT_CANCELED, top, 5, "all");
        tree_check(t);
        c = make("top/001/new");
        assert_done(c, CONTEXT_CANCELED, top, 5, "all");
        ck_assert_int_eq(cancel_because(child[2], 6, "too late", NULL), 0);
        assert_done(child[2], CONTEXT_CANCELED, top, 5, "all");
        ck_assert(!context_is_done(leaf[2]));
        ck_assert_int_eq(tree_extend(t, now, &root, leaf[3], 5000, &refused), -EALREADY);
        ck_assert_int_eq(policy_of(leaf[4], &(struct policy){.kill_after_usec = UINT64_MAX}), -EALREADY);
        /* What was done early is not counted twice, and what is below it is not left out. */
        ck_assert_uint_eq(finish(), 1 + 2 * CHILDREN);
        ck_assert(context_is_done(leaf[2]));
}
END_TEST

START_TEST(law_12_a_deadline_that_had_passed_comes_first)
{
        struct context *before, *after;

        top = make("top");
        for (int i = 0; i < CHILDREN; i++) {
                char path[32];

                snprintf(path, sizeof path, "top/%03d", i);
                child[i] = make_until(path, 2000);
        }
        before = make_until("top/000/before", 1999);
        after = make_until("top/later", 3000);
        drain();
        t->slice = 1;
        now = 2500;
        ck_assert_int_eq(cancel_because(top, 5, "all", NULL), 1);
        now = 3500;
        ck_assert_ptr_eq(find("top/later"), after);
        assert_done(after, CONTEXT_CANCELED, top, 5, "all");
        (void) finish();
        for (int i = 0; i < CHILDREN; i++)
                assert_done(child[i], CONTEXT_DEADLINE_EXCEEDED, child[i], ETIMEDOUT,
                                "context deadline exceeded");
        assert_done(before, CONTEXT_DEADLINE_EXCEEDED, before, ETIMEDOUT, "context deadline exceeded");
}
END_TEST

START_TEST(law_12_whoever_looks_sees_it)
{
        char path[32];

        for (int i = 0; i < CHILDREN; i++) {
                snprintf(path, sizeof path, "%03d", i);
                child[i] = make_until(path, 2000);
        }
        drain();
        t->slice = 1;
        at(2000);
        ck_assert_ptr_eq(find("099"), child[99]);
        ck_assert_ptr_eq(find("000"), child[0]);
        ck_assert(context_is_done(child[0]) && context_is_done(child[99]));
        ck_assert_int_eq(cancel_because(child[50], 5, "too late", NULL), 0);
        (void) finish();
        for (int i = 0; i < CHILDREN; i++)
                ck_assert_int_eq(child[i]->state, CONTEXT_DEADLINE_EXCEEDED);
}
END_TEST

START_TEST(law_34_what_is_being_released_is_found_by_its_id)
{
        struct context *newcomer;
        char text[64];

        make_tree();
        ck_assert_int_eq(cancel_because(top, 5, "all", NULL), 1);
        ck_assert_int_eq(tree_release(t, now, &root, top, &refused), 0);
        tree_check(t);
        ck_assert_ptr_null(find("top/050/leaf"));
        newcomer = make("top/050/leaf");
        for (int i = 0; i < 2 * CHILDREN; i++) {
                (void) tree_advance(t, now);
                for (int k = 0; k < CHILDREN; k++) {
                        snprintf(text, sizeof text, "top/%03d/leaf#%" PRIu64, k, leaf[k]->id);
                        ck_assert_ptr_eq(find(text), leaf[k]);
                        ck_assert(context_is_done(leaf[k]));
                }
                ck_assert_ptr_eq(find("top/050/leaf"), newcomer);
        }
        (void) finish();
        ck_assert(leaf[50]->released);
        assert_active(newcomer);
}
END_TEST

/* Where an ending goes on may be forgotten before it comes there. */
START_TEST(law_22_what_is_forgotten_is_stepped_over)
{
        make_tree();
        t->retain_usec = 10;
        ck_assert_int_eq(cancel_because(top, 5, "all", NULL), 1);
        for (int i = CHILDREN - 1; i >= 0; i -= 2)
                tree_reach(t, leaf[i]);
        now += 100;
        for (int i = 0; i < 50; i++)
                at(now);
        (void) finish();
        ck_assert_uint_eq(t->n_contexts, 0);
}
END_TEST

START_TEST(law_48_a_walk_goes_on_behind_what_has_gone)
{
        struct cursor k, other;

        make_tree();
        t->slice = UINT32_MAX;
        t->retain_usec = 10;
        tree_set_cursor(t, &k, top, top);
        tree_set_cursor(t, &other, child[97], child[97]);
        ck_assert_uint_eq(walk_on(&k, 5), 5);
        ck_assert_ptr_eq(k.next, child[97]);
        ck_assert_int_eq(cancel(child[97]), 1);
        ck_assert_int_eq(cancel(leaf[96]), 1);
        at(now + 100);
        ck_assert_ptr_eq(k.next, child[96]); /* its leaf has gone */
        ck_assert_ptr_null(other.root);
        ck_assert_ptr_null(other.next);
        ck_assert_uint_eq(walk_on(&k, UINT32_MAX), 2 * (CHILDREN - 3) - 1);
        k.next = leaf[0];
        ck_assert_int_eq(cancel(top), 1);
        at(now + 100);
        ck_assert_ptr_null(k.root);
        ck_assert_ptr_null(k.next);
        tree_unset_cursor(&k);
        tree_unset_cursor(&other);
}
END_TEST

START_TEST(law_14_an_extension_comes_in_slices)
{
        struct context *sooner, *later, *born = NULL;
        struct cursor k, again;

        make_tree();
        sooner = make_until("top/050/sooner", 4000);
        later = make_until("top/050/later", 9000);
        tree_set_cursor(t, &k, top, NULL);
        ck_assert_int_eq(tree_extend_begin(t, now, &root, top, 8000, &k, &refused), 0);
        for (int i = 0; tree_extend_some(t, now, &k, SLICE); i++) {
                ck_assert_int_lt(i, 10 * CHILDREN);
                tree_check(t);
                if (i == 3)
                        born = make("top/000/leaf/born");
                if (i == 5) {
                        tree_set_cursor(t, &again, top, NULL);
                        ck_assert_int_eq(tree_extend_begin(t, now, &root, top, 5000, &again, &refused), 0);
                        while (tree_extend_some(t, now, &again, 3 * SLICE))
                                (void) tree_extend_some(t, now, &k, 1);
                        tree_unset_cursor(&again);
                }
                if (i == 8)
                        ck_assert_int_eq(cancel(child[10]), 1);
        }
        tree_unset_cursor(&k);
        tree_check(t); /* each deadline is right */
        ck_assert_uint_eq(leaf[0]->deadline_usec, 5000);
        ck_assert_uint_eq(born->deadline_usec, 5000);
        ck_assert_uint_eq(sooner->deadline_usec, 4000);
        ck_assert_uint_eq(later->deadline_usec, 5000);
        at(4500);
        ck_assert(context_is_done(sooner) && !context_is_done(later));
}
END_TEST

/* Where an earlier extension is under way, a later one is not over before that has come to all. */
START_TEST(law_14_two_extensions)
{
        struct cursor k, again;

        make_tree();
        tree_set_cursor(t, &k, top, NULL);
        ck_assert_int_eq(tree_extend_begin(t, now, &root, top, 8000, &k, &refused), 0);
        while (k.next != leaf[50])
                ck_assert(tree_extend_some(t, now, &k, 1));
        tree_set_cursor(t, &again, top, NULL);
        ck_assert_int_eq(tree_extend_begin(t, now, &root, top, 8000, &again, &refused), 0);
        while (tree_extend_some(t, now, &again, SLICE))
                ;
        tree_unset_cursor(&again);
        for (int i = 0; i < CHILDREN; i++)
                ck_assert_uint_eq(leaf[i]->deadline_usec, 8000);
        while (tree_extend_some(t, now, &k, SLICE))
                ;
        tree_unset_cursor(&k);
        tree_check(t);
}
END_TEST

#define DEADLINES 200

static unsigned count_done(struct context *const *c)
{
        unsigned n = 0;

        for (int i = 0; i < DEADLINES; i++)
                n += context_is_done(c[i]);
        return n;
}

/* Those of one user do not come before those of another, however many they are, and whoever does the one's
 * leaves the other's alone. */
START_TEST(law_48_each_party_by_itself)
{
        struct create_options soon = plain;
        struct context *hers[DEADLINES], *his;
        struct party *first, *second;
        char path[16];

        soon.deadline_usec = 2000;
        for (int i = 0; i < DEADLINES; i++) {
                snprintf(path, sizeof path, "~/%d", i);
                ck_assert_int_eq(create_as(&alice, path, &soon, &hers[i]), 1);
        }
        soon.deadline_usec = 2001;
        ck_assert_int_eq(create_as(&bob, "~/his", &soon, &his), 1);
        drain();
        t->slice = SLICE;
        now = 3000;
        first = tree_take_behind(t, now);
        second = tree_take_behind(t, now);
        ck_assert_ptr_eq(first, hers[0]->user->party);
        ck_assert_ptr_eq(second, his->user->party);
        ck_assert_ptr_null(tree_take_behind(t, now));
        tree_check(t);
        /* A verb leaves them to who has taken them, and sees what it looks at. */
        ck_assert_int_eq(tree_settle(t, now), 0);
        ck_assert(!tree_is_behind(t, now));
        ck_assert_uint_eq(tree_next_usec(t), UINT64_MAX);
        assert_done(find_as(&alice, "~/7"), CONTEXT_DEADLINE_EXCEEDED, hers[7], ETIMEDOUT,
                        "context deadline exceeded");
        ck_assert(tree_advance_party(t, now, first));
        ck_assert_uint_eq(count_done(hers), 1 + SLICE);
        ck_assert_int_eq(his->state, CONTEXT_ACTIVE);
        ck_assert(!tree_advance_party(t, now, second));
        ck_assert_int_eq(his->state, CONTEXT_DEADLINE_EXCEEDED);
        ck_assert_uint_eq(count_done(hers), 1 + SLICE);
        tree_check(t);
        tree_give_back(t, second);
        while (tree_advance_party(t, now, first))
                drain();
        tree_give_back(t, first);
        tree_check(t);
        ck_assert_uint_eq(count_done(hers), DEADLINES);
        ck_assert_uint_eq(tree_next_usec(t), 3000 + t->retain_usec);
}
END_TEST

/* However much of a large tree may be ended at a time, what is due comes in smaller pieces. */
START_TEST(law_48_few_deadlines_at_a_time)
{
        enum { MANY = 500, FEW = 64 };
        struct create_options soon = plain;
        static struct context *all[MANY];
        unsigned n = 0;
        struct party *p;
        char path[16];

        soon.deadline_usec = 2000;
        for (int i = 0; i < MANY; i++) {
                snprintf(path, sizeof path, "~/%d", i);
                ck_assert_int_eq(create_as(&alice, path, &soon, &all[i]), 1);
        }
        drain();
        t->slice = 2 * MANY;
        now = 3000;
        p = tree_take_behind(t, now);
        ck_assert(tree_advance_party(t, now, p));
        for (int i = 0; i < MANY; i++)
                n += all[i]->state != CONTEXT_ACTIVE;
        ck_assert_uint_ge(n, 1);
        ck_assert_uint_le(n, FEW);
        while (tree_advance_party(t, now, p))
                drain();
        tree_give_back(t, p);
        tree_check(t);
}
END_TEST

/* Whoever ends or forgets something looks through the ends that go on, whoever's they are. So what is due at
 * one moment does not begin all of them before it goes on with the first. */
START_TEST(law_48_ends_of_what_is_due_do_not_pile_up)
{
        enum { TREES = 200, BELOW = 70, FEW = 64 };
        struct create_options soon = plain;
        struct context *c = NULL;
        const struct ending *e;
        struct party *p;
        char path[16];
        bool more;

        soon.deadline_usec = 2000;
        for (int i = 0; i < TREES; i++) {
                snprintf(path, sizeof path, "~/%d", i);
                ck_assert_int_eq(create_as(&alice, path, &soon, &c), 1);
                for (int k = 0; k < BELOW; k++) {
                        snprintf(path, sizeof path, "~/%d/%d", i, k);
                        ck_assert_int_eq(tree_create(t, now, &alice, path, &plain, &c, &refused), 1);
                }
        }
        drain();
        t->slice = 512;
        now = 3000;
        p = tree_take_behind(t, now);
        do {
                unsigned n = 0;

                more = tree_advance_party(t, now, p);
                TAILQ_FOREACH (e, &t->endings, endings)
                        n++;
                ck_assert_uint_le(n, FEW);
                drain();
        } while (more);
        tree_give_back(t, p);
        for (c = t->background; (c = context_next(c, t->background));)
                ck_assert_int_eq(context_is_done(c), c->parent != t->background);
        ck_assert_uint_eq(tree_next_usec(t), 3000 + t->retain_usec);
}
END_TEST

/* What goes on is a large end, and then the retention that is over. The last of her contexts may go, and she
 * with it, while her work is taken. */
START_TEST(law_48_the_ends_of_each_party)
{
        struct context *own = NULL;
        struct party *p;
        char path[16];

        for (int i = 0; i < DEADLINES; i++) {
                snprintf(path, sizeof path, "~/%d", i);
                ck_assert_int_eq(create_as(&alice, path, &plain, &own), 1);
        }
        drain();
        t->slice = SLICE;
        cancel(own->parent);
        p = tree_take_behind(t, now);
        ck_assert_ptr_eq(p, own->user->party);
        ck_assert(!tree_is_behind(t, now));
        while (tree_advance_party(t, now, p)) {
                tree_check(t);
                drain();
        }
        ck_assert(TAILQ_EMPTY(&t->endings));
        tree_give_back(t, p);
        ck_assert_uint_eq(finish(), DEADLINES + 1);
        now += t->retain_usec;
        p = tree_take_behind(t, now);
        ck_assert_ptr_nonnull(p);
        while (tree_advance_party(t, now, p)) {
                tree_check(t);
                drain();
        }
        drain();
        ck_assert_uint_eq(t->n_contexts, 0);
        ck_assert_uint_eq(t->users.n, 0);
        tree_give_back(t, p);
        ck_assert_ptr_null(t->users.parties);
}
END_TEST

/* Who waits for the end of his own tree does not wait for that of another party's, which may get its turns
 * more seldom. */
START_TEST(law_48_the_end_of_one_party_is_over_by_itself)
{
        struct context *hers = NULL, *his = NULL;
        struct party *first, *second;
        uint64_t number;
        char path[16];

        for (int i = 0; i < DEADLINES; i++) {
                snprintf(path, sizeof path, "~/%d", i);
                ck_assert_int_eq(create_as(&alice, path, &plain, &hers), 1);
                ck_assert_int_eq(create_as(&bob, path, &plain, &his), 1);
        }
        drain();
        t->slice = SLICE;
        cancel(hers->parent);
        cancel(his->parent);
        number = tree_ending(t, his->parent);
        ck_assert_ptr_eq(tree_ending_party(t, his->parent), his->user->party);
        ck_assert_ptr_null(tree_ending_party(t, t->background));
        first = tree_take_behind(t, now);
        second = tree_take_behind(t, now);
        ck_assert_ptr_eq(first, hers->user->party);
        ck_assert_ptr_eq(second, his->user->party);
        while (tree_advance_party(t, now, second))
                drain();
        ck_assert(context_is_done(his));
        ck_assert_uint_eq(tree_ending(t, his->parent), 0);
        ck_assert(tree_is_ended(t, second, number));
        ck_assert(!tree_is_ended(t, NULL, number));
        while (tree_advance_party(t, now, first))
                drain();
        tree_give_back(t, first);
        tree_give_back(t, second);
        (void) finish();
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_05_an_end_goes_on_until_all_is_done,
                        law_08_what_is_looked_at_is_done,
                        law_12_a_deadline_that_had_passed_comes_first,
                        law_12_whoever_looks_sees_it,
                        law_34_what_is_being_released_is_found_by_its_id,
                        law_22_what_is_forgotten_is_stepped_over,
                        law_48_a_walk_goes_on_behind_what_has_gone,
                        law_14_an_extension_comes_in_slices,
                        law_14_two_extensions,
                        law_48_each_party_by_itself,
                        law_48_few_deadlines_at_a_time,
                        law_48_ends_of_what_is_due_do_not_pile_up,
                        law_48_the_ends_of_each_party,
                        law_48_the_end_of_one_party_is_over_by_itself,
                        NULL,
        };

        return run_laws("law-model-slice", tests);
}
