/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#include "tests/lib/shared/daemon.h"

/* Law 42: pthread_cancel(3) of a thread in any call about a shared context leaves the library whole: its
 * locks, the requests on their way, who reads the answers, connections and descriptors. */

#define LONG_USEC UINT64_C(60000000)

static struct ctx_client *client;

static void setup(void)
{
        ck_assert_int_eq(kill(the_daemon.pid, SIGCONT), 0);
        client = new_client();
}

static void teardown(void)
{
        kill(the_daemon.pid, SIGCONT);
        ctx_client_unref(client);
}

/* What each call works on. The thread may be cancelled between two of them, and never has something that
 * nobody else knows. */
struct target {
        struct ctx *ctx, *local;
        struct ctx *made;
        struct ctx_client *mine;
        int fd;
        _Atomic bool runs;
};

static void look_up_value(struct target *t)
{
        (void) ctx_value_string(t->ctx, "org.example.none");
}

static void extend(struct target *t)
{
        (void) ctx_extend(t->ctx, boottime_usec() + UINT64_C(3600000000));
}

static void make_one(struct target *t)
{
        t->made = ctx_create(client, "made/", NULL);
}

static void open_one(struct target *t)
{
        t->made = ctx_open(client, ctx_path(t->ctx));
}

static void make_client(struct target *t)
{
        t->mine = ctx_client_new(NULL);
}

static void give_up_client(struct target *t)
{
        struct ctx_client *mine = ctx_client_new(NULL);

        ctx_client_unref(mine);
}

static void ask_backend(struct target *t)
{
        (void) ctx_client_backend(client);
}

static void cancel(struct target *t)
{
        (void) ctx_cancel(t->ctx);
}

static void cancel_wait(struct target *t)
{
        (void) !ctx_cancel_wait(t->ctx, LONG_USEC);
}

static void release(struct target *t)
{
        (void) ctx_release(t->ctx);
}

static void drained(struct target *t)
{
        (void) ctx_drained_fd(t->ctx);
}

static void lifeline(struct target *t)
{
        t->fd = ctx_lifeline_fd(t->ctx);
}

static void done_fd(struct target *t)
{
        (void) ctx_done_fd(t->ctx);
}

static void wait_for_it(struct target *t)
{
        (void) ctx_wait(t->local, 2000);
}

static void poll_it(struct target *t)
{
        (void) ctx_poll(t->local, NULL, 0, 2000);
}

static void enter(struct target *t)
{
        CTX_SCOPE(t->local);
}

static void who(struct target *t)
{
        (void) ctx_cancel(t->ctx);
        (void) ctx_canceled_by(t->ctx, NULL, NULL, NULL);
        (void) ctx_cause(t->ctx, NULL, NULL);
}

static void unref(struct target *t)
{
        struct ctx *ctx = t->ctx;

        t->ctx = NULL;
        ctx_unref(ctx);
}

static void from_env(struct target *t)
{
        t->made = ctx_from_env();
}

static const struct call {
        const char *name;
        void (*fn)(struct target *t);
} calls[] = {{"value", look_up_value}, {"extend", extend}, {"create", make_one}, {"open", open_one},
                {"client_new", make_client}, {"client_unref", give_up_client}, {"backend", ask_backend},
                {"cancel", cancel}, {"cancel_wait", cancel_wait}, {"release", release}, {"drained", drained},
                {"lifeline", lifeline}, {"done_fd", done_fd}, {"wait", wait_for_it}, {"poll", poll_it},
                {"enter", enter}, {"who", who}, {"unref", unref}, {"from_env", from_env}};

#define CALLS (sizeof calls / sizeof *calls)

struct start {
        const struct call *call;
        struct target *t;
};

static void *run_call(void *userdata)
{
        const struct start *start = userdata;

        start->t->runs = true;
        start->call->fn(start->t);
        pthread_testcancel();
        return NULL;
}

static void target_begin(struct target *t)
{
        *t = (struct target){.ctx = make(client, fresh_path()), .fd = -1};
        t->local = ctx_with_cancel(t->ctx);
        ck_assert_ptr_nonnull(t->local);
}

static void target_end(struct target *t)
{
        ctx_unref(t->local);
        if (t->ctx)
                (void) ctx_cancel(t->ctx);
        ctx_unref(t->ctx);
        if (t->made && ctx_path(t->made))
                (void) ctx_release(t->made);
        ctx_unref(t->made);
        ctx_client_unref(t->mine);
        if (t->fd >= 0)
                close(t->fd);
}

/* Everything that needs the connection works. */
static void is_whole(const char *name)
{
        struct ctx *ctx = make(client, fresh_path()), *local = ctx_with_cancel(ctx);
        uint64_t began = boottime_usec();

        ck_assert_ptr_null(ctx_value_string(ctx, "org.example.none"));
        ck_assert_msg(errno == 0, "%s: %s", name, strerror(errno));
        ck_assert_int_ge(ctx_done_fd(local), 0);
        ck_assert_int_eq(ctx_wait(local, 1000), 0);
        ck_assert_int_eq(ctx_cancel_wait(ctx, LONG_USEC), 1);
        ck_assert_int_eq(ctx_err(local), -ECANCELED);
        ck_assert_int_eq(ctx_release(ctx), 0);
        ck_assert_msg(boottime_usec() - began < UINT64_C(15000000), "after %s it took %u ms", name,
                        (unsigned) ((boottime_usec() - began) / 1000));
        ctx_unref(local);
        ctx_unref(ctx);
}

/* The daemon is stopped, so that the thread stands in the middle of the call. */
START_TEST(law_42_a_thread_that_waits_for_the_daemon)
{
        for (size_t i = 0; i < CALLS; i++) {
                struct target t;
                struct start start = {&calls[i], &t};
                pthread_t thread;

                target_begin(&t);
                ck_assert_int_eq(kill(the_daemon.pid, SIGSTOP), 0);
                ck_assert_happens(task_state(the_daemon.pid, the_daemon.pid) == 'T');
                ck_assert_int_eq(pthread_create(&thread, NULL, run_call, &start), 0);
                ck_assert_happens(t.runs);
                usleep(20000);
                ck_assert_int_eq(pthread_cancel(thread), 0);
                usleep(5000);
                ck_assert_int_eq(kill(the_daemon.pid, SIGCONT), 0);
                ck_assert_int_eq(pthread_join(thread, NULL), 0);
                target_end(&t);
                is_whole(calls[i].name);
        }
}
END_TEST

/* At any time. Nothing is left over. */
START_TEST(law_42_a_thread_in_any_call)
{
        unsigned seed = 1, rounds = 40, before = 0, after;

        for (unsigned round = 0; round < rounds; round++) {
                for (size_t i = 0; i < CALLS; i++) {
                        struct target t;
                        struct start start = {&calls[i], &t};
                        pthread_t thread;

                        target_begin(&t);
                        ck_assert_int_eq(pthread_create(&thread, NULL, run_call, &start), 0);
                        while (!t.runs)
                                sched_yield();
                        for (int n = rand_r(&seed) % 4000; n > 0; n--)
                                atomic_signal_fence(memory_order_seq_cst);
                        if (rand_r(&seed) % 2)
                                usleep((unsigned) rand_r(&seed) % 300);
                        pthread_cancel(thread);
                        ck_assert_int_eq(pthread_join(thread, NULL), 0);
                        target_end(&t);
                        if (round % 10 == 0)
                                is_whole(calls[i].name);
                }
                if (round == 4)
                        before = count_fds(getpid());
        }
        after = count_fds(getpid());
        ck_assert_msg(after <= before + 10, "%u descriptors, then %u", before, after);
        is_whole("all of them");
}
END_TEST

/* A callback runs on a thread of the library's own, which is needed for others. */
static void cancel_its_thread(void *userdata)
{
        pthread_cancel(pthread_self());
        pthread_testcancel();
        *(_Atomic bool *) userdata = true;
}

START_TEST(law_42_a_thread_of_the_library)
{
        _Atomic bool called[3] = {};

        for (size_t i = 0; i < 3; i++) {
                struct ctx *ctx = make(client, fresh_path());
                struct ctx_after *after = ctx_after_func(ctx, cancel_its_thread, &called[i]);

                ck_assert_int_eq(ctx_cancel(ctx), 1);
                ck_assert_happens(called[i]);
                ctx_after_unref(after);
                ctx_unref(ctx);
        }
        is_whole("a callback");
}
END_TEST

/* What the thread does at its end. Both calls work there, also without an answer. */
struct ending {
        struct ctx *ctx, *below, *other;
        int before, other_r, r, after;
};

static void end_it(void *userdata)
{
        struct ending *e = userdata;

        e->r = ctx_cancel(e->ctx);
        e->after = ctx_err(e->below);
}

static void *cancel_and_end(void *userdata)
{
        struct ending *e = userdata;

        pthread_cleanup_push(end_it, e);
        pthread_cancel(pthread_self());
        e->before = ctx_err(e->below);
        e->other_r = ctx_cancel(e->other); /* no cancellation point */
        pthread_testcancel();
        pthread_cleanup_pop(0);
        return NULL;
}

START_TEST(law_42_err_and_cancel_in_a_thread_that_is_being_cancelled)
{
        for (int i = 0; i < 12; i++) {
                struct ending e = {.ctx = make(client, fresh_path()), .other = make(client, fresh_path())};
                pthread_t thread;
                void *value;

                e.below = ctx_with_cancel(e.ctx);
                if (i >= 10)
                        daemon_freeze();
                ck_assert_int_eq(pthread_create(&thread, NULL, cancel_and_end, &e), 0);
                ck_assert_int_eq(pthread_join(thread, &value), 0);
                ck_assert_ptr_eq(value, PTHREAD_CANCELED);
                daemon_thaw();
                ck_assert_int_eq(e.before, 0);
                ck_assert_int_eq(e.other_r, 1);
                ck_assert_int_eq(e.r, 1);
                ck_assert_int_eq(e.after, -ECANCELED);
                ck_assert_int_eq(ctx_err(e.other), -ECANCELED);
                ctx_unref(e.below);
                ctx_unref(e.ctx);
                ctx_unref(e.other);
        }
        is_whole("a cancel");
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_42_a_thread_that_waits_for_the_daemon,
                        law_42_a_thread_in_any_call,
                        law_42_a_thread_of_the_library,
                        law_42_err_and_cancel_in_a_thread_that_is_being_cancelled,
                        NULL,
        };

        return run_tests_with_daemon_and("shared-thread-cancel", tests, setup, teardown);
}
