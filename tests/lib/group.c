/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/wait.h>

#include "tests/law/local.h"

/* Groups of threads: the join, the limit, the first failure, waits that a context ends, results. */

static pthread_key_t key;
static _Atomic int destroyed;

static void destroy_slowly(void *value)
{
        usleep(20000);
        atomic_fetch_add(&destroyed, 1);
}

static int leave_something(struct ctx *ctx, void *userdata)
{
        pthread_setspecific(key, &key);
        return 0;
}

START_TEST(wait_returns_when_the_threads_have_ended)
{
        struct ctx_group *group = ctx_group_new(ctx_background());

        ck_assert_int_eq(pthread_key_create(&key, destroy_slowly), 0);
        for (int i = 0; i < 3; i++)
                ck_assert_int_eq(ctx_group_go(group, leave_something, NULL), 0);
        ck_assert_int_eq(ctx_group_wait(group), 0);
        ck_assert_int_eq(destroyed, 3);
        ctx_group_unref(group);
        pthread_key_delete(key);
}
END_TEST

static int wait_for_own_group(struct ctx *ctx, void *userdata)
{
        return ctx_group_wait(userdata) == -EDEADLK && ctx_group_wait_for(ctx, userdata) == -EDEADLK ? 7
                                                                                                     : -EIO;
}

START_TEST(wait_from_inside_is_refused)
{
        struct ctx_group *group = ctx_group_new(ctx_background());
        int result = 0;

        ck_assert_int_eq(ctx_group_go_result(group, wait_for_own_group, group, &result), 0);
        ck_assert_int_eq(ctx_group_wait(group), 0);
        ck_assert_int_eq(result, 7);
        ctx_group_unref(group);
}
END_TEST

static _Atomic unsigned running, most;

static int run_a_moment(struct ctx *ctx, void *userdata)
{
        unsigned n = atomic_fetch_add(&running, 1) + 1, seen = atomic_load(&most);

        while (n > seen && !atomic_compare_exchange_weak(&most, &seen, n))
                ;
        usleep(500);
        atomic_fetch_sub(&running, 1);
        return 0;
}

static int run_until_done(struct ctx *ctx, void *userdata)
{
        return ctx_wait(ctx, UINT64_MAX);
}

static _Atomic bool may_end;

static int run_until_told(struct ctx *ctx, void *userdata)
{
        while (!atomic_load(&may_end))
                usleep(500);
        return 0;
}

START_TEST(limit_is_kept)
{
        struct ctx_group *group = ctx_group_new(ctx_background());

        most = 0;
        ck_assert_int_eq(ctx_group_set_limit(group, 3), 0);
        for (int i = 0; i < 200; i++)
                ck_assert_int_eq(ctx_group_go(group, run_a_moment, NULL), 0);
        ck_assert_int_eq(ctx_group_wait(group), 0);
        ck_assert(most > 0 && most <= 3);
        ctx_group_unref(group);
        ck_assert_int_eq(ctx_group_set_limit(NULL, 1), -EINVAL);
}
END_TEST

static void *raise_limit(void *group)
{
        usleep(2000);
        ctx_group_set_limit(group, 2);
        return NULL;
}

static void *fail_later(void *group)
{
        usleep(2000);
        ctx_group_fail(group, EIO, "the disk is gone");
        return NULL;
}

START_TEST(limit_ends_with_the_context)
{
        struct ctx_group *group = ctx_group_new(ctx_background());
        pthread_t thread;

        may_end = false; /* or there would be room once the context is done */
        ck_assert_int_eq(ctx_group_set_limit(group, 1), 0);
        ck_assert_int_eq(ctx_group_try_go(group, run_until_told, NULL), 1);
        ck_assert_int_eq(ctx_group_try_go(group, run_until_told, NULL), 0);
        ck_assert_int_eq(pthread_create(&thread, NULL, raise_limit, group), 0);
        ck_assert_int_eq(ctx_group_go(group, run_until_told, NULL), 0);
        pthread_join(thread, NULL);
        ck_assert_int_eq(ctx_group_try_go(group, run_until_told, NULL), 0);
        ck_assert_int_eq(pthread_create(&thread, NULL, fail_later, group), 0);
        ck_assert_int_eq(ctx_group_go(group, run_until_told, NULL), -ECANCELED);
        pthread_join(thread, NULL);
        atomic_store(&may_end, true);
        ck_assert_int_eq(ctx_group_wait(group), -EIO);
        ctx_group_unref(group);
}
END_TEST

static int fail_with_words(struct ctx *ctx, void *userdata)
{
        char message[] = "no route to Mars";

        ck_assert_int_eq(ctx_group_fail(userdata, EHOSTUNREACH, message), 1);
        ck_assert_int_eq(ctx_group_fail(userdata, EIO, "too late"), 0);
        memset(message, 'x', sizeof(message) - 1);
        return -EIO;
}

static int fail_plainly(struct ctx *ctx, void *userdata)
{
        return *(int *) userdata;
}

static void assert_group_cause(struct ctx_group *group, int expected_error, const char *expected_message)
{
        const char *message = NULL;
        int error = 0;

        ck_assert_int_eq(ctx_group_cause(group, &error, &message), 1);
        ck_assert_int_eq(error, expected_error);
        ck_assert_str_eq(message, expected_message);
        ck_assert_int_eq(ctx_group_cause(group, NULL, NULL), 1);
}

START_TEST(cause_is_that_of_the_first_failure)
{
        CTX_AUTO_UNREF struct ctx *parent = ctx_with_cancel(ctx_background());
        struct ctx_group *group = ctx_group_new(parent);
        int pipe_is_broken = -EPIPE, unknown = -3999;

        ck_assert_int_eq(ctx_group_cause(group, NULL, NULL), 0);
        ck_assert_int_eq(ctx_group_cause(NULL, NULL, NULL), -EINVAL);
        ck_assert_int_eq(ctx_group_fail(group, 0, NULL), -EINVAL);
        ck_assert_int_eq(ctx_group_fail(group, -EIO, NULL), -EINVAL);
        ck_assert_int_eq(ctx_group_go(group, fail_with_words, group), 0);
        ck_assert_int_eq(ctx_group_wait(group), -EHOSTUNREACH);
        assert_group_cause(group, EHOSTUNREACH, "no route to Mars");
        assert_cause(ctx_group_ctx(group), EHOSTUNREACH, "no route to Mars");
        ctx_group_unref(group);

        group = ctx_group_new(parent);
        ck_assert_int_eq(ctx_group_go(group, fail_plainly, &pipe_is_broken), 0);
        ck_assert_int_eq(ctx_group_wait(group), -EPIPE);
        assert_group_cause(group, EPIPE, "Broken pipe");
        assert_cause(ctx_group_ctx(group), EPIPE, "Broken pipe");
        ctx_group_unref(group);

        group = ctx_group_new(parent);
        ck_assert_int_eq(ctx_group_go(group, fail_plainly, &unknown), 0);
        ck_assert_int_eq(ctx_group_wait(group), -3999);
        assert_group_cause(group, 3999, "error 3999");
        ctx_group_unref(group);

        /* What comes from the context has its cause. */
        group = ctx_group_new(parent);
        ck_assert_int_eq(ctx_group_go(group, run_until_done, NULL), 0);
        ck_assert_int_eq(ctx_cancel_cause(parent, EINTR, "the user has had enough"), 1);
        ck_assert_int_eq(ctx_group_wait(group), -ECANCELED);
        assert_group_cause(group, EINTR, "the user has had enough");
        ctx_group_unref(group);
}
END_TEST

START_TEST(wait_that_a_context_ends)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 2000);
        struct ctx_group *group = ctx_group_new(ctx_background());

        ck_assert_int_eq(ctx_group_go(group, run_until_done, NULL), 0);
        for (int i = 0; i < 2; i++)
                ck_assert_int_eq(ctx_group_wait_for(ctx, group), -ETIMEDOUT);
        ck_assert_int_eq(ctx_err(ctx_group_ctx(group)), 0);
        ck_assert_int_eq(ctx_group_fail(group, EIO, NULL), 1);
        ck_assert_int_eq(ctx_group_wait(group), -EIO);
        /* How it has ended can be asked with a context that is done. */
        ck_assert_int_eq(ctx_group_wait_for(ctx, group), -EIO);
        ck_assert_int_eq(ctx_group_wait_for(NULL, group), -EINVAL);
        ctx_group_unref(group);
}
END_TEST

static void destroy_when_told(void *value)
{
        while (!atomic_load(&may_end))
                usleep(500);
        atomic_fetch_add(&destroyed, 1);
}

/* fn has returned, and the thread goes on: a context ends that wait as well. */
START_TEST(wait_for_a_destructor_ends)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(ctx_background(), 5000);
        struct ctx_group *group = ctx_group_new(ctx_background());

        ck_assert_int_eq(pthread_key_create(&key, destroy_when_told), 0);
        destroyed = 0;
        ck_assert_int_eq(ctx_group_go(group, leave_something, NULL), 0);
        ck_assert_int_eq(ctx_group_wait_for(ctx, group), -ETIMEDOUT);
        atomic_store(&may_end, true);
        ck_assert_int_eq(ctx_group_wait(group), 0);
        ck_assert_int_eq(destroyed, 1);
        ctx_group_unref(group);
        pthread_key_delete(key);
}
END_TEST

static void *wait_too(void *group)
{
        ck_assert_int_eq(ctx_group_wait(group), 0);
        ck_assert_int_eq(destroyed, 20);
        return NULL;
}

START_TEST(several_wait)
{
        struct ctx_group *group = ctx_group_new(ctx_background());
        pthread_t threads[3];

        ck_assert_int_eq(pthread_key_create(&key, destroy_slowly), 0);
        destroyed = 0;
        for (int i = 0; i < 20; i++)
                ck_assert_int_eq(ctx_group_go(group, leave_something, NULL), 0);
        for (int i = 0; i < 3; i++)
                ck_assert_int_eq(pthread_create(&threads[i], NULL, wait_too, group), 0);
        wait_too(group);
        for (int i = 0; i < 3; i++)
                pthread_join(threads[i], NULL);
        ctx_group_unref(group);
        pthread_key_delete(key);
}
END_TEST

static int index_of(struct ctx *ctx, void *userdata)
{
        return (int) (intptr_t) userdata;
}

START_TEST(results_are_there_after_the_wait)
{
        struct ctx_group *group = ctx_group_new(ctx_background());
        int results[50];

        memset(results, -1, sizeof(results));
        for (intptr_t i = 0; i < 50; i++)
                ck_assert_int_eq(ctx_group_go_result(group, index_of, (void *) i, &results[i]), 0);
        ck_assert_int_eq(ctx_group_wait(group), 0);
        for (int i = 0; i < 50; i++)
                ck_assert_int_eq(results[i], i);
        ctx_group_unref(group);
}
END_TEST

static int leave_thread(struct ctx *ctx, void *userdata)
{
        if (userdata)
                pthread_cancel(pthread_self());
        pthread_testcancel();
        pthread_exit(NULL);
}

START_TEST(threads_that_do_not_return)
{
        for (int i = 0; i < 2; i++) {
                struct ctx_group *group = ctx_group_new(ctx_background());
                int result = 0;

                ck_assert_int_eq(ctx_group_go_result(group, leave_thread, i ? group : NULL, &result), 0);
                ck_assert_int_eq(ctx_group_wait(group), -ECANCELED);
                ck_assert_int_eq(result, -ECANCELED);
                ctx_group_unref(group);
        }
}
END_TEST

START_TEST(given_up_while_it_runs)
{
        unsigned threads = count_threads();

        for (int i = 0; i < 50; i++) {
                struct ctx_group *group = ctx_group_new(ctx_background());
                int result = 5;

                ck_assert_int_eq(ctx_group_go(group, i % 2 ? run_until_done : run_a_moment, NULL), 0);
                ck_assert_int_eq(ctx_group_go_result(group, run_until_done, NULL, &result), 0);
                ctx_group_unref(group);
                ck_assert_int_eq(result, 5);
        }
        ck_assert_happens(count_threads() <= threads);
}
END_TEST

/* Threads that have ended do not pile up before the wait. */
START_TEST(many_one_after_the_other)
{
        struct ctx_group *group = ctx_group_new(ctx_background());

        ck_assert_int_eq(ctx_group_set_limit(group, 2), 0);
        for (int i = 0; i < 40000; i++)
                ck_assert_int_eq(ctx_group_go(group, index_of, NULL), 0);
        ck_assert_int_eq(ctx_group_wait(group), 0);
        ctx_group_unref(group);
}
END_TEST

START_TEST(child_of_a_fork_has_no_threads)
{
        struct ctx_group *group = ctx_group_new(ctx_background());
        int status;
        pid_t pid;

        ck_assert_int_eq(ctx_group_go(group, run_until_done, NULL), 0);
        ck_assert_int_eq(ctx_group_go(group, index_of, NULL), 0);
        pid = fork();
        if (pid == 0) {
                alarm(60);
                if (ctx_group_wait(group) != -ECHILD || ctx_group_go(group, index_of, NULL) != -ECHILD)
                        _exit(1);
                ctx_group_unref(group);
                group = ctx_group_new(ctx_background());
                if (ctx_group_go(group, index_of, NULL) != 0 || ctx_group_wait(group) != 0)
                        _exit(2);
                ctx_group_unref(group);
                _exit(0);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
        ck_assert_int_eq(ctx_err(ctx_group_ctx(group)), 0);
        ctx_group_fail(group, EIO, NULL);
        ck_assert_int_eq(ctx_group_wait(group), -EIO);
        ctx_group_unref(group);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        wait_returns_when_the_threads_have_ended,
                        wait_from_inside_is_refused,
                        limit_is_kept,
                        limit_ends_with_the_context,
                        cause_is_that_of_the_first_failure,
                        wait_that_a_context_ends,
                        wait_for_a_destructor_ends,
                        several_wait,
                        results_are_there_after_the_wait,
                        threads_that_do_not_return,
                        given_up_while_it_runs,
                        many_one_after_the_other,
                        child_of_a_fork_has_no_threads,
                        NULL,
        };

        return run_laws("groups of threads", tests);
}
