/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/law/local.h"

/* Laws 1 to 9 for local contexts. */

static const struct ctx_key key = CTX_KEY("key");

START_TEST(law_01_roots_and_values_are_not_cancelled)
{
        struct ctx *roots[] = {ctx_background(), ctx_todo()}, *root = ctx_background();
        struct ctx *value, *without;
        uint64_t deadline = 7;

        for (size_t i = 0; i < 2; i++) {
                ck_assert_int_eq(ctx_cancel(roots[i]), -EINVAL);
                ck_assert_int_eq(ctx_cancel_cause(roots[i], EPIPE, "x"), -EINVAL);
                ck_assert_int_eq(ctx_err(roots[i]), 0);
                ck_assert_int_eq(ctx_cause(roots[i], NULL, NULL), 0);
                ck_assert_int_eq(ctx_deadline(roots[i], &deadline), 0);
                ck_assert_uint_eq(deadline, 7);
                ck_assert_uint_eq(ctx_remaining(roots[i]), UINT64_MAX);
                ck_assert_ptr_null(ctx_value(roots[i], &key));
                ck_assert_int_eq(ctx_done_fd(roots[i]), -EOPNOTSUPP);
                ck_assert_ptr_eq(ctx_ref(roots[i]), roots[i]);
                ck_assert_ptr_null(ctx_unref(roots[i]));
        }
        value = ctx_with_value(root, &key, &deadline, NULL);
        without = ctx_without_cancel(value);
        ck_assert_int_eq(ctx_cancel(value), -EINVAL);
        ck_assert_int_eq(ctx_cancel(without), -EINVAL);
        ck_assert_int_eq(ctx_err(value), 0);
        ck_assert_int_eq(ctx_err(without), 0);
        ck_assert_int_eq(ctx_done_fd(value), -EOPNOTSUPP);
        ctx_unref(value);
        ctx_unref(without);
}
END_TEST

START_TEST(law_01_a_view_is_not_cancelled)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *view = ctx_readonly(ctx);
        CTX_AUTO_UNREF struct ctx *child = ctx_with_cancel(view);

        ck_assert_int_eq(ctx_cancel(view), -EPERM);
        ck_assert_int_eq(ctx_err(ctx), 0);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_int_eq(ctx_err(view), -ECANCELED);
        ck_assert_int_eq(ctx_err(child), -ECANCELED);
}
END_TEST

/* False if the deadline was the first. */
static bool done_once_and_unchanged(uint64_t margin)
{
        uint64_t soon = now_boottime_usec() + margin;
        CTX_AUTO_UNREF struct ctx *parent = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_deadline_cause(parent, soon, EIO, "too late");

        if (ctx_cancel_cause(ctx, EPIPE, "the first") != 1) {
                ck_assert_uint_ge(now_boottime_usec(), soon);
                return false;
        }
        ck_assert_int_eq(ctx_cancel_cause(ctx, EBADF, "the second"), 0);
        ck_assert_int_eq(ctx_cancel_cause(parent, EBADF, "from above"), 1);
        sleep_until(soon + 1000);
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        assert_cause(ctx, EPIPE, "the first");
        assert_cause(parent, EBADF, "from above");
        return true;
}

START_TEST(law_02_done_once_and_unchanged)
{
        WITH_MORE_TIME(margin)
        if (done_once_and_unchanged(margin))
                return;
        ck_abort_msg("nothing gets done here");
}
END_TEST

struct race {
        struct ctx *ctx;
        pthread_barrier_t barrier;
        _Atomic int firsts;
        int error[4];
        int first[4];
};

static void *cancel_racer(void *userdata)
{
        struct race *race = userdata;
        static _Atomic unsigned number;
        unsigned i = atomic_fetch_add(&number, 1) % 4;
        int r;

        pthread_barrier_wait(&race->barrier);
        r = ctx_cancel_cause(race->ctx, (int) i + 1, NULL);
        race->first[i] = r;
        if (r > 0)
                atomic_fetch_add(&race->firsts, 1);
        /* Whoever comes back finds it done, with one and the same cause. */
        if (ctx_err(race->ctx) != -ECANCELED || ctx_cause(race->ctx, &race->error[i], NULL) != 1)
                race->error[i] = -1;
        return NULL;
}

START_TEST(law_03_the_first_cancel_wins)
{
        for (int round = 0; round < 300; round++) {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
                struct race race = {.ctx = ctx};
                pthread_t threads[4];

                pthread_barrier_init(&race.barrier, NULL, 4);
                for (int i = 0; i < 4; i++)
                        ck_assert_int_eq(pthread_create(&threads[i], NULL, cancel_racer, &race), 0);
                for (int i = 0; i < 4; i++)
                        pthread_join(threads[i], NULL);
                ck_assert_int_eq(race.firsts, 1);
                for (int i = 0; i < 4; i++) {
                        ck_assert_int_eq(race.error[i], race.error[0]);
                        ck_assert_int_eq(race.first[i], race.error[i] == i + 1);
                }
                pthread_barrier_destroy(&race.barrier);
        }
}
END_TEST

/* As the daemon does it, too. */
START_TEST(law_04_an_empty_text_is_none)
{
        CTX_AUTO_UNREF struct ctx *canceled = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *late = ctx_with_timeout_cause(ctx_background(), 0, EIO, "");

        ck_assert_int_eq(ctx_cancel_cause(canceled, EPIPE, ""), 1);
        assert_cause(canceled, EPIPE, "context canceled");
        assert_cause(late, EIO, "context deadline exceeded");
}
END_TEST

START_TEST(law_04_what_err_says)
{
        CTX_AUTO_UNREF struct ctx *canceled = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *late = ctx_with_timeout(ctx_background(), 0);
        CTX_AUTO_UNREF struct ctx *with_error = ctx_with_cancel(ctx_background());

        ck_assert_int_eq(ctx_err(canceled), 0);
        ck_assert_int_eq(ctx_cause(canceled, NULL, NULL), 0);
        ck_assert_int_eq(ctx_cancel(canceled), 1);
        ck_assert_int_eq(ctx_err(canceled), -ECANCELED);
        assert_cause(canceled, ECANCELED, "context canceled");
        ck_assert_int_eq(ctx_err(late), -ETIMEDOUT);
        assert_cause(late, ETIMEDOUT, "context deadline exceeded");
        ck_assert_int_eq(ctx_cancel_cause(with_error, EPIPE, NULL), 1);
        assert_cause(with_error, EPIPE, "context canceled");
        ck_assert_int_eq(ctx_cancel_cause(with_error, -1, NULL), -EINVAL);
        ck_assert_int_eq(ctx_err(NULL), -EINVAL);
        ck_assert_int_eq(ctx_cancel(NULL), -EINVAL);
        ck_assert_int_eq(ctx_cause(NULL, NULL, NULL), -EINVAL);
        ck_assert_int_eq(ctx_deadline(NULL, NULL), -EINVAL);
        ck_assert_int_eq(ctx_done_fd(NULL), -EINVAL);
        ck_assert_int_eq(ctx_wait(NULL, 0), -EINVAL);
        ck_assert_ptr_null(ctx_unref(NULL));
        ck_assert_ptr_null(ctx_ref(NULL));
}
END_TEST

#define WIDE 20
#define DEEP 20

struct subtree {
        struct ctx *root;
        struct ctx *all[WIDE * DEEP];
        int fds[WIDE * DEEP];
        pthread_barrier_t barrier;
        _Atomic unsigned misses;
};

static void *cancel_and_look(void *userdata)
{
        struct subtree *t = userdata;

        pthread_barrier_wait(&t->barrier);
        if (ctx_cancel(t->root) < 0)
                t->misses++;
        for (unsigned i = 0; i < WIDE * DEEP; i++)
                if (ctx_err(t->all[i]) != -ECANCELED || (t->fds[i] >= 0 && !is_readable(t->fds[i])))
                        t->misses++;
        return NULL;
}

/* Also the one who has lost the race, and also one that begins further down, finds all below done. */
START_TEST(law_05_all_below_is_done_when_cancel_returns)
{
        for (int round = 0; round < 50; round++) {
                struct subtree t = {.root = ctx_with_cancel(ctx_background())};
                pthread_t threads[3];

                for (unsigned i = 0; i < WIDE * DEEP; i++) {
                        struct ctx *parent = i % DEEP == 0 ? t.root : t.all[i - 1];

                        t.all[i] = i % 7 == 3 ? ctx_with_timeout(parent, 1000000000)
                                              : ctx_with_cancel(parent);
                        t.fds[i] = i % 5 == 4 ? ctx_done_fd(t.all[i]) : -1;
                }
                pthread_barrier_init(&t.barrier, NULL, 3);
                for (int i = 0; i < 3; i++)
                        ck_assert_int_eq(pthread_create(&threads[i], NULL, cancel_and_look, &t), 0);
                for (int i = 0; i < 3; i++)
                        pthread_join(threads[i], NULL);
                pthread_barrier_destroy(&t.barrier);
                ck_assert_uint_eq(t.misses, 0);
                for (unsigned i = 0; i < WIDE * DEEP; i++)
                        ctx_unref(t.all[i]);
                ctx_unref(t.root);
        }
}
END_TEST

#define LEAVES 20000

struct two_walks {
        struct ctx *top, *middle, *leaves[LEAVES];
        _Atomic bool begun;
};

static void *cancel_the_middle(void *userdata)
{
        struct two_walks *t = userdata;

        atomic_store(&t->begun, true);
        ctx_cancel(t->middle);
        return NULL;
}

/* A cancel comes upon a context that another one is at, further down, and waits for it. */
START_TEST(law_05_also_what_another_cancel_is_at)
{
        struct two_walks *t = calloc(1, sizeof(struct two_walks));

        for (int round = 0; round < 30; round++) {
                unsigned misses = 0;
                pthread_t thread;

                t->top = ctx_with_cancel(ctx_background());
                t->middle = ctx_with_cancel(t->top);
                for (unsigned i = 0; i < LEAVES; i++)
                        t->leaves[i] = ctx_with_cancel(i % 10 ? t->leaves[i - i % 10] : t->middle);
                atomic_store(&t->begun, false);
                ck_assert_int_eq(pthread_create(&thread, NULL, cancel_the_middle, t), 0);
                while (!atomic_load(&t->begun))
                        ;
                while (round % 3 > 0 && ctx_err(t->middle) == 0)
                        ;
                ck_assert_int_eq(ctx_cancel(t->top), 1);
                /* The last to be reached first. */
                for (unsigned i = 0; i < LEAVES; i++)
                        misses += ctx_err(t->leaves[i]) == 0;
                pthread_join(thread, NULL);
                ck_assert_uint_eq(misses, 0);
                for (unsigned i = 0; i < LEAVES; i++)
                        ctx_unref(t->leaves[i]);
                ctx_unref(t->middle);
                ctx_unref(t->top);
        }
        free(t);
}
END_TEST

struct derivers {
        struct ctx *parent;
        pthread_barrier_t barrier;
        _Atomic bool cancelled;
        _Atomic unsigned misses, derived;
};

#define KEPT 500

/* Contexts come and go at one parent from several threads, which splits its list; some stay. */
static void *derive_meanwhile(void *userdata)
{
        struct derivers *d = userdata;
        struct ctx *kept[KEPT];
        unsigned n = 0;

        pthread_barrier_wait(&d->barrier);
        for (unsigned i = 0;; i++) {
                bool over = atomic_load(&d->cancelled);
                struct ctx *ctx =
                                i % 3 ? ctx_with_cancel(d->parent) : ctx_with_timeout(d->parent, 1000000000);

                /* Born after the cancel had returned: born done. */
                if (over && ctx_err(ctx) != -ECANCELED)
                        atomic_fetch_add(&d->misses, 1);
                atomic_fetch_add(&d->derived, 1);
                if (n < KEPT && i % 2 == 0)
                        kept[n++] = ctx;
                else
                        ctx_unref(ctx);
                if (over)
                        break;
        }
        for (unsigned i = 0; i < n; i++) {
                if (ctx_err(kept[i]) != -ECANCELED)
                        atomic_fetch_add(&d->misses, 1);
                ctx_unref(kept[i]);
        }
        return NULL;
}

static void count(void *value)
{
        ++*(unsigned *) value;
}

START_TEST(law_05_and_08_derived_while_it_is_cancelled)
{
        for (unsigned round = 0; round < 100; round++) {
                static unsigned destroyed;
                CTX_AUTO_UNREF struct ctx *value = ctx_with_value(ctx_background(), &key, &destroyed, count);
                struct derivers d = {.parent = ctx_with_cancel(value)};
                pthread_t threads[4];

                ck_assert_uint_eq(destroyed, round); /* nothing of the last round is left */

                pthread_barrier_init(&d.barrier, NULL, 5);
                for (int i = 0; i < 4; i++)
                        ck_assert_int_eq(pthread_create(&threads[i], NULL, derive_meanwhile, &d), 0);
                pthread_barrier_wait(&d.barrier);
                while (atomic_load(&d.derived) < 2000)
                        sched_yield();
                ck_assert_int_eq(ctx_cancel(d.parent), 1);
                atomic_store(&d.cancelled, true);
                for (int i = 0; i < 4; i++)
                        pthread_join(threads[i], NULL);
                ck_assert_uint_eq(d.misses, 0);
                pthread_barrier_destroy(&d.barrier);
                ctx_unref(d.parent);
        }
}
END_TEST

static void *poll_and_look(void *userdata)
{
        struct ctx *ctx = userdata;
        struct pollfd fd = {.fd = ctx_done_fd(ctx), .events = POLLIN};

        while (poll(&fd, 1, -1) != 1)
                ;
        return ctx_err(ctx) == 0 ? userdata : NULL;
}

START_TEST(law_06_readable_is_done)
{
        for (int round = 0; round < 200; round++) {
                CTX_AUTO_UNREF struct ctx *parent = ctx_with_cancel(ctx_background());
                CTX_AUTO_UNREF struct ctx *ctx = round % 3 == 0   ? ctx_with_timeout(parent, 300)
                                                 : round % 3 == 1 ? ctx_with_timeout(parent, 1000000000)
                                                                  : ctx_with_cancel(parent);
                pthread_t thread;
                void *failed;

                ck_assert_int_ge(ctx_done_fd(ctx), 0);
                ck_assert_int_eq(pthread_create(&thread, NULL, poll_and_look, ctx), 0);
                if (round % 3 > 0)
                        ctx_cancel(parent);
                pthread_join(thread, &failed);
                ck_assert_ptr_null(failed);
                /* And the other way round, for good. */
                ck_assert(is_readable(ctx_done_fd(ctx)));
        }
}
END_TEST

START_TEST(law_07_parents_and_siblings_are_not_touched)
{
        CTX_AUTO_UNREF struct ctx *parent = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *sibling = ctx_with_cancel(parent);
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(parent);
        CTX_AUTO_UNREF struct ctx *younger = ctx_with_cancel(parent);

        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        ck_assert_int_eq(ctx_err(parent), 0);
        ck_assert_int_eq(ctx_err(sibling), 0);
        ck_assert_int_eq(ctx_err(younger), 0);
        ck_assert_int_eq(ctx_cancel(parent), 1);
        ck_assert_int_eq(ctx_err(sibling), -ECANCELED);
        ck_assert_int_eq(ctx_err(younger), -ECANCELED);
}
END_TEST

START_TEST(law_08_born_done)
{
        CTX_AUTO_UNREF struct ctx *parent = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *late = ctx_with_timeout_cause(ctx_background(), 0, EIO, "late");

        ck_assert_int_eq(ctx_cancel_cause(parent, EPIPE, "gone"), 1);
        for (int i = 0; i < 2; i++) {
                struct ctx *of = i ? late : parent;
                struct ctx *children[] = {
                                ctx_with_cancel(of),
                                ctx_with_timeout(of, 0),
                                ctx_with_timeout_cause(of, 0, EBADF, "own"),
                                ctx_with_timeout(of, 1000000000),
                                ctx_with_value(of, &key, NULL, NULL),
                                ctx_merge(of, NULL, 0),
                                ctx_readonly(of),
                                ctx_merge(ctx_background(), &of, 1),
                };

                for (size_t j = 0; j < sizeof(children) / sizeof(children[0]); j++) {
                        ck_assert_int_eq(ctx_err(children[j]), i ? -ETIMEDOUT : -ECANCELED);
                        assert_cause(children[j], i ? EIO : EPIPE, i ? "late" : "gone");
                        ck_assert(is_readable(ctx_done_fd(children[j])));
                        ck_assert_int_eq(ctx_wait(children[j], UINT64_MAX), i ? -ETIMEDOUT : -ECANCELED);
                        ctx_unref(children[j]);
                }
        }
}
END_TEST

START_TEST(law_09_the_cause_is_the_ancestors)
{
        CTX_AUTO_UNREF struct ctx *top = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *middle = ctx_with_cancel(top);
        CTX_AUTO_UNREF struct ctx *below = ctx_with_value(middle, &key, NULL, NULL);
        CTX_AUTO_UNREF struct ctx *lowest = ctx_with_timeout(below, 1000000000);
        CTX_AUTO_UNREF struct ctx *other = ctx_with_cancel(top);

        ck_assert_int_eq(ctx_cancel_cause(middle, EPIPE, "the middle"), 1);
        assert_cause(lowest, EPIPE, "the middle");
        assert_cause(below, EPIPE, "the middle");
        ck_assert_int_eq(ctx_cancel_cause(top, EIO, "the top"), 1);
        assert_cause(lowest, EPIPE, "the middle");
        assert_cause(other, EIO, "the top");
}
END_TEST

/* The text outlives whoever gave it. */
START_TEST(law_09_the_message_lives_as_long_as_the_context)
{
        struct ctx *top = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *child = ctx_with_cancel(top);
        char text[] = "a text of one's own";

        ck_assert_int_eq(ctx_cancel_cause(top, EPIPE, text), 1);
        memset(text, 'x', sizeof(text) - 1);
        ctx_unref(top);
        assert_cause(child, EPIPE, "a text of one's own");
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_01_roots_and_values_are_not_cancelled,
                        law_01_a_view_is_not_cancelled,
                        law_02_done_once_and_unchanged,
                        law_03_the_first_cancel_wins,
                        law_04_an_empty_text_is_none,
                        law_04_what_err_says,
                        law_05_all_below_is_done_when_cancel_returns,
                        law_05_also_what_another_cancel_is_at,
                        law_05_and_08_derived_while_it_is_cancelled,
                        law_06_readable_is_done,
                        law_07_parents_and_siblings_are_not_touched,
                        law_08_born_done,
                        law_09_the_cause_is_the_ancestors,
                        law_09_the_message_lives_as_long_as_the_context,
                        NULL,
        };

        return run_laws("local contexts: state", tests);
}
