/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/law/local.h"

/* Law 26 for what waits at several channels at once: select, and what does not wait; and the descriptor. */

static struct ctx_chan_case sends(struct ctx_chan *chan, const long *item)
{
        return (struct ctx_chan_case){.chan = chan, .op = CTX_CHAN_SEND, .send_item = item, .result = -1000};
}

static struct ctx_chan_case receives(struct ctx_chan *chan, long *ret_item)
{
        return (struct ctx_chan_case){
                        .chan = chan, .op = CTX_CHAN_RECV, .ret_item = ret_item, .result = -1000};
}

static struct ctx_chan *new_chan(size_t capacity)
{
        struct ctx_chan *chan = ctx_chan_new(sizeof(long), capacity);

        ck_assert_ptr_nonnull(chan);
        return chan;
}

START_TEST(tries_do_not_wait)
{
        CTX_AUTO_CHAN_UNREF struct ctx_chan *none = new_chan(0), *one = new_chan(1);
        long item = 5, got = 0;

        ck_assert_int_eq(ctx_chan_try_send(none, &item), -EAGAIN);
        ck_assert_int_eq(ctx_chan_try_recv(none, &got), -EAGAIN);
        ck_assert_int_eq(ctx_chan_try_recv(one, &got), -EAGAIN);
        ck_assert_int_eq(ctx_chan_try_send(one, &item), 0);
        ck_assert_int_eq(ctx_chan_try_send(one, &item), -EAGAIN);
        ck_assert_int_eq(ctx_chan_close(one), 0);
        ck_assert_int_eq(ctx_chan_try_send(one, &item), -EPIPE);
        ck_assert_int_eq(ctx_chan_try_recv(one, &got), 1);
        ck_assert_int_eq(got, 5);
        ck_assert_int_eq(ctx_chan_try_recv(one, &got), 0);
        ck_assert_int_eq(ctx_chan_try_recv(one, NULL), -EINVAL);
        ck_assert_int_eq(ctx_chan_try_send(NULL, &item), -EINVAL);
}
END_TEST

START_TEST(items_of_size_0)
{
        CTX_AUTO_CHAN_UNREF struct ctx_chan *chan = ctx_chan_new(0, 2), *huge = ctx_chan_new(0, SIZE_MAX);
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 1000);
        struct ctx_chan_case c = {.chan = chan, .op = CTX_CHAN_RECV};

        ck_assert_ptr_nonnull(chan);
        ck_assert_ptr_nonnull(huge);
        ck_assert_int_eq(ctx_chan_send(ctx_background(), huge, NULL), 0);
        ck_assert_int_eq(ctx_chan_send(ctx_background(), chan, NULL), 0);
        ck_assert_int_eq(ctx_chan_try_send(chan, NULL), 0);
        ck_assert_int_eq(ctx_chan_try_send(chan, NULL), -EAGAIN);
        ck_assert_int_eq(ctx_chan_recv(ctx_background(), chan, NULL), 1);
        ck_assert_int_eq(ctx_chan_select(ctx_background(), &c, 1), 0);
        ck_assert_int_eq(c.result, 1);
        ck_assert_int_eq(ctx_chan_recv(ctx, chan, NULL), -ETIMEDOUT);
}
END_TEST

START_TEST(select_takes_what_is_ready)
{
        CTX_AUTO_CHAN_UNREF struct ctx_chan *empty = new_chan(1), *full = new_chan(1), *kept = new_chan(1);
        long item = 7, got = 0;
        struct ctx_chan_case cases[] = {receives(empty, &got), sends(full, &item), receives(NULL, NULL),
                        receives(kept, &got)};

        ck_assert_int_eq(ctx_chan_try_send(full, &item), 0);
        ck_assert_int_eq(ctx_chan_try_select(cases, 4), -EAGAIN);
        ck_assert_int_eq(ctx_chan_try_send(kept, &item), 0);
        ck_assert_int_eq(ctx_chan_select(ctx_background(), cases, 4), 3);
        ck_assert_int_eq(cases[3].result, 1);
        ck_assert_int_eq(got, 7);
        ck_assert_int_eq(cases[0].result, -1000);
        ck_assert_int_eq(ctx_chan_close(full), 0);
        ck_assert_int_eq(ctx_chan_try_select(cases, 4), 1);
        ck_assert_int_eq(cases[1].result, -EPIPE);
        ck_assert_int_eq(ctx_chan_close(empty), 0);
        cases[1].chan = NULL;
        ck_assert_int_eq(ctx_chan_select(ctx_background(), cases, 4), 0);
        ck_assert_int_eq(cases[0].result, 0);
}
END_TEST

START_TEST(select_refuses)
{
        CTX_AUTO_UNREF struct ctx *brief = ctx_with_timeout(ctx_background(), 2000);
        CTX_AUTO_UNREF struct ctx *done = ctx_with_cancel(ctx_background());
        CTX_AUTO_CHAN_UNREF struct ctx_chan *chan = new_chan(1);
        long item = 1;
        struct ctx_chan_case cases[] = {receives(NULL, NULL), sends(chan, &item)};

        ck_assert_int_eq(ctx_chan_select(ctx_background(), NULL, 0), -EDEADLK);
        ck_assert_int_eq(ctx_chan_select(ctx_background(), cases, 1), -EDEADLK);
        ck_assert_int_eq(ctx_chan_select(brief, cases, 1), -ETIMEDOUT);
        ck_assert_int_eq(ctx_chan_select(NULL, cases, 2), -EINVAL);
        ck_assert_int_eq(ctx_chan_select(brief, NULL, 2), -EINVAL);
        ck_assert_int_eq(ctx_chan_select(brief, cases, SIZE_MAX), -EINVAL);
        ck_assert_int_eq(ctx_chan_try_select(NULL, 0), -EAGAIN);
        ctx_cancel(done);
        ck_assert_int_eq(ctx_chan_select(done, cases, 2), -ECANCELED); /* nothing is tried */
        ck_assert_int_eq(ctx_chan_try_recv(chan, &item), -EAGAIN);
        cases[1].send_item = NULL;
        ck_assert_int_eq(ctx_chan_select(brief, cases, 2), -EINVAL);
        cases[1].op = 0;
        ck_assert_int_eq(ctx_chan_try_select(cases, 2), -EINVAL);
}
END_TEST

START_TEST(select_prefers_none)
{
        enum { N = 12 }; /* more than there is room for on the stack */
        struct ctx_chan *chans[N];
        struct ctx_chan_case cases[N];
        unsigned happened[N] = {};
        long item = 1, got;

        for (int i = 0; i < N; i++) {
                chans[i] = new_chan(1);
                cases[i] = receives(chans[i], &got);
                ck_assert_int_eq(ctx_chan_try_send(chans[i], &item), 0);
        }
        for (int round = 0; round < 200 * N; round++) {
                int i = ctx_chan_select(ctx_background(), cases, N);

                ck_assert(i >= 0 && i < N);
                happened[i]++;
                ck_assert_int_eq(ctx_chan_try_send(chans[i], &item), 0);
        }
        for (int i = 0; i < N; i++) {
                ck_assert_uint_gt(happened[i], 50);
                ctx_chan_unref(chans[i]);
        }
}
END_TEST

START_TEST(select_does_not_meet_itself)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 3000);
        CTX_AUTO_CHAN_UNREF struct ctx_chan *chan = new_chan(0);
        long item = 1, got = 0;
        struct ctx_chan_case cases[] = {
                        sends(chan, &item), receives(chan, &got), sends(chan, &item), receives(chan, &got)};

        ck_assert_int_eq(ctx_chan_try_select(cases, 4), -EAGAIN);
        ck_assert_int_eq(ctx_chan_select(ctx, cases, 4), -ETIMEDOUT);
        ck_assert_int_eq(got, 0);
        /* It has left all queues. */
        ck_assert_int_eq(ctx_chan_try_send(chan, &item), -EAGAIN);
        ck_assert_int_eq(ctx_chan_try_recv(chan, &got), -EAGAIN);
}
END_TEST

/* -- Two threads */

struct selector {
        struct ctx_chan *chans[3];
        struct ctx *ctx;
        _Atomic pid_t tid;
        long got;
        int index, result;
};

static void *select_one(void *userdata)
{
        struct selector *s = userdata;
        struct ctx_chan_case cases[3];

        for (int i = 0; i < 3; i++)
                cases[i] = receives(s->chans[i], &s->got);
        atomic_store(&s->tid, gettid());
        s->index = ctx_chan_select(s->ctx, cases, 3);
        s->result = s->index < 0 ? 0 : cases[s->index].result;
        return NULL;
}

static pthread_t start_selector(struct selector *s)
{
        pthread_t thread;

        *s = (struct selector){.ctx = ctx_with_cancel(ctx_background())};
        for (int i = 0; i < 3; i++)
                s->chans[i] = new_chan(0);
        ck_assert_int_eq(pthread_create(&thread, NULL, select_one, s), 0);
        ck_assert_happens(atomic_load(&s->tid) > 0 && sleeps(s->tid));
        return thread;
}

static void end_selector(struct selector *s)
{
        for (int i = 0; i < 3; i++) {
                /* It is in no queue. */
                long item = 1;

                if (ctx_chan_close(s->chans[i]) == 0)
                        ck_assert_int_eq(ctx_chan_try_send(s->chans[i], &item), -EPIPE);
                ctx_chan_unref(s->chans[i]);
        }
        ctx_unref(s->ctx);
}

START_TEST(select_wakes_up)
{
        struct selector s;
        pthread_t thread = start_selector(&s);
        long item = 9;

        ck_assert_int_eq(ctx_chan_try_send(s.chans[1], &item), 0);
        /* It has got one, and takes no other. */
        ck_assert_int_eq(ctx_chan_try_send(s.chans[2], &item), -EAGAIN);
        ck_assert_int_eq(ctx_chan_try_send(s.chans[1], &item), -EAGAIN);
        pthread_join(thread, NULL);
        ck_assert_int_eq(s.index, 1);
        ck_assert_int_eq(s.result, 1);
        ck_assert_int_eq(s.got, 9);
        end_selector(&s);

        thread = start_selector(&s);
        ck_assert_int_eq(ctx_chan_close(s.chans[2]), 0);
        pthread_join(thread, NULL);
        ck_assert_int_eq(s.index, 2);
        ck_assert_int_eq(s.result, 0);
        end_selector(&s);

        thread = start_selector(&s);
        ctx_cancel(s.ctx);
        pthread_join(thread, NULL);
        ck_assert_int_eq(s.index, -ECANCELED);
        end_selector(&s);
}
END_TEST

/* Two selects meet: one sends, the other receives, both at two channels. */
struct world {
        struct ctx_chan *chans[3];
        _Atomic long sum_sent, sum_received, n_sent, n_received;
        _Atomic int senders;
};

#define ITEMS 1500

static void *send_some(void *userdata)
{
        struct world *w = userdata;
        long items[3], got;

        for (long i = 1; i <= ITEMS; i++) {
                CTX_AUTO_UNREF struct ctx *ctx =
                                ctx_with_timeout(ctx_background(), i % 5 ? 10000000 : i % 60);
                struct ctx_chan_case cases[] = {sends(w->chans[0], &items[0]), sends(w->chans[1], &items[1]),
                                sends(w->chans[2], &items[2]), receives(w->chans[i % 3], &got)};
                int r;

                for (int k = 0; k < 3; k++)
                        items[k] = i * 3 + k;
                if (i % 4 == 0)
                        r = ctx_chan_send(ctx, w->chans[0], &items[0]);
                else
                        r = ctx_chan_select(ctx, cases, i % 7 ? 3 : 4);
                if (r == 3) {
                        ck_assert_int_eq(cases[r].result, 1);
                        atomic_fetch_add(&w->n_received, 1);
                        atomic_fetch_add(&w->sum_received, got);
                } else if (r >= 0) {
                        atomic_fetch_add(&w->n_sent, 1);
                        atomic_fetch_add(&w->sum_sent, items[r]);
                } else {
                        ck_assert_int_eq(r, -ETIMEDOUT);
                }
        }
        if (atomic_fetch_sub(&w->senders, 1) == 1)
                for (int k = 0; k < 3; k++)
                        ck_assert_int_eq(ctx_chan_close(w->chans[k]), 0);
        return NULL;
}

static void *recv_some(void *userdata)
{
        struct world *w = userdata;
        struct ctx_chan_case cases[3];
        long got[3], open = 3;

        for (int k = 0; k < 3; k++)
                cases[k] = receives(w->chans[k], &got[k]);
        for (unsigned i = 0; open > 0; i++) {
                CTX_AUTO_UNREF struct ctx *ctx =
                                ctx_with_timeout(ctx_background(), i % 3 ? 10000000 : i % 50);
                int r = i % 5 ? ctx_chan_select(ctx, cases, 3) : ctx_chan_try_select(cases, 3);

                if (r < 0) {
                        ck_assert(r == -ETIMEDOUT || r == -EAGAIN);
                } else if (cases[r].result == 0) {
                        cases[r].chan = NULL;
                        open--;
                } else {
                        ck_assert_int_eq(cases[r].result, 1);
                        atomic_fetch_add(&w->n_received, 1);
                        atomic_fetch_add(&w->sum_received, got[r]);
                }
        }
        return NULL;
}

START_TEST(law_26_a_select_loses_no_item)
{
        static const size_t capacities[][3] = {{0, 0, 0}, {1, 0, 3}, {2, 2, 2}};
        enum { THREADS = 3 };

        for (int k = 0; k < 3; k++) {
                struct world w = {.senders = THREADS};
                pthread_t threads[2 * THREADS];

                for (int i = 0; i < 3; i++)
                        w.chans[i] = new_chan(capacities[k][i]);
                for (int i = 0; i < 2 * THREADS; i++)
                        ck_assert_int_eq(pthread_create(&threads[i], NULL,
                                                         i < THREADS ? send_some : recv_some, &w),
                                        0);
                for (int i = 0; i < 2 * THREADS; i++)
                        pthread_join(threads[i], NULL);
                ck_assert_int_eq(w.n_sent, w.n_received);
                ck_assert_int_eq(w.sum_sent, w.sum_received);
                ck_assert_int_gt(w.n_sent, 0);
                for (int i = 0; i < 3; i++)
                        ctx_chan_unref(w.chans[i]);
        }
}
END_TEST

/* -- The descriptor */

static void *send_and_wait(void *userdata)
{
        long item = 3;

        ck_assert_int_eq(ctx_chan_send(ctx_background(), userdata, &item), 0);
        return NULL;
}

START_TEST(descriptor_says_whether_a_receive_would_wait)
{
        struct ctx_chan *chan = new_chan(2), *none = new_chan(0);
        int fd = ctx_chan_fd(chan);
        pthread_t thread;
        long item = 1;

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(ctx_chan_fd(chan), fd);
        ck_assert_int_eq(ctx_chan_fd(NULL), -EINVAL);
        ck_assert(!is_readable(fd));
        for (int i = 0; i < 2; i++) {
                ck_assert_int_eq(ctx_chan_try_send(chan, &item), 0);
                ck_assert(is_readable(fd));
        }
        ck_assert_int_eq(ctx_chan_recv(ctx_background(), chan, &item), 1);
        ck_assert(is_readable(fd));
        ck_assert_int_eq(ctx_chan_try_recv(chan, &item), 1);
        ck_assert(!is_readable(fd));
        ck_assert_int_eq(ctx_chan_close(chan), 0);
        ck_assert(is_readable(fd));
        ck_assert_int_eq(ctx_chan_try_recv(chan, &item), 0);
        ck_assert(is_readable(fd));
        ctx_chan_unref(chan);

        /* A sender waits. */
        ck_assert_int_eq(pthread_create(&thread, NULL, send_and_wait, none), 0);
        fd = ctx_chan_fd(none);
        ck_assert_happens(is_readable(fd));
        ck_assert_int_eq(ctx_chan_try_recv(none, &item), 1);
        ck_assert_int_eq(item, 3);
        ck_assert(!is_readable(fd));
        pthread_join(thread, NULL);
        ctx_chan_unref(none);
}
END_TEST

START_TEST(descriptor_of_a_select_that_gives_up)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 2000);
        struct ctx_chan *chans[] = {new_chan(0), new_chan(0)};
        long item = 1;
        struct ctx_chan_case cases[] = {sends(chans[0], &item), sends(chans[1], &item)};
        int fd = ctx_chan_fd(chans[1]);

        ck_assert_int_eq(ctx_chan_select(ctx, cases, 2), -ETIMEDOUT);
        ck_assert(!is_readable(fd));
        ctx_chan_unref(chans[0]);
        ctx_chan_unref(chans[1]);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        tries_do_not_wait,
                        items_of_size_0,
                        select_takes_what_is_ready,
                        select_refuses,
                        select_prefers_none,
                        select_does_not_meet_itself,
                        select_wakes_up,
                        law_26_a_select_loses_no_item,
                        descriptor_says_whether_a_receive_would_wait,
                        descriptor_of_a_select_that_gives_up,
                        NULL,
        };

        return run_laws("local contexts: several channels", tests);
}
