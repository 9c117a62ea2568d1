/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <linux/futex.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/local/after.h"
#include "lib/local/callback-thread.h"
#include "lib/local/ctx.h"
#include "tests/law/local.h"
#include "tests/lib/calls/syscall.h"

/* Law 42: ctx_err() and ctx_cancel() in a signal handler that has interrupted the library at its worst
 * moments. The moments are made by hand: the thread holds a lock of the library, or is in a walk, and raises
 * the signal. */

static struct ctx *look_at, *to_cancel[200];
static int n_to_cancel, seen, results[200];

static void handler(int signal)
{
        if (look_at)
                seen = ctx_err(look_at);
        for (int i = 0; i < n_to_cancel; i++) {
                results[i] = i % 2 ? ctx_cancel_cause(to_cancel[i], EPIPE, NULL) : ctx_cancel(to_cancel[i]);
                if (ctx_err(to_cancel[i]) != -ECANCELED || ctx_cancel(to_cancel[i]) != 0)
                        results[i] = -EBADE;
        }
}

static void interrupt(void)
{
        signal(SIGUSR1, handler);
        raise(SIGUSR1);
}

static void *finish_lock(void *nest)
{
        nest_lock(nest);
        nest_unlock(nest, 0);
        return NULL;
}

START_TEST(a_deadline_that_is_first_seen_there)
{
        CTX_AUTO_UNREF struct ctx *parent = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_timeout(parent, 1000);
        CTX_AUTO_UNREF struct ctx *child = ctx_with_cancel(ctx);
        uint32_t word;

        usleep(2000);
        look_at = ctx;
        n_to_cancel = 0;
        word = nest_lock(&ctx->nest);
        interrupt();
        nest_unlock(&ctx->nest, word);
        ck_assert_int_eq(seen, -ETIMEDOUT);
        ck_assert_int_eq(ctx_cancel(ctx), 0);
        ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
        ck_assert_int_eq(ctx_err(child), -ETIMEDOUT);
}
END_TEST

/* What is below is done as soon as the thread has left the lock. */
static void check_after(struct ctx *ctx, struct ctx *child, int fd)
{
        ck_assert_int_eq(results[0], 1);
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        ck_assert_int_eq(ctx_err(child), -ECANCELED);
        ck_assert(is_readable(fd));
        ck_assert_int_eq(ctx_cancel(ctx), 0);
}

START_TEST(a_cancel_under_a_lock)
{
        enum {
                ITS_OWN,
                THE_PARENTS,
                ANOTHER,
                BELOW,
                OF_CALLBACKS,
                OF_TIMERS,
                OF_A_CHANNEL,
                IN_A_WALK,
                WHERE
        };
        static const enum lock_rank ranks[] = {
                        [OF_CALLBACKS] = LOCK_CALLBACKS,
                        [OF_TIMERS] = LOCK_TIMERS,
                        [OF_A_CHANNEL] = LOCK_CHANNEL,
        };

        for (int where = ITS_OWN; where < WHERE; where++) {
                CTX_AUTO_UNREF struct ctx *parent = ctx_with_cancel(ctx_background());
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(parent);
                CTX_AUTO_UNREF struct ctx *child = ctx_with_cancel(ctx);
                bool is_lock = where >= OF_CALLBACKS && where <= OF_A_CHANNEL;
                struct lock lock = LOCK_INIT(is_lock ? ranks[where] : 0);
                struct nest other = {}, *nests[] = {&ctx->nest, &parent->nest, &other, &parent->nest};
                uint32_t word = 0, below = 0;
                int fd = ctx_done_fd(child);

                look_at = NULL;
                to_cancel[0] = ctx;
                n_to_cancel = 1;
                if (is_lock)
                        lock_acquire(&lock);
                else if (where == IN_A_WALK)
                        nest_deeper();
                else
                        word = nest_lock(nests[where]);
                if (where == BELOW)
                        below = nest_lock_at(&ctx->nest, LOCK_NEST_BELOW);
                interrupt();
                if (where == BELOW)
                        nest_unlock_at(&ctx->nest, below, LOCK_NEST_BELOW);
                if (is_lock)
                        lock_release(&lock);
                else if (where == IN_A_WALK)
                        nest_less_deep();
                else
                        nest_unlock(nests[where], word);
                check_after(ctx, child, fd);
                ck_assert_int_eq(ctx_err(parent), 0);
        }
}
END_TEST

/* While the interrupted thread waits for a lock that another one holds. */
START_TEST(a_cancel_while_it_waits_for_a_lock)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        CTX_AUTO_UNREF struct ctx *child = ctx_with_cancel(ctx);
        struct nest nest = {};
        uint32_t word = nest_lock(&nest);
        pthread_t thread;

        look_at = NULL;
        to_cancel[0] = ctx;
        n_to_cancel = 1;
        results[0] = -EAGAIN;
        signal(SIGUSR1, handler);
        ck_assert_int_eq(pthread_create(&thread, NULL, finish_lock, &nest), 0);
        while (atomic_load((_Atomic int *) &results[0]) == -EAGAIN) {
                pthread_kill(thread, SIGUSR1);
                usleep(1000);
        }
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        nest_unlock(&nest, word);
        pthread_join(thread, NULL);
        ck_assert_int_eq(ctx_err(child), -ECANCELED);
}
END_TEST

START_TEST(many_cancels_in_one_handler)
{
        struct ctx *parent = ctx_with_cancel(ctx_background()), *children[200];
        uint32_t word;

        look_at = NULL;
        n_to_cancel = 200;
        for (int i = 0; i < 200; i++) {
                to_cancel[i] = ctx_with_cancel(parent);
                children[i] = ctx_with_cancel(to_cancel[i]);
        }
        word = nest_lock(&parent->nest);
        interrupt();
        nest_unlock(&parent->nest, word);
        for (int i = 0; i < 200; i++) {
                ck_assert_int_eq(results[i], 1);
                assert_cause(children[i], i % 2 ? EPIPE : ECANCELED, "context canceled");
                ctx_unref(to_cancel[i]);
                ctx_unref(children[i]);
        }
        ck_assert_int_eq(ctx_cancel(parent), 1);
        ctx_unref(parent);
}
END_TEST

/* -- Signals that keep coming: the next one when the thread wakes whoever waits for what the last one has
 * cancelled. */

#define MANY 100000

static struct ctx *many[MANY], *below[MANY];
static int n_many, n_cancelled, n_by_this_thread;
static pid_t this_thread;

static void cancel_next(int signal)
{
        if (n_cancelled < n_many && ctx_cancel(many[n_cancelled]) == 1)
                n_cancelled++;
}

static bool is_refused(long number, const long a[6])
{
        if (number == SYS_futex && (a[1] & FUTEX_CMD_MASK) == FUTEX_WAKE && n_many > 0 &&
                        gettid() == this_thread) {
                n_by_this_thread++;
                raise(SIGUSR1);
        }
        return false;
}

/* at_once: nobody but this thread does anything. */
static void cancel_many(int n, bool at_once)
{
        this_thread = gettid();
        signal(SIGUSR1, cancel_next);
        for (int i = 0; i < n; i++) {
                many[i] = ctx_with_cancel(ctx_background());
                below[i] = ctx_with_cancel(many[i]);
                ck_assert_uint_ne(ctx_announce_wait(below[i]), 0);
        }
        n_by_this_thread = 0;
        n_cancelled = 1;
        n_many = n;
        ck_assert_int_eq(ctx_cancel(many[0]), 1);
        for (int i = 0; i < n_cancelled; i++)
                if (at_once)
                        ck_assert_int_eq(ctx_err(below[i]), -ECANCELED);
                else
                        ck_assert_happens(ctx_err(below[i]) == -ECANCELED);
        n_many = 0;
        for (int i = 0; i < n; i++) {
                ctx_unref(below[i]);
                ctx_unref(many[i]);
        }
}

/* No thread of the library's is there, so the call does all, and needs no more of the stack for that. */
static void *cancel_in_thread(void *unused)
{
        cancel_many(MANY, true);
        ck_assert_int_eq(n_cancelled, MANY);
        return NULL;
}

START_TEST(signals_that_keep_coming)
{
        pthread_attr_t attr;
        pthread_t thread;

        pthread_attr_init(&attr);
        ck_assert_int_eq(pthread_attr_setstacksize(&attr, 256 << 10), 0);
        ck_assert_int_eq(pthread_create(&thread, &attr, cancel_in_thread, NULL), 0);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        pthread_attr_destroy(&attr);
}
END_TEST

/* In a process of its own, which ends with the thread. */
START_TEST(signals_that_keep_coming_and_a_thread)
{
        pid_t pid = fork();
        int status;

        if (pid == 0) {
                ck_assert_int_eq(service_thread_start(), 0);
                cancel_many(5000, false);
                _exit(n_cancelled > 10 && n_by_this_thread < 1000 ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
}
END_TEST

/* A loop of the program's own serves only when the program comes to it. */
START_TEST(law_05_signals_that_keep_coming_and_a_loop)
{
        pid_t pid = fork();
        int status;

        if (pid == 0) {
                ck_assert_int_ge(callback_thread_take_over(eventfd(0, EFD_CLOEXEC)), 0);
                cancel_many(5000, true);
                _exit(0);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
}
END_TEST

/* More is put off than the call does itself, and another thread forks before the rest is in other hands. */

#define PUT_OFF 200

static _Atomic bool may_fork, has_forked;

static void wait_for_fork(void *unused)
{
        atomic_store(&may_fork, true);
        for (int i = 0; i < 2000 && !atomic_load(&has_forked); i++)
                usleep(1000);
}

/* All the others once the call does what was put off of that one. */
static void cancel_one_and_then_all(int signal)
{
        int n = ctx_is_done(below[1]) ? n_many : 2;

        while (n_cancelled < n)
                if (ctx_cancel(many[n_cancelled++]) != 1)
                        abort();
}

static void *cancel_first(void *unused)
{
        this_thread = gettid();
        ck_assert_int_eq(ctx_cancel(many[0]), 1);
        return NULL;
}

/* What had its deadline before the cancel was overdue by then. */
static bool are_done(void)
{
        for (int i = 0; i < PUT_OFF; i++)
                if (ctx_err(below[i]) != (i % 2 ? -ECANCELED : -ETIMEDOUT))
                        return false;
        return true;
}

static void cancel_beside_a_fork(void)
{
        struct ctx_after *after;
        pthread_t thread;
        int status;
        pid_t pid;

        ck_assert_int_eq(service_thread_start(), 0);
        signal(SIGUSR1, cancel_one_and_then_all);
        for (int i = 0; i < PUT_OFF; i++) {
                many[i] = ctx_with_cancel(ctx_background());
                below[i] = i % 2 ? ctx_with_cancel(many[i]) : ctx_with_timeout(many[i], 300000);
                ck_assert_uint_ne(ctx_announce_wait(below[i]), 0);
        }
        after = after_new(many[PUT_OFF - 1], wait_for_fork, NULL, true);
        ck_assert_ptr_nonnull(after);
        usleep(400000);
        n_cancelled = 1;
        n_many = PUT_OFF;
        ck_assert_int_eq(pthread_create(&thread, NULL, cancel_first, NULL), 0);
        ck_assert_happens(atomic_load(&may_fork));
        pid = fork();
        if (pid == 0)
                _exit(are_done() ? 0 : 1);
        atomic_store(&has_forked, true);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
        pthread_join(thread, NULL);
        ck_assert_happens(are_done());
}

START_TEST(law_05_a_fork_beside_a_thread_that_leaves_much)
{
        pid_t pid = fork();
        int status;

        if (pid == 0) {
                cancel_beside_a_fork();
                _exit(0);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
}
END_TEST

static int destroyed;

static void destroy(void *value)
{
        destroyed++;
}

/* The thread may be inside malloc(): so no memory is freed in a cancel, and no destructor of the program
 * runs. */
START_TEST(a_cancel_frees_nothing)
{
        static const struct ctx_key key = CTX_KEY("key");
        struct ctx *value = ctx_with_value(ctx_background(), &key, &destroyed, destroy);
        struct ctx *parent = ctx_with_cancel(value), *ctx = ctx_with_cancel(parent), *kept = NULL;

        ctx_unref(value);
        ctx_unref(parent);
        kept = ctx_with_cancel(ctx);
        look_at = NULL;
        to_cancel[0] = ctx;
        n_to_cancel = 1;
        interrupt();
        ck_assert_int_eq(results[0], 1);
        ck_assert_int_eq(destroyed, 0);
        ctx_unref(kept);
        ctx_unref(ctx);
        ck_assert_int_eq(destroyed, 1);
}
END_TEST

int main(void)
{
        const TTest *tests[] = {
                        a_deadline_that_is_first_seen_there,
                        a_cancel_under_a_lock,
                        a_cancel_while_it_waits_for_a_lock,
                        many_cancels_in_one_handler,
                        a_cancel_frees_nothing,
                        signals_that_keep_coming,
                        signals_that_keep_coming_and_a_thread,
                        law_05_signals_that_keep_coming_and_a_loop,
                        law_05_a_fork_beside_a_thread_that_leaves_much,
                        NULL,
        };

        return run_laws("signal handlers", tests);
}
