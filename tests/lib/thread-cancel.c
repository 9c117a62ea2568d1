/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/law/local.h"

/* Law 42: pthread_cancel(3) of a thread that waits for a lock, a channel or a group leaves these whole: it
 * stands in no queue any more, and no item, post or signal goes with it. */

struct world {
        struct ctx *ctx;
        struct ctx_mutex mutex;
        struct ctx_cond cond;
        struct ctx_sem sem;
        struct ctx_chan *chans[2];
        struct ctx_group *group;
        unsigned tokens; /* under the mutex */
        _Atomic unsigned long counter;
        _Atomic pid_t tid;
        bool locked_in_cleanup;
};

enum call { SEM_WAIT, COND_WAIT, SEND, RECV, SELECT, SELECT_MANY, GROUP_WAIT, GROUP_WAIT_FOR, CALLS };

/* The macros of the harness are cancellation points themselves. */
static void expect(bool right)
{
        if (!right)
                abort();
}

static void cond_cleanup(void *userdata)
{
        struct world *w = userdata;

        w->locked_in_cleanup = ctx_mutex_trylock(&w->mutex) == -EBUSY;
        ctx_mutex_unlock(&w->mutex);
}

static void wait_for_token(struct world *w)
{
        expect(ctx_mutex_lock(w->ctx, &w->mutex) == 0);
        pthread_cleanup_push(cond_cleanup, w);
        while (w->tokens == 0)
                expect(ctx_cond_wait(w->ctx, &w->cond, &w->mutex) == 0);
        w->tokens--;
        pthread_cleanup_pop(0);
        ctx_mutex_unlock(&w->mutex);
}

static void call(struct world *w, enum call which)
{
        struct ctx_chan_case cases[20] = {};
        long item = 1, got;
        int n = which == SELECT ? 2 : 20;

        switch (which) {
        case SEM_WAIT:
                expect(ctx_sem_wait(w->ctx, &w->sem) == 0);
                break;
        case COND_WAIT:
                wait_for_token(w);
                break;
        case SEND:
                expect(ctx_chan_send(w->ctx, w->chans[0], &item) == 0);
                break;
        case RECV:
                expect(ctx_chan_recv(w->ctx, w->chans[0], &got) == 1);
                break;
        case SELECT:
        case SELECT_MANY:
                for (int i = 0; i < n; i++)
                        cases[i] = (struct ctx_chan_case){
                                        .chan = w->chans[i % 2], .op = CTX_CHAN_RECV, .ret_item = &got};
                expect(ctx_chan_select(w->ctx, cases, (size_t) n) >= 0);
                break;
        case GROUP_WAIT:
                expect(ctx_group_wait(w->group) == 0);
                break;
        case GROUP_WAIT_FOR:
                expect(ctx_group_wait_for(w->ctx, w->group) == 0);
                break;
        case CALLS:
                break;
        }
}

struct start {
        struct world *w;
        enum call which;
        /* The C library may say PTHREAD_CANCELED of a thread that has returned: its signal comes late. */
        bool has_returned;
};

static void *do_call(void *userdata)
{
        struct start *start = userdata;

        atomic_store(&start->w->tid, gettid());
        call(start->w, start->which);
        start->has_returned = true;
        return NULL;
}

static int run_until_done(struct ctx *ctx, void *userdata)
{
        return ctx_wait(ctx, UINT64_MAX) < 0 ? 0 : 1;
}

static void world_init(struct world *w)
{
        *w = (struct world){
                        .ctx = ctx_with_cancel(ctx_background()), .group = ctx_group_new(ctx_background())};
        for (int i = 0; i < 2; i++)
                w->chans[i] = ctx_chan_new(sizeof(long), 0);
        ck_assert_int_eq(ctx_group_go(w->group, run_until_done, NULL), 0);
}

static void world_deinit(struct world *w)
{
        ctx_cancel(ctx_group_ctx(w->group));
        ck_assert_int_eq(ctx_group_wait(w->group), 0);
        ctx_group_unref(w->group);
        for (int i = 0; i < 2; i++)
                ctx_chan_unref(w->chans[i]);
        ctx_unref(w->ctx);
}

/* Everything can be used as if the thread had not been there. */
static void assert_whole(struct world *w)
{
        long item = 1;

        ck_assert_int_eq(ctx_sem_trywait(&w->sem), -EAGAIN);
        ck_assert_int_eq(ctx_sem_post(&w->sem), 0);
        ck_assert_int_eq(ctx_sem_trywait(&w->sem), 0);
        ck_assert_int_eq(ctx_mutex_trylock(&w->mutex), 0);
        ck_assert_int_eq(ctx_mutex_unlock(&w->mutex), 0);
        for (int i = 0; i < 2; i++) {
                ck_assert_int_eq(ctx_chan_try_send(w->chans[i], &item), -EAGAIN);
                ck_assert_int_eq(ctx_chan_try_recv(w->chans[i], &item), -EAGAIN);
        }
}

START_TEST(law_42_a_waiter_is_cancelled)
{
        for (enum call which = 0; which < CALLS; which++) {
                struct world w;
                struct start start = {&w, which};
                pthread_t thread;
                void *result;

                world_init(&w);
                ck_assert_int_eq(pthread_create(&thread, NULL, do_call, &start), 0);
                ck_assert_happens(atomic_load(&w.tid) > 0 && sleeps(w.tid));
                ck_assert_int_eq(pthread_cancel(thread), 0);
                pthread_join(thread, &result); /* would hang */
                ck_assert_ptr_eq(result, PTHREAD_CANCELED);
                ck_assert(w.locked_in_cleanup == (which == COND_WAIT));
                assert_whole(&w);
                world_deinit(&w);
        }
}
END_TEST

/* A mutex is not left in the middle of a wait. */
START_TEST(law_42_a_wait_for_a_mutex_goes_on)
{
        struct world w;
        pthread_t thread;
        void *result;
        struct start start = {&w, COND_WAIT};

        world_init(&w);
        w.tokens = 1;
        ck_assert_int_eq(ctx_mutex_trylock(&w.mutex), 0);
        ck_assert_int_eq(pthread_create(&thread, NULL, do_call, &start), 0);
        ck_assert_happens(atomic_load(&w.tid) > 0 && sleeps(w.tid));
        ck_assert_int_eq(pthread_cancel(thread), 0);
        ck_assert_int_eq(ctx_mutex_unlock(&w.mutex), 0);
        pthread_join(thread, &result);
        ck_assert_ptr_null(result);
        ck_assert_uint_eq(w.tokens, 0);
        assert_whole(&w);
        world_deinit(&w);
}
END_TEST

/* One thread is cancelled at just the moment when it gets something: another one gets it. */
static void *take_patiently(void *userdata)
{
        struct start *start = userdata;

        call(start->w, start->which);
        atomic_fetch_add(&start->w->counter, 1);
        return NULL;
}

static void give_one(struct world *w, enum call which)
{
        long item = 1;

        if (which == SEM_WAIT) {
                ck_assert_int_eq(ctx_sem_post(&w->sem), 0);
        } else if (which == COND_WAIT) {
                ck_assert_int_eq(ctx_mutex_lock(w->ctx, &w->mutex), 0);
                w->tokens++;
                ctx_mutex_unlock(&w->mutex);
                ctx_cond_signal(&w->cond);
        } else {
                ck_assert_int_eq(ctx_chan_send(w->ctx, w->chans[0], &item), 0);
        }
}

START_TEST(law_42_a_cancelled_waiter_takes_nothing_along)
{
        static const enum call calls[] = {SEM_WAIT, COND_WAIT, RECV, SELECT, SELECT_MANY};
        enum call which = calls[_i];

        for (unsigned round = 0; round < 400; round++) {
                struct world w;
                struct start start = {&w, which};
                pthread_t brief, patient;

                world_init(&w);
                ck_assert_int_eq(pthread_create(&brief, NULL, do_call, &start), 0);
                while (atomic_load(&w.tid) == 0)
                        sched_yield();
                usleep(round % 3 * 40);
                ck_assert_int_eq(pthread_create(&patient, NULL, take_patiently, &start), 0);
                usleep(round % 5 * 20);
                if (round % 2) {
                        give_one(&w, which);
                        pthread_cancel(brief);
                } else {
                        pthread_cancel(brief);
                        give_one(&w, which);
                }
                pthread_join(brief, NULL);
                /* It had it: then the other one waits for one more. */
                if (start.has_returned)
                        give_one(&w, which);
                pthread_join(patient, NULL); /* would hang */
                ck_assert_uint_eq(w.counter, 1);
                ck_assert_uint_eq(w.tokens, 0);
                assert_whole(&w);
                world_deinit(&w);
        }
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_42_a_waiter_is_cancelled,
                        law_42_a_wait_for_a_mutex_goes_on,
                        NULL,
        };

        return run_laws_and_loop("threads that are cancelled", tests,
                        law_42_a_cancelled_waiter_takes_nothing_along, 5);
}
