/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <sys/wait.h>

#include "tests/law/local.h"

/* Laws 22 to 25 for local contexts. */

struct record {
        struct ctx *ctx;
        struct ctx_after *after;
        pthread_t thread;
        _Atomic int runs;
        _Atomic bool hold, in;
        int err, stop_wait;
};

static void wait_for(_Atomic int *value, int wanted)
{
        for (int i = 0; i < 120000 && atomic_load(value) != wanted; i++)
                usleep(500);
        ck_assert_int_eq(atomic_load(value), wanted);
}

static void note(void *userdata)
{
        struct record *r = userdata;

        r->thread = pthread_self();
        r->err = r->ctx ? ctx_err(r->ctx) : 0;
        atomic_store(&r->in, true);
        while (atomic_load(&r->hold))
                usleep(100);
        if (r->after)
                r->stop_wait = ctx_after_stop_wait(r->after);
        atomic_fetch_add(&r->runs, 1);
}

/* The helper's descriptors stay. */
static void warm_up(void)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct ctx_after *after = ctx_after_func(ctx, note, &(struct record){});

        ck_assert_int_eq(ctx_after_stop(after), 1);
        ctx_after_unref(after);
}

START_TEST(law_23_once_after_done_on_another_thread)
{
        CTX_AUTO_UNREF struct ctx *top = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(top);
        struct record r = {.ctx = ctx}, at_once = {.ctx = ctx};
        struct ctx_after *after = ctx_after_func(ctx, note, &r), *second;

        usleep(2000);
        ck_assert_int_eq(r.runs, 0);
        ck_assert_int_eq(ctx_cancel(top), 1);
        wait_for(&r.runs, 1);
        ck_assert_int_eq(r.err, -ECANCELED);
        ck_assert(!pthread_equal(r.thread, pthread_self()));
        second = ctx_after_func(ctx, note, &at_once);
        wait_for(&at_once.runs, 1);
        ck_assert(!pthread_equal(at_once.thread, pthread_self()));
        ck_assert_int_eq(r.runs, 1);
        ctx_after_unref(after);
        ctx_after_unref(second);
}
END_TEST

START_TEST(law_23_cancel_does_not_wait)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct record r = {.hold = true};
        struct ctx_after *after = ctx_after_func(ctx, note, &r);

        ck_assert_int_eq(ctx_cancel(ctx), 1); /* would hang */
        while (!atomic_load(&r.in))
                usleep(100);
        ck_assert_int_eq(r.runs, 0);
        atomic_store(&r.hold, false);
        wait_for(&r.runs, 1);
        ctx_after_unref(after);
}
END_TEST

START_TEST(law_23_by_deadline)
{
        CTX_AUTO_UNREF struct ctx *parent = ctx_with_timeout(ctx_background(), 5000);
        struct record r[20] = {};
        struct ctx_after *after[20];

        for (int i = 0; i < 20; i++) {
                CTX_AUTO_UNREF struct ctx *ctx = i % 2 ? ctx_with_cancel(parent)
                                                       : ctx_with_timeout(parent, 1000 * (uint64_t) (20 - i));

                r[i].ctx = ctx;
                after[i] = ctx_after_func(ctx, note, &r[i]);
        }
        for (int i = 0; i < 20; i++) {
                wait_for(&r[i].runs, 1);
                ck_assert_int_eq(r[i].err, -ETIMEDOUT);
                ctx_after_unref(after[i]);
        }
}
END_TEST

/* After all of that the library's threads have nothing to do, and do nothing. */
START_TEST(law_23_then_all_is_quiet)
{
        for (int i = 0; i < 3; i++) {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 1000);
                struct record r = {};
                struct ctx_after *after = ctx_after_func(ctx, note, &r);

                wait_for(&r.runs, 1);
                ctx_after_stop_wait(after);
                ctx_after_unref(after);
                ck_assert_happens(process_sleeps(getpid(), gettid()));
        }
}
END_TEST

/* The program has let go of the context and of the handle. */
START_TEST(law_23_a_registration_keeps_its_context)
{
        struct ctx *top = ctx_with_cancel(ctx_background());
        struct ctx *ctx = ctx_with_cancel(top);
        struct record r = {.ctx = ctx}, never = {};
        struct ctx_after *forgotten;

        ctx_after_unref(ctx_after_func(ctx, note, &r));
        ctx_unref(ctx);
        ck_assert_int_eq(ctx_cancel(top), 1);
        wait_for(&r.runs, 1);
        ctx_unref(top);

        /* A value, not its source alone; and one that was done before. */
        for (int i = 0; i < 2; i++) {
                static const struct ctx_key key = CTX_KEY("key");
                CTX_AUTO_UNREF struct ctx *parent = ctx_with_cancel(ctx_background());
                struct record value = {.ctx = ctx_with_value(parent, &key, parent, NULL)};

                if (i == 1) {
                        ck_assert_int_eq(ctx_cancel(parent), 1);
                        ctx_unref(value.ctx);
                        value.ctx = ctx_with_cancel(parent);
                }
                atomic_store(&r.runs, 0);
                atomic_store(&r.in, false);
                atomic_store(&r.hold, true);
                r.ctx = NULL;
                if (i == 1) { /* keeps the helper busy until the context has been given up */
                        ctx_after_unref(ctx_after_func(parent, note, &r));
                        while (!atomic_load(&r.in))
                                usleep(100);
                }
                ctx_after_unref(ctx_after_func(value.ctx, note, &value));
                ctx_unref(value.ctx);
                ctx_cancel(parent);
                atomic_store(&r.hold, false);
                wait_for(&value.runs, 1);
                ck_assert_int_eq(value.err, -ECANCELED);
                wait_for(&r.runs, i); /* another thread may have run the last one */
        }

        forgotten = ctx_after_func(ctx_background(), note, &never);
        ck_assert_int_eq(ctx_after_stop(forgotten), 1);
        ck_assert_int_eq(ctx_after_stop(forgotten), 0);
        ctx_after_unref(forgotten);
        ck_assert_int_eq(never.runs, 0);
}
END_TEST

START_TEST(law_24_stop_says_whether_it_will_run)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *timed = ctx_with_timeout(ctx, 1000000000);
        struct record r = {}, held = {.hold = true}, queued = {};
        struct ctx_after *after = ctx_after_func(timed, note, &r), *holder, *behind;
        int stopped;

        ck_assert_int_eq(ctx_after_stop(after), 1);
        ck_assert_int_eq(ctx_after_stop(after), 0);
        ck_assert_int_eq(ctx_after_stop_wait(after), 0);
        ctx_after_unref(after);

        holder = ctx_after_func(ctx, note, &held);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        while (!atomic_load(&held.in))
                usleep(100);
        ck_assert_int_eq(ctx_after_stop(holder), 0); /* it has begun */
        behind = ctx_after_func(ctx, note, &queued);
        stopped = ctx_after_stop(behind); /* it may have begun */
        atomic_store(&held.hold, false);
        ck_assert_int_eq(ctx_after_stop_wait(holder), 0);
        ck_assert_int_eq(held.runs, 1);
        ck_assert_int_eq(ctx_after_stop_wait(behind), 0);
        ck_assert_int_eq(queued.runs, !stopped);
        ck_assert_int_eq(r.runs, 0);
        ctx_after_unref(holder);
        ctx_after_unref(behind);
        ck_assert_int_eq(ctx_after_stop(NULL), -EINVAL);
        ck_assert_int_eq(ctx_after_stop_wait(NULL), -EINVAL);
        ck_assert_ptr_null(ctx_after_func(NULL, note, NULL));
        ck_assert_ptr_null(ctx_after_func(ctx, NULL, NULL));
}
END_TEST

START_TEST(law_24_stop_and_wait)
{
        for (int round = 0; round < 300; round++) {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
                struct record r = {};
                struct ctx_after *after = ctx_after_func(ctx, note, &r);
                int stopped;

                ctx_cancel(ctx);
                for (int i = 0; i < round % 50; i++)
                        sched_yield();
                stopped = ctx_after_stop_wait(after);
                /* It runs now or never. */
                ck_assert_int_eq(r.runs, !stopped);
                ctx_after_unref(after);
        }
}
END_TEST

START_TEST(law_24_from_inside)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct record r = {.stop_wait = 1};

        r.after = ctx_after_func(ctx, note, &r);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        wait_for(&r.runs, 1);
        ck_assert_int_eq(r.stop_wait, -EDEADLK);
        ctx_after_unref(r.after);
}
END_TEST

/* Each is in its callback until all are. */
#define AT_ONCE 40

struct meeting {
        _Atomic int in, runs;
};

static void meet(void *userdata)
{
        struct meeting *m = userdata;

        atomic_fetch_add(&m->in, 1);
        while (atomic_load(&m->in) < AT_ONCE)
                usleep(100);
        atomic_fetch_add(&m->runs, 1);
}

START_TEST(law_23_a_long_callback_delays_no_other)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct meeting m = {};
        struct ctx_after *after[AT_ONCE];

        for (int i = 0; i < AT_ONCE; i++)
                after[i] = ctx_after_func(ctx, meet, &m);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        wait_for(&m.runs, AT_ONCE);
        for (int i = 0; i < AT_ONCE; i++) {
                ck_assert_int_eq(ctx_after_stop_wait(after[i]), 0);
                ctx_after_unref(after[i]);
        }
}
END_TEST

static void end_thread(void *userdata)
{
        atomic_fetch_add((_Atomic int *) userdata, 1);
        pthread_exit(NULL);
}

/* Threads that callbacks end are replaced. Those that have nothing to do for long leave, but for one. */
START_TEST(law_23_threads_come_and_go)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *second = ctx_with_cancel(ctx_background());
        struct meeting m = {};
        struct ctx_after *after[AT_ONCE];
        _Atomic int ended = 0;
        unsigned threads = count_threads();

        for (int i = 0; i < 10; i++)
                after[i] = ctx_after_func(ctx, end_thread, &ended);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        wait_for(&ended, 10);
        for (int i = 0; i < 10; i++) {
                ck_assert_int_eq(ctx_after_stop_wait(after[i]), 0);
                ctx_after_unref(after[i]);
        }
        for (int i = 0; i < AT_ONCE; i++)
                after[i] = ctx_after_func(second, meet, &m);
        ck_assert_int_eq(ctx_cancel(second), 1);
        wait_for(&m.runs, AT_ONCE);
        for (int i = 0; i < AT_ONCE; i++)
                ctx_after_unref(after[i]);
        ck_assert_happens(count_threads() == threads);
}
END_TEST

/* Some wait, and those that do not are through all the same. */
START_TEST(law_24_stop_and_wait_for_the_right_one)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct record r[8] = {};
        struct ctx_after *after[8];

        for (int i = 0; i < 8; i++) {
                r[i].hold = i % 2;
                after[i] = ctx_after_func(ctx, note, &r[i]);
        }
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        for (int i = 0; i < 8; i++)
                ck_assert_happens(atomic_load(&r[i].in));
        for (int i = 0; i < 8; i += 2)
                ck_assert_int_eq(ctx_after_stop_wait(after[i]), 0);
        for (int i = 0; i < 8; i++) {
                ck_assert_int_eq(r[i].runs, !(i % 2));
                atomic_store(&r[i].hold, false);
                ck_assert_int_eq(ctx_after_stop_wait(after[i]), 0);
                ck_assert_int_eq(r[i].runs, 1);
                ctx_after_unref(after[i]);
        }
}
END_TEST

/* Waits for its end, and returns its status; 1000: it did not end. */
static int status_of(pid_t pid)
{
        int status = 0;

        if (!HAPPENS(waitpid(pid, &status, WNOHANG) == pid)) {
                kill(pid, SIGKILL);
                waitpid(pid, &status, 0);
                return 1000;
        }
        return status;
}

static void *stop_wait(void *userdata)
{
        return (void *) (intptr_t) ctx_after_stop_wait(userdata);
}

/* The callback ran at the fork, in a thread that the child does not have. */
START_TEST(law_24_stop_and_wait_in_a_forked_child)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *awaited = ctx_with_cancel(ctx);
        struct record r[2] = {{.hold = true}, {.hold = true}};
        struct ctx_after *after[2] = {ctx_after_func(ctx, note, &r[0]), ctx_after_func(awaited, note, &r[1])};
        pthread_t thread;
        void *result;
        pid_t pid;

        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_happens(atomic_load(&r[0].in) && atomic_load(&r[1].in));
        ck_assert_int_eq(pthread_create(&thread, NULL, stop_wait, after[1]), 0);
        usleep(2000); /* it may be asleep by now */
        pid = fork_tied();
        if (pid == 0)
                _exit(ctx_after_stop_wait(after[0]) == 0 && ctx_after_stop_wait(after[1]) == 0 ? 0 : 1);
        ck_assert_int_eq(status_of(pid), 0);
        for (int i = 0; i < 2; i++) {
                atomic_store(&r[i].hold, false);
                ck_assert_int_eq(ctx_after_stop_wait(after[i]), 0);
        }
        ck_assert_int_eq(pthread_join(thread, &result), 0);
        ck_assert_ptr_null(result);
        for (int i = 0; i < 2; i++)
                ctx_after_unref(after[i]);
}
END_TEST

struct forker {
        struct ctx_after *after;
        _Atomic int runs, from_inside, from_outside;
        _Atomic pid_t child;
        pid_t self;
};

/* The child ends here, where no exit handler looks at what the parent's threads have left. */
static void *await_the_callback(void *userdata)
{
        struct forker *f = userdata;

        _exit(ctx_after_stop_wait(f->after) == 0 && HAPPENS(task_state(getpid(), getpid()) == 'Z') ? 0 : 3);
}

/* In the child this callback goes on, and no other runs. */
static void fork_inside(void *userdata)
{
        struct forker *f = userdata;
        pid_t pid = fork_tied();
        pthread_t thread;

        if (pid == 0) {
                if (ctx_after_stop_wait(f->after) != -EDEADLK ||
                                pthread_create(&thread, NULL, await_the_callback, f) != 0)
                        _exit(1);
                usleep(2000);
                return; /* its thread ends, and burns no processor */
        }
        atomic_store(&f->child, pid);
        atomic_fetch_add(&f->runs, 1);
}

static void only_in_the_parent(void *userdata)
{
        struct forker *f = userdata;

        if (getpid() != f->self)
                _exit(2);
        atomic_fetch_add(&f->runs, 1);
}

START_TEST(law_23_a_callback_that_forks)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        struct forker f = {.self = getpid()};
        struct ctx_after *others[3];

        for (int i = 0; i < 3; i++)
                others[i] = ctx_after_func(ctx, only_in_the_parent, &f);
        f.after = ctx_after_func(ctx, fork_inside, &f);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        wait_for(&f.runs, 4);
        ck_assert_int_eq(status_of(f.child), 0);
        for (int i = 0; i < 3; i++)
                ctx_after_unref(others[i]);
        ck_assert_int_eq(ctx_after_stop_wait(f.after), 0);
        ctx_after_unref(f.after);
}
END_TEST

static void *stop(void *userdata)
{
        return (void *) (intptr_t) ctx_after_stop(userdata);
}

/* A deadline that passes while its callback is stopped and its context is given up. */
START_TEST(law_22_a_timer_that_fires_as_all_is_given_up)
{
        for (int round = 0; round < 3000; round++) {
                struct ctx *ctx = ctx_with_timeout(ctx_background(), (uint64_t) (round % 40) * 5);
                struct record r = {};
                struct ctx_after *after = ctx_after_func(ctx, note, &r);
                pthread_t thread;

                if (round % 4 == 0)
                        ck_assert_int_eq(pthread_create(&thread, NULL, stop, after), 0);
                for (int i = 0; i < round % 60; i++)
                        sched_yield();
                if (round % 4 == 0)
                        ctx_unref(ctx);
                ck_assert_int_ge(ctx_after_stop_wait(after), 0);
                if (round % 4 == 0)
                        pthread_join(thread, NULL);
                else
                        ctx_unref(ctx);
                ctx_after_unref(after);
        }
}
END_TEST

START_TEST(law_25_a_wait_after_done)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *never = ctx_without_cancel(ctx);
        uint64_t before;

        ck_assert_int_eq(ctx_wait(ctx, 0), 0);
        before = now_boottime_usec();
        ck_assert_int_eq(ctx_wait(ctx, 2000), 0);
        ck_assert_uint_ge(now_boottime_usec(), before + 2000);
        before = now_boottime_usec();
        ck_assert_int_eq(ctx_wait(never, 2000), 0);
        ck_assert_uint_ge(now_boottime_usec(), before + 2000);
        ck_assert_int_eq(ctx_wait(never, UINT64_MAX), -EDEADLK);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_int_eq(ctx_wait(ctx, UINT64_MAX), -ECANCELED);
        ck_assert_int_eq(ctx_wait(ctx, 0), -ECANCELED);
}
END_TEST

static void *wait_long(void *userdata)
{
        return (void *) (intptr_t) ctx_wait(userdata, UINT64_MAX);
}

START_TEST(law_25_no_wait_is_missed)
{
        for (int round = 0; round < 300; round++) {
                CTX_AUTO_UNREF struct ctx *top = ctx_with_cancel(ctx_background());
                CTX_AUTO_UNREF struct ctx *middle = ctx_with_cancel(top);
                CTX_AUTO_UNREF struct ctx *ctx =
                                round % 2 ? ctx_with_timeout(middle, 1000000000) : ctx_with_cancel(middle);
                pthread_t threads[2];
                void *result;

                for (int i = 0; i < 2; i++)
                        ck_assert_int_eq(pthread_create(&threads[i], NULL, wait_long, ctx), 0);
                for (int i = 0; i < round % 40; i++)
                        sched_yield();
                /* Children come and go meanwhile, which changes the word that is waited on. */
                ctx_unref(ctx_with_cancel(ctx));
                ctx_cancel(top);
                for (int i = 0; i < 2; i++) {
                        pthread_join(threads[i], &result);
                        ck_assert_int_eq((int) (intptr_t) result, -ECANCELED);
                }
        }
}
END_TEST

START_TEST(law_22_storm)
{
        /* In tests/lib/storm.c, with more threads; here one of each. */
        for (int round = 0; round < 100; round++) {
                struct ctx *top = ctx_with_timeout(ctx_background(), 300);
                struct ctx *ctx = ctx_with_cancel(top);
                struct record r = {};
                struct ctx_after *after = ctx_after_func(ctx, note, &r);
                pthread_t thread;

                ck_assert_int_eq(pthread_create(&thread, NULL, wait_long, ctx), 0);
                if (round % 2)
                        ctx_cancel(ctx);
                pthread_join(thread, NULL);
                ctx_unref(top);
                ctx_unref(ctx);
                wait_for(&r.runs, 1);
                ctx_after_unref(after);
        }
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_22_storm,
                        law_23_once_after_done_on_another_thread,
                        law_23_cancel_does_not_wait,
                        law_23_by_deadline,
                        law_23_then_all_is_quiet,
                        law_23_a_registration_keeps_its_context,
                        law_24_stop_says_whether_it_will_run,
                        law_24_stop_and_wait,
                        law_24_from_inside,
                        law_22_a_timer_that_fires_as_all_is_given_up,
                        law_23_a_long_callback_delays_no_other,
                        law_23_threads_come_and_go,
                        law_23_a_callback_that_forks,
                        law_24_stop_and_wait_for_the_right_one,
                        law_24_stop_and_wait_in_a_forked_child,
                        law_25_a_wait_after_done,
                        law_25_no_wait_is_missed,
                        NULL,
        };

        warm = warm_up;
        return run_laws("local contexts: callbacks and waits", tests);
}
