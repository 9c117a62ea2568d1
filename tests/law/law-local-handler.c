/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>

#include "tests/law/local.h"

/* Law 42 for local contexts: signal handlers, and threads that are cancelled. */

#define INTERRUPTS 3000

static struct ctx *_Atomic timed, *_Atomic target;
static _Atomic int n_interrupts, n_wrong;
static pthread_t interrupted;
static _Atomic bool over;

static void handler(int signal)
{
        struct ctx *ctx = atomic_load(&timed);
        int r;

        if (ctx) {
                r = ctx_err(ctx);
                if (r != 0 && ((r != -ETIMEDOUT && r != -ECANCELED) || ctx_err(ctx) != r))
                        atomic_fetch_add(&n_wrong, 1);
        }
        ctx = atomic_load(&target);
        if (ctx) {
                r = ctx_cancel(ctx);
                if ((r != 0 && r != 1) || ctx_err(ctx) != -ECANCELED)
                        atomic_fetch_add(&n_wrong, 1);
        }
        atomic_fetch_add(&n_interrupts, 1);
}

static void *interrupt_often(void *unused)
{
        while (!atomic_load(&over)) {
                int before = atomic_load(&n_interrupts);

                pthread_kill(interrupted, SIGUSR1);
                while (atomic_load(&n_interrupts) == before && !atomic_load(&over))
                        sched_yield();
        }
        return NULL;
}

/* All that takes locks, so that some signals come at the worst moments. */
START_TEST(law_42_err_and_cancel_in_a_handler)
{
        CTX_AUTO_UNREF struct ctx *top = ctx_with_cancel(ctx_background());
        struct sigaction action = {.sa_handler = handler};
        pthread_t thread;

        sigaction(SIGUSR1, &action, NULL);
        interrupted = pthread_self();
        ck_assert_int_eq(pthread_create(&thread, NULL, interrupt_often, NULL), 0);
        for (unsigned i = 0; atomic_load(&n_interrupts) < INTERRUPTS; i++) {
                struct ctx *late = ctx_with_timeout(top, i % 20), *below = ctx_with_cancel(late);
                struct ctx *parent = ctx_with_cancel(top), *ctx = ctx_with_cancel(parent);
                struct ctx *child = ctx_with_cancel(ctx), *more;

                atomic_store(&timed, late);
                atomic_store(&target, ctx);
                more = ctx_with_cancel(child);
                for (int j = 0; j < 20; j++) {
                        struct ctx *kid = ctx_with_cancel(ctx), *sibling = ctx_with_cancel(parent);

                        if (j == 10)
                                ctx_cancel(late);
                        ctx_cancel(kid);
                        ctx_unref(kid);
                        ctx_unref(sibling);
                }
                if (i % 2)
                        ctx_cancel(parent);
                if (ctx_err(ctx) != 0) {
                        ck_assert_int_eq(ctx_cancel(ctx), 0);
                        ck_assert_int_eq(ctx_err(more), -ECANCELED);
                }
                atomic_store(&timed, NULL);
                atomic_store(&target, NULL);
                ctx_unref(more);
                ctx_unref(child);
                ctx_unref(ctx);
                ctx_unref(parent);
                ctx_unref(below);
                ctx_unref(late);
        }
        atomic_store(&over, true);
        pthread_join(thread, NULL);
        ck_assert_int_eq(n_wrong, 0);
}
END_TEST

#define KIDS 40

static struct ctx *tree, *kids[KIDS];

/* A cancellation is pending: the first cancellation point in the library ends the thread. */
static void *cancel_while_canceled(void *unused)
{
        pthread_cancel(pthread_self());
        ctx_cancel(tree);
        return NULL;
}

static void nothing(void *userdata) {}

START_TEST(law_42_a_cancel_in_a_thread_that_is_cancelled)
{
        struct ctx_after *afters[KIDS] = {};
        pthread_t thread;

        tree = ctx_with_cancel(ctx_background());
        for (int i = 0; i < KIDS; i++) {
                kids[i] = i % 2 ? ctx_with_cancel(tree) : ctx_with_timeout(tree, UINT64_C(3600000000));
                if (i % 4 < 2)
                        ck_assert_int_ge(ctx_done_fd(kids[i]), 0);
                else
                        afters[i] = ctx_after_func(kids[i], nothing, NULL);
        }
        ck_assert_int_eq(pthread_create(&thread, NULL, cancel_while_canceled, NULL), 0);
        pthread_join(thread, NULL);
        ck_assert_int_eq(ctx_cancel(tree), 0);
        for (int i = 0; i < KIDS; i++) {
                ck_assert_int_eq(ctx_err(kids[i]), -ECANCELED);
                ck_assert(i % 4 >= 2 || is_readable(ctx_done_fd(kids[i])));
                if (afters[i])
                        ctx_after_stop_wait(afters[i]);
                ctx_after_unref(afters[i]);
                ctx_unref(kids[i]);
        }
        ctx_unref(tree);
}
END_TEST

static void *unref_while_canceled(void *unused)
{
        pthread_cancel(pthread_self());
        for (int i = 0; i < KIDS; i++)
                ctx_unref(kids[i]);
        return NULL;
}

/* The look at the descriptors after the test finds those that stay open. */
START_TEST(law_42_an_unref_in_a_thread_that_is_cancelled)
{
        pthread_t thread;

        for (int i = 0; i < KIDS; i++) {
                kids[i] = ctx_with_cancel(ctx_background());
                ck_assert_int_ge(ctx_done_fd(kids[i]), 0);
        }
        ck_assert_int_eq(pthread_create(&thread, NULL, unref_while_canceled, NULL), 0);
        pthread_join(thread, NULL);
}
END_TEST

static void warm_up(void)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct ctx_after *after = ctx_after_func(ctx, nothing, NULL);

        ctx_after_stop(after);
        ctx_after_unref(after);
}

int main(void)
{
        const TTest *tests[] = {
                        law_42_err_and_cancel_in_a_handler,
                        law_42_a_cancel_in_a_thread_that_is_cancelled,
                        law_42_an_unref_in_a_thread_that_is_cancelled,
                        NULL,
        };

        warm = warm_up;
        return run_laws("local handlers", tests);
}
