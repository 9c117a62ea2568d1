/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "lib/ctxclient.h"
#include "tests/interleave/tester.h"

/* Mutex, condition and semaphore: no lock, signal or unit is lost (law 26), and whoever knows that nobody
 * needs one any more may free its memory. */

static struct ctx *ctx;
static struct ctx_mutex *mutex;
static struct ctx_cond *cond;
static struct ctx_sem *sem;
static _Atomic int n_users, taken;
static bool is_set;
static int n_inside;

static void with_all(void)
{
        ctx = ctx_with_cancel(ctx_background());
        mutex = calloc(1, sizeof *mutex);
        cond = calloc(1, sizeof *cond);
        sem = calloc(1, sizeof *sem);
        n_users = 2;
}

static void free_all(void)
{
        free(mutex);
        free(cond);
        free(sem);
        ctx_unref(ctx);
}

static void cancel(void)
{
        ctx_cancel(ctx);
}

/* -- The waiter frees what it has waited for. */

static void wait_and_free_sem(void)
{
        EXPECT(ctx_sem_wait(ctx_background(), sem) == 0);
        free(sem);
        sem = NULL;
}

static void wait_under_ctx_and_free_sem(void)
{
        EXPECT(ctx_sem_wait(ctx, sem) == 0);
        free(sem);
        sem = NULL;
}

static void post(void)
{
        EXPECT(ctx_sem_post(sem) == 0);
}

/* The last user frees it, after it has unlocked. */
static void use_and_free_mutex(struct ctx *under)
{
        bool last;

        EXPECT(ctx_mutex_lock(under, mutex) == 0);
        EXPECT(n_inside++ == 0);
        last = --n_users == 0;
        n_inside--;
        EXPECT(ctx_mutex_unlock(mutex) == 0);
        if (last) {
                free(mutex);
                mutex = NULL;
        }
}

static void use_mutex(void)
{
        use_and_free_mutex(ctx_background());
}

static void use_mutex_under_ctx(void)
{
        use_and_free_mutex(ctx);
}

static void wait_and_free_cond(void)
{
        EXPECT(ctx_mutex_lock(ctx_background(), mutex) == 0);
        while (!is_set)
                EXPECT(ctx_cond_wait(ctx, cond, mutex) == 0);
        ctx_mutex_unlock(mutex);
        free(cond);
        cond = NULL;
}

static void set_and_signal(void)
{
        EXPECT(ctx_mutex_lock(ctx_background(), mutex) == 0);
        is_set = true;
        EXPECT(ctx_cond_signal(cond) == 0);
        ctx_mutex_unlock(mutex);
}

static void set_and_broadcast(void)
{
        EXPECT(ctx_mutex_lock(ctx_background(), mutex) == 0);
        is_set = true;
        EXPECT(ctx_cond_broadcast(cond) == 0);
        ctx_mutex_unlock(mutex);
}

/* -- With a cancel. */

static void wait_for_sem(void)
{
        int r = ctx_sem_wait(ctx, sem);

        EXPECT(r == 0 || r == -ECANCELED);
        if (r == 0)
                taken++;
}

static void wait_for_sem_without_limit(void)
{
        EXPECT(ctx_sem_wait(ctx_background(), sem) == 0);
        taken++;
}

static void post_twice(void)
{
        post();
        post();
}

static void units_are(int n)
{
        while (ctx_sem_trywait(sem) == 0)
                taken++;
        EXPECT(taken == n);
        free_all();
}

static void one_unit(void)
{
        units_are(1);
}

static void two_units(void)
{
        units_are(2);
}

/* One waiter gives up. The unit is the other one's. */
static void post_and_cancel(void)
{
        post();
        ctx_cancel(ctx);
        post();
}

static void lock_and_unlock(void)
{
        EXPECT(ctx_mutex_lock(ctx_background(), mutex) == 0);
        EXPECT(n_inside++ == 0);
        n_inside--;
        EXPECT(ctx_mutex_unlock(mutex) == 0);
}

static void lock_under_ctx(void)
{
        int r = ctx_mutex_lock(ctx, mutex);

        EXPECT(r == 0 || r == -ECANCELED);
        if (r < 0)
                return;
        EXPECT(n_inside++ == 0);
        n_inside--;
        EXPECT(ctx_mutex_unlock(mutex) == 0);
}

static void mutex_is_free(void)
{
        EXPECT(ctx_mutex_trylock(mutex) == 0);
        free_all();
}

static void wait_for_cond(void)
{
        int r = 0;

        EXPECT(ctx_mutex_lock(ctx_background(), mutex) == 0);
        while (!is_set && r == 0)
                r = ctx_cond_wait(ctx, cond, mutex);
        EXPECT(n_inside++ == 0);
        n_inside--;
        EXPECT(r == 0 || r == -ECANCELED);
        EXPECT(ctx_mutex_unlock(mutex) == 0);
}

/* One signal for two waiters, one of which may give up: then the other one has to get it. Whoever takes the
 * token passes it on, so that the other one ends as well. */
static void take_token(struct ctx *under)
{
        int r = 0;

        EXPECT(ctx_mutex_lock(ctx_background(), mutex) == 0);
        while (!is_set && r == 0)
                r = ctx_cond_wait(under, cond, mutex);
        EXPECT(is_set || r == -ECANCELED);
        if (is_set) {
                taken++;
                EXPECT(ctx_cond_signal(cond) == 0);
        }
        EXPECT(ctx_mutex_unlock(mutex) == 0);
}

static void take_token_under_ctx(void)
{
        take_token(ctx);
}

static void take_token_without_limit(void)
{
        take_token(ctx_background());
}

static void signal_and_cancel(void)
{
        set_and_signal();
        ctx_cancel(ctx);
}

static void token_is_taken(void)
{
        EXPECT(taken >= 1);
        free_all();
}

static void with_time(void)
{
        with_all();
        ctx_unref(ctx);
        ctx = ctx_with_timeout(ctx_background(), 1000);
}

static void wait_in_time(void)
{
        int r = ctx_sem_wait(ctx, sem);

        EXPECT(r == 0 || r == -ETIMEDOUT);
        taken += r == 0;
}

static void post_and_pass(void)
{
        post();
        clock_advance(1000);
}

const struct program lock_programs[] = {
                {"sem_post_with_wait_and_free", with_all, {wait_and_free_sem, post}, free_all, .bound = 3},
                {"sem_post_with_wait_under_ctx_and_free", with_all, {wait_under_ctx_and_free_sem, post},
                                free_all, .bound = 3},
                {"sem_with_two_waiters", with_all, {wait_for_sem, post_twice, wait_for_sem}, two_units,
                                .bound = 3},
                {"sem_with_cancel", with_all, {wait_for_sem, post, cancel}, one_unit, .bound = 3},
                {"sem_with_cancel_of_one_waiter", with_all,
                                {wait_for_sem, post_and_cancel, wait_for_sem_without_limit}, two_units,
                                .bound = 3},
                {"sem_with_deadline", with_time, {wait_in_time, post_and_pass}, one_unit, .bound = 3},
                {"mutex_of_three", with_all, {lock_and_unlock, lock_and_unlock, lock_under_ctx},
                                mutex_is_free, .bound = 3},
                {"mutex_with_cancel", with_all, {lock_under_ctx, lock_and_unlock, cancel}, mutex_is_free,
                                .bound = 3},
                {"mutex_with_unlock_and_free", with_all, {use_mutex, use_mutex}, free_all, .bound = 3},
                {"mutex_with_unlock_and_free_under_ctx", with_all, {use_mutex_under_ctx, use_mutex_under_ctx},
                                free_all, .bound = 3},
                {"cond_with_wait_and_free", with_all, {wait_and_free_cond, set_and_signal}, free_all,
                                .bound = 3},
                {"cond_with_cancel", with_all, {wait_for_cond, set_and_signal, cancel}, mutex_is_free,
                                .bound = 3},
                {"cond_of_two", with_all, {wait_for_cond, set_and_broadcast, wait_for_cond}, mutex_is_free,
                                .bound = 3},
                {"cond_with_cancel_of_two", with_all,
                                {take_token_under_ctx, signal_and_cancel, take_token_without_limit},
                                token_is_taken, .bound = 3},
                {},
};
