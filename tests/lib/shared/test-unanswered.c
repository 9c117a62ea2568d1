/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>

#include "tests/lib/shared/daemon.h"

/* A daemon that is stopped (SIGSTOP) answers nobody, and its connections stay. Who has a time of its own
 * returns by then (law 40); who gives up waits for nothing; and a cancel ends what this process has derived,
 * and reaches the daemon later (law 41). The old limit for all of this was 25 s, so the bounds here are
 * wide. */

#define OWN_USEC UINT64_C(50000)
#define WIDE_USEC UINT64_C(12000000)
#define N_OF(array) (sizeof(array) / sizeof *(array))

static struct ctx_client *client;

/* The test before this one may have failed and left it stopped. */
static void setup(void)
{
        daemon_thaw();
        client = new_client();
}

static void teardown(void)
{
        daemon_thaw();
        ctx_client_unref(client);
}

#define IN_TIME(expression)                                                                       \
        ({                                                                                        \
                uint64_t began_ = boottime_usec();                                                \
                typeof(expression) value_ = (expression);                                         \
                                                                                                  \
                ck_assert_msg(boottime_usec() - began_ < WIDE_USEC, "%s took %u ms", #expression, \
                                (unsigned) ((boottime_usec() - began_) / 1000));                  \
                value_;                                                                           \
        })

/* -- Who has a time of its own (law 40) ------------------------------------------------------------------ */

static int read_one(struct ctx *ctx)
{
        int fds[2], r;
        char byte;

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        r = (int) ctx_read(ctx, fds[0], &byte, 1);
        close(fds[0]);
        close(fds[1]);
        return r;
}

static int lock_mutex(struct ctx *ctx)
{
        struct ctx_mutex held = {1};

        return ctx_mutex_lock(ctx, &held);
}

static int wait_cond(struct ctx *ctx)
{
        struct ctx_mutex mutex = {};
        struct ctx_cond cond = {};

        ck_assert_int_eq(ctx_mutex_trylock(&mutex), 0);
        return ctx_cond_wait(ctx, &cond, &mutex);
}

static int wait_sem(struct ctx *ctx)
{
        struct ctx_sem sem = {};

        return ctx_sem_wait(ctx, &sem);
}

static int receive(struct ctx *ctx)
{
        struct ctx_chan *channel = ctx_chan_new(1, 1);
        char item;
        int r = ctx_chan_recv(ctx, channel, &item);

        ctx_chan_unref(channel);
        return r;
}

static int wait_for_it(struct ctx *ctx)
{
        return ctx_wait(ctx, UINT64_MAX);
}

static int poll_it(struct ctx *ctx)
{
        return ctx_poll(ctx, NULL, 0, UINT64_MAX);
}

static int spawn_a_child(struct ctx *ctx)
{
        char *const argv[] = {"true", NULL};
        struct ctx_task *task = ctx_spawn(ctx, argv, NULL);
        int r = task ? 0 : -errno;

        ctx_task_unref(task);
        return r;
}

static int poll_done_fd(struct ctx *ctx)
{
        struct pollfd pollfd = {.fd = ctx_done_fd(ctx), .events = POLLIN};

        ck_assert_int_ge(pollfd.fd, 0);
        ck_assert_int_eq(poll(&pollfd, 1, 60000), 1);
        return ctx_err(ctx);
}

START_TEST(law_40_a_time_out_holds_while_the_daemon_is_stopped)
{
        int (*const ways[])(struct ctx *) = {read_one, lock_mutex, wait_cond, wait_sem, receive, wait_for_it,
                        poll_it, spawn_a_child, poll_done_fd};
        struct ctx *ctx[N_OF(ways) + 1], *local;
        size_t n = N_OF(ways);

        for (size_t i = 0; i <= n; i++) /* none has its descriptor yet */
                ctx[i] = make(client, fresh_path());
        daemon_freeze();
        ck_assert_int_eq(IN_TIME(ctx_wait(ctx[n], OWN_USEC)), 0);
        ck_assert_int_eq(ctx_err(ctx[n]), 0);
        ck_assert_int_eq(IN_TIME(ctx_sleep(ctx[n], OWN_USEC)), 0);
        ck_assert_int_eq(IN_TIME(ctx_poll(ctx[n], NULL, 0, OWN_USEC)), 0);
        ck_assert_int_eq(IN_TIME(ctx_poll(ctx[n], NULL, 0, 0)), 0);
        for (size_t i = 0; i < n; i++) {
                local = ctx_with_timeout(ctx[i], 2 * OWN_USEC);
                ck_assert_msg(IN_TIME(ways[i](local)) == -ETIMEDOUT, "way %zu", i);
                ck_assert_int_eq(ctx_err(local), -ETIMEDOUT);
                ck_assert_int_eq(ctx_err(ctx[i]), 0);
                ctx_unref(local);
        }

        /* What was asked for meanwhile comes when the daemon goes on. */
        daemon_thaw();
        for (size_t i = 0; i <= n; i++) {
                struct ctx *below = ctx_with_cancel(ctx[i]);

                ck_assert_int_eq(ctx_cancel(ctx[i]), 1);
                ck_assert_int_eq(ctx_wait(below, UINT64_MAX), -ECANCELED);
                ck_assert(becomes_readable(ctx_done_fd(ctx[i])));
                ctx_unref(below);
                ctx_unref(ctx[i]);
        }
}
END_TEST

/* Also what has a deadline that has passed: how it ended is known, and why is asked for a moment. */
START_TEST(law_40_the_cause_of_a_deadline_that_has_passed)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx *ctx, *local;
        const char *message;
        int error;

        options.timeout_usec = 2 * OWN_USEC;
        ctx = ctx_create(client, fresh_path(), &options);
        ck_assert(ctx);
        daemon_freeze();
        local = ctx_with_cancel(ctx);
        ck_assert_int_eq(IN_TIME(ctx_wait(local, UINT64_MAX)), -ETIMEDOUT);
        ck_assert_int_eq(IN_TIME(ctx_cause(local, &error, &message)), 1);
        ck_assert_int_eq(error, ETIMEDOUT);
        ck_assert_str_eq(message, "context deadline exceeded");
        ck_assert_int_eq(IN_TIME(ctx_cause(ctx, &error, NULL)), 1);
        ck_assert_int_eq(error, ETIMEDOUT);
        ctx_unref(local);
        ctx_unref(ctx);
}
END_TEST

/* The byte comes although the daemon cannot be asked for the context's descriptor. */
START_TEST(law_40_what_has_come_is_returned_at_once)
{
        struct ctx *ctx = make(client, fresh_path());
        int fds[2];
        char byte;

        ck_assert_int_eq(pipe(fds), 0);
        daemon_freeze();
        ck_assert_int_eq(write(fds[1], "x", 1), 1);
        ck_assert_int_eq(IN_TIME(ctx_read(ctx, fds[0], &byte, 1)), 1);
        ck_assert_int_eq(write(fds[1], "x", 1), 1);
        ck_assert_int_eq(IN_TIME(ctx_poll(ctx, &(struct pollfd){.fd = fds[0], .events = POLLIN}, 1,
                                         UINT64_MAX)),
                        1);
        ctx_unref(ctx);
        close(fds[0]);
        close(fds[1]);
}
END_TEST

struct waiting {
        struct ctx *ctx;
        int r;
        _Atomic bool ends;
};

static void *wait_in_thread(void *userdata)
{
        struct waiting *w = userdata;

        w->r = ctx_wait(w->ctx, UINT64_MAX);
        w->ends = true;
        return NULL;
}

/* It asks while the daemon is stopped, and nobody else calls anything when it goes on. */
START_TEST(law_40_an_answer_that_comes_late_is_used)
{
        struct ctx_client *other = new_client();
        struct ctx *ctx = make(client, fresh_path()), *local = ctx_with_cancel(ctx);
        struct ctx *same = ctx_open(other, ctx_path(ctx));
        struct waiting w = {.ctx = ctx}, below = {.ctx = local};
        pthread_t thread, thread_below;

        daemon_freeze();
        ck_assert_int_eq(pthread_create(&thread, NULL, wait_in_thread, &w), 0);
        ck_assert_int_eq(pthread_create(&thread_below, NULL, wait_in_thread, &below), 0);
        usleep(300000);
        ck_assert(!w.ends && !below.ends);
        daemon_thaw();
        usleep(300000);
        ck_assert_int_eq(ctx_cancel(same), 1);
        pthread_join(thread, NULL);
        pthread_join(thread_below, NULL);
        ck_assert_int_eq(w.r, -ECANCELED);
        ck_assert_int_eq(below.r, -ECANCELED);
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_unref(same);
        ctx_client_unref(other);
}
END_TEST

static void set_true(void *userdata)
{
        atomic_store((_Atomic bool *) userdata, true);
}

/* A registration waits for nothing, and what it registers for happens once the daemon goes on. */
START_TEST(law_40_a_callback_is_registered_without_the_daemon)
{
        struct ctx_client *other = new_client();
        struct ctx *ctx = make(client, fresh_path()), *local = ctx_with_cancel(ctx);
        struct ctx *same = ctx_open(other, ctx_path(ctx));
        struct ctx_after *after;
        _Atomic bool called = false;
        int fd;

        daemon_freeze();
        after = IN_TIME(ctx_after_func(ctx, set_true, &called));
        ck_assert_ptr_nonnull(after);
        fd = IN_TIME(ctx_done_fd(local));
        ck_assert_int_ge(fd, 0);
        daemon_thaw();
        ck_assert_int_eq(ctx_cancel(same), 1);
        ck_assert_happens(called);
        ck_assert(becomes_readable(fd));
        ctx_after_unref(after);
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_unref(same);
        ctx_client_unref(other);
}
END_TEST

/* -- Who gives up, who forks, and who does something else (law 40) --------------------------------------- */

START_TEST(law_40_unref_does_not_wait)
{
        struct ctx *ctx = make(client, fresh_path()), *other = make(client, fresh_path());
        struct ctx_client *second = new_client();
        struct ctx *third = make(second, fresh_path());
        unsigned n_fds;

        ck_assert_int_ge(ctx_done_fd(ctx), 0);
        ck_assert_int_ge(ctx_done_fd(third), 0);
        n_fds = daemon_settled_fds(&the_daemon, 0);
        daemon_freeze();
        ck_assert_int_eq(ctx_wait(other, OWN_USEC), 0); /* its handle is asked for, and has not come */
        IN_TIME(ctx_unref(ctx));
        IN_TIME(ctx_unref(other));
        IN_TIME(ctx_unref(third));
        IN_TIME(ctx_client_unref(second));
        /* What was given up is given back. */
        daemon_thaw();
        ck_assert_happens(count_fds(the_daemon.pid) <= n_fds - 2);
}
END_TEST

static void *extend(void *userdata)
{
        struct waiting *w = userdata;

        w->r = ctx_extend(w->ctx, boottime_usec() + UINT64_C(3600000000));
        w->ends = true;
        return NULL;
}

static void *look_up_value(void *userdata)
{
        struct waiting *w = userdata;

        w->r = ctx_value_string(w->ctx, "org.example.none") ? 1 : -errno;
        w->ends = true;
        return NULL;
}

static void *make_client(void *userdata)
{
        struct waiting *w = userdata;
        struct ctx_client *another = ctx_client_new(NULL);

        w->r = another ? 0 : -errno;
        ctx_client_unref(another);
        w->ends = true;
        return NULL;
}

static void *give_up_in_thread(void *userdata)
{
        struct waiting *w = userdata;

        ctx_unref(w->ctx);
        w->ends = true;
        return NULL;
}

static void *make_in_thread(void *userdata)
{
        struct waiting *w = userdata;
        struct ctx *ctx = ctx_create(client, "a/", NULL);

        w->r = ctx || errno == EINVAL || errno == ENOENT ? 0 : -errno;
        ctx_unref(ctx);
        w->ends = true;
        return NULL;
}

static int nothing(void *userdata)
{
        return 0;
}

START_TEST(law_40_a_call_that_waits_holds_up_nobody_else)
{
        void *(*const calls[])(void *) = {extend, look_up_value, make_client, give_up_in_thread,
                        make_in_thread, wait_in_thread};
        size_t n = N_OF(calls);
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct waiting w[N_OF(calls)];
        pthread_t threads[N_OF(calls)];
        struct ctx *ctx = make(client, fresh_path()), *local;
        pid_t pid;

        for (size_t i = 0; i < n; i++) {
                options.timeout_usec = UINT64_C(600000000);
                w[i] = (struct waiting){.ctx = ctx_create(client, fresh_path(), &options)};
                ck_assert_ptr_nonnull(w[i].ctx);
        }
        ck_assert_int_ge(ctx_done_fd(w[3].ctx), 0);
        daemon_freeze();
        for (size_t i = 0; i < n; i++)
                ck_assert_int_eq(pthread_create(threads + i, NULL, calls[i], w + i), 0);
        ck_assert_happens(w[3].ends);
        usleep(100000);
        for (size_t i = 0; i < 3; i++)
                ck_assert(!w[i].ends);
        pid = IN_TIME(run_child(nothing, NULL));
        ck_assert_int_eq(wait_child(pid), 0);
        ck_assert_int_eq(IN_TIME(ctx_wait(ctx, OWN_USEC)), 0);
        local = ctx_with_timeout(ctx, OWN_USEC);
        ck_assert_int_eq(IN_TIME(lock_mutex(local)), -ETIMEDOUT);
        ck_assert_ptr_nonnull(IN_TIME(ctx_client_address(client)));
        IN_TIME(ctx_unref(local));
        IN_TIME(ctx_unref(ctx));
        daemon_thaw();
        ck_assert_int_eq(ctx_cancel(w[5].ctx), 1);
        for (size_t i = 0; i < n; i++) {
                ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
                if (i != 3)
                        ctx_unref(w[i].ctx);
        }
        ck_assert_int_eq(w[0].r, 0);
        ck_assert_int_eq(w[1].r, 0);
        ck_assert_int_eq(w[2].r, 0);
        ck_assert_int_eq(w[4].r, 0);
        ck_assert_int_eq(w[5].r, -ECANCELED);
}
END_TEST

/* -- A cancel (law 41) ----------------------------------------------------------------------------------- */

static void has_cause(struct ctx *ctx, int error, const char *text)
{
        const char *message;
        int its_error;

        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        ck_assert_int_eq(ctx_cause(ctx, &its_error, &message), 1);
        ck_assert_int_eq(its_error, error);
        ck_assert_str_eq(message, text);
}

START_TEST(law_41_a_cancel_ends_what_is_here_while_the_daemon_is_stopped)
{
        struct ctx_client *other = new_client();
        struct ctx *ctx = make(client, fresh_path()), *local = ctx_with_cancel(ctx), *later;
        struct ctx *same = ctx_open(client, ctx_path(ctx)), *below_same = ctx_with_cancel(same);
        struct ctx *elsewhere = ctx_open(other, ctx_path(ctx)), *untouched = make(client, fresh_path());

        daemon_freeze();
        ck_assert_int_eq(IN_TIME(ctx_cancel_cause(ctx, EIO, "the disk")), 1);
        has_cause(ctx, EIO, "the disk");
        has_cause(local, EIO, "the disk");
        has_cause(same, EIO, "the disk");
        has_cause(below_same, EIO, "the disk");
        has_cause(elsewhere, EIO, "the disk");
        ck_assert_int_eq(ctx_err(untouched), 0);
        later = ctx_with_cancel(ctx);
        has_cause(later, EIO, "the disk");
        ck_assert(is_readable(ctx_done_fd(ctx)));
        ck_assert(is_readable(ctx_done_fd(local)));
        ck_assert_int_eq(IN_TIME(ctx_cancel(ctx)), 0);
        ck_assert_int_eq(IN_TIME(ctx_cancel(same)), 0);
        ck_assert_int_eq(IN_TIME(ctx_cancel_wait(ctx, OWN_USEC)), -ETIMEDOUT);
        has_cause(ctx, EIO, "the disk");
        ctx_unref(elsewhere);

        daemon_thaw();
        ck_assert_int_eq(ctx_cancel(untouched), 1);
        elsewhere = ctx_open(other, ctx_path(ctx)); /* it was told before this call came */
        has_cause(elsewhere, EIO, "the disk");
        ctx_unref(elsewhere);
        ctx_unref(below_same);
        ctx_unref(same);
        ctx_unref(later);
        ctx_unref(local);
        ctx_unref(untouched);
        ctx_unref(ctx);
        ctx_client_unref(other);
}
END_TEST

static int cancel_and_exit(void *userdata)
{
        struct ctx_client *mine = ctx_client_new(NULL);
        struct ctx *ctx = ctx_open(mine, userdata);
        int r;

        kill(the_daemon.pid, SIGSTOP);
        while (task_state(the_daemon.pid, the_daemon.pid) != 'T')
                nap(1000);
        r = ctx_cancel(ctx);
        ctx_unref(ctx);
        ctx_client_unref(mine);
        return r;
}

/* What a process has sent counts, although the process is not there any more when it is read. */
START_TEST(law_41_a_cancel_outlives_its_process)
{
        struct ctx *ctx = make(client, fresh_path());
        char path[128];

        snprintf(path, sizeof path, "%s", ctx_path(ctx));
        ck_assert_int_eq(wait_child(run_child(cancel_and_exit, path)), 1);
        ck_assert_int_eq(ctx_err(ctx), 0);
        daemon_thaw();
        ck_assert_int_eq(ctx_wait(ctx, WIDE_USEC), -ECANCELED);
        ctx_unref(ctx);
}
END_TEST

/* A daemon that is slow, and not stopped, is waited for. */
static void *thaw_later(void *userdata)
{
        usleep(200000);
        kill(the_daemon.pid, SIGCONT);
        return NULL;
}

START_TEST(law_41_the_daemons_answer_counts_where_it_comes)
{
        struct ctx_client *other = new_client();
        struct ctx *ctx = make(client, fresh_path()), *same = ctx_open(other, ctx_path(ctx));
        pthread_t thread;
        const char *message;

        daemon_freeze();
        ck_assert_int_eq(pthread_create(&thread, NULL, thaw_later, NULL), 0);
        ck_assert_int_eq(ctx_cancel_cause(ctx, 0, "mine"), 1);
        ck_assert_int_eq(ctx_cancel_cause(same, 0, "too late"), 0);
        ck_assert_int_eq(ctx_cause(same, NULL, &message), 1);
        ck_assert_str_eq(message, "mine");
        pthread_join(thread, NULL);
        ctx_unref(same);
        ctx_unref(ctx);
        ctx_client_unref(other);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_40_a_time_out_holds_while_the_daemon_is_stopped,
                        law_40_the_cause_of_a_deadline_that_has_passed,
                        law_40_what_has_come_is_returned_at_once,
                        law_40_an_answer_that_comes_late_is_used,
                        law_40_a_callback_is_registered_without_the_daemon,
                        law_40_unref_does_not_wait,
                        law_40_a_call_that_waits_holds_up_nobody_else,
                        law_41_a_cancel_ends_what_is_here_while_the_daemon_is_stopped,
                        law_41_a_cancel_outlives_its_process,
                        law_41_the_daemons_answer_counts_where_it_comes,
                        NULL,
        };

        return run_tests_with_daemon_and("shared-unanswered", tests, setup, teardown);
}
