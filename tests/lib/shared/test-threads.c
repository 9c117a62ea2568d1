/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "tests/lib/shared/daemon.h"

/* A hundred threads on one client. */

#define LONG_USEC UINT64_C(50000000)
#define THREADS 100
#define ROUNDS 20

struct thread {
        struct ctx_client *client;
        struct ctx *parent;
        const char *path;
        pthread_barrier_t *barrier;
        pthread_t id;
        unsigned n;
};

static void start_all(struct thread *threads, const struct thread *common, void *(*fn)(void *) )
{
        for (unsigned n = 0; n < THREADS; n++) {
                threads[n] = *common;
                threads[n].n = n;
                ck_assert_int_eq(pthread_create(&threads[n].id, NULL, fn, &threads[n]), 0);
        }
}

/* How many returned NULL. */
static unsigned join_all(struct thread *threads)
{
        unsigned failed = 0;
        void *result;

        for (unsigned n = 0; n < THREADS; n++) {
                pthread_join(threads[n].id, &result);
                failed += !result;
        }
        return failed;
}

static void *wait_for_own(void *userdata)
{
        struct thread *t = userdata;
        char path[128];
        struct ctx *ctx;
        int r;

        snprintf(path, sizeof path, "%s/%u", t->path, t->n);
        ctx = ctx_create(t->client, path, NULL);
        pthread_barrier_wait(t->barrier);
        if (!ctx)
                return NULL;
        r = ctx_wait(ctx, LONG_USEC);
        ctx_unref(ctx);
        return r == -ECANCELED ? t : NULL;
}

START_TEST(each_waits_for_its_own)
{
        unsigned fds = count_fds(getpid());
        struct thread threads[THREADS], common = {.client = new_client(), .path = fresh_path()};
        struct ctx *parent = make(common.client, common.path);
        pthread_barrier_t barrier;

        pthread_barrier_init(&barrier, NULL, THREADS + 1);
        common.barrier = &barrier;
        start_all(threads, &common, wait_for_own);
        pthread_barrier_wait(&barrier);
        ck_assert_int_eq(ctx_cancel(parent), 1);
        ck_assert_uint_eq(join_all(threads), 0);
        ctx_unref(parent);
        ctx_client_unref(common.client);
        ck_assert_uint_eq(count_fds(getpid()), fds);
}
END_TEST

/* The handle comes and goes all the time; whoever has it at the end must be told. */
static void *open_and_close(void *userdata)
{
        struct thread *t = userdata;
        struct ctx *ctx = NULL;
        int r;

        for (unsigned i = 0; i < ROUNDS; i++) {
                ctx_unref(ctx);
                ctx = ctx_open(t->client, t->path);
                if (!ctx || ctx_done_fd(ctx) < 0 || ctx_err(ctx) != 0)
                        return NULL;
        }
        if (t->n % 2) {
                ctx_unref(ctx);
                ctx = ctx_open(t->client, t->path);
        }
        pthread_barrier_wait(t->barrier);
        r = ctx ? ctx_wait(ctx, LONG_USEC) : 0;
        ctx_unref(ctx);
        return r == -ECANCELED ? t : NULL;
}

START_TEST(all_open_and_close_one)
{
        struct thread threads[THREADS], common = {.client = new_client(), .path = fresh_path()};
        struct ctx_client *second = new_client();
        struct ctx *ctx = make(second, common.path);
        pthread_barrier_t barrier;

        pthread_barrier_init(&barrier, NULL, THREADS + 1);
        common.barrier = &barrier;
        start_all(threads, &common, open_and_close);
        pthread_barrier_wait(&barrier);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_uint_eq(join_all(threads), 0);
        ctx_unref(ctx);
        ctx_client_unref(second);
        ctx_client_unref(common.client);
}
END_TEST

static _Atomic unsigned first;

static void *cancel_shared(void *userdata)
{
        struct thread *t = userdata;
        struct ctx *local = ctx_with_cancel(t->parent);
        int r;

        if (ctx_done_fd(local) < 0)
                return NULL;
        pthread_barrier_wait(t->barrier);
        r = ctx_cancel_cause(t->parent, (int) t->n + 1, NULL);
        if (r > 0)
                first++;
        /* When it returns, also with 0, all below reads done. */
        r = r < 0 || ctx_err(t->parent) != -ECANCELED || ctx_err(local) != -ECANCELED;
        ctx_unref(local);
        return r ? NULL : t;
}

START_TEST(all_cancel_one)
{
        struct thread threads[THREADS], common = {.client = new_client(), .path = fresh_path()};
        pthread_barrier_t barrier;
        int error = 0, again = 0;

        common.parent = make(common.client, common.path);
        pthread_barrier_init(&barrier, NULL, THREADS);
        common.barrier = &barrier;
        start_all(threads, &common, cancel_shared);
        ck_assert_uint_eq(join_all(threads), 0);
        ck_assert_uint_eq(first, 1);
        ck_assert_int_eq(ctx_cause(common.parent, &error, NULL), 1);
        ck_assert_int_eq(ctx_cause(common.parent, &again, NULL), 1);
        ck_assert_int_eq(error, again);
        ck_assert(error >= 1 && error <= THREADS);
        ctx_unref(common.parent);
        ctx_client_unref(common.client);
}
END_TEST

static void *with_own_client(void *userdata)
{
        struct thread *t = userdata;
        struct ctx_client *client = ctx_client_new(NULL);
        struct ctx *ctx = client ? ctx_open(client, t->path) : NULL;
        int r;

        ctx_client_unref(client); /* the context has its own */
        if (ctx)
                ctx_done_fd(ctx);
        pthread_barrier_wait(t->barrier);
        r = ctx ? ctx_wait(ctx, LONG_USEC) : 0;
        ctx_unref(ctx);
        return r == -ECANCELED ? t : NULL;
}

START_TEST(each_has_a_client)
{
        struct thread threads[THREADS], common = {.client = new_client(), .path = fresh_path()};
        struct ctx *ctx = make(common.client, common.path);
        pthread_barrier_t barrier;

        pthread_barrier_init(&barrier, NULL, THREADS + 1);
        common.barrier = &barrier;
        start_all(threads, &common, with_own_client);
        pthread_barrier_wait(&barrier);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_uint_eq(join_all(threads), 0);
        ctx_unref(ctx);
        ctx_client_unref(common.client);
}
END_TEST

/* The library's thread finds a context by its done handle, while this thread gives up the last reference. */
static void *end_and_forget(void *userdata)
{
        struct thread *t = userdata;
        char path[128];

        for (unsigned i = 0; i < 4 * ROUNDS; i++) {
                struct ctx *ctx, *local;

                snprintf(path, sizeof path, "%s/%u-%u", t->path, t->n, i);
                ctx = ctx_create(t->client, path, NULL);
                local = ctx ? ctx_with_cancel(ctx) : NULL;
                if (!local || ctx_done_fd(local) < 0)
                        return NULL;
                ctx_unref(local);
                if (ctx_cancel(ctx) != 1)
                        return NULL;
                ctx_unref(ctx);
        }
        return t;
}

START_TEST(last_reference_while_it_is_found)
{
        struct thread threads[THREADS], common = {.client = new_client(), .path = fresh_path()};
        struct ctx *ctx = make(common.client, common.path);

        start_all(threads, &common, end_and_forget);
        ck_assert_uint_eq(join_all(threads), 0);
        ctx_unref(ctx);
        ctx_client_unref(common.client);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        each_waits_for_its_own,
                        all_open_and_close_one,
                        all_cancel_one,
                        each_has_a_client,
                        last_reference_while_it_is_found,
                        NULL,
        };

        return run_tests_with_daemon("shared-threads", tests);
}
