/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "tests/lib/shared/daemon.h"

/* The library in a loop of the program's own. Each test is a process of its own, so that none has a thread of
 * the library before it begins. */

#define LONG_MSEC 30000

struct seen {
        unsigned calls;
        pthread_t thread;
        struct ctx_client *client; /* to detach from in the callback, or NULL */
        int detached;
        int nested; /* what ctx_client_process() said in it */
};

static void see(void *userdata)
{
        struct seen *seen = userdata;

        seen->calls++;
        seen->thread = pthread_self();
        if (seen->client) {
                seen->nested = ctx_client_process(seen->client);
                seen->detached = ctx_client_detach_event(seen->client);
        }
}

static int cancel_it(void *userdata)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = ctx_open(client, userdata);

        return ctx && ctx_cancel(ctx) == 1 ? 0 : 1;
}

static void cancel_elsewhere(struct ctx *ctx)
{
        ck_assert_int_eq(wait_child(run_child(cancel_it, (void *) ctx_path(ctx))), 0);
}

static void spin(struct ctx_client *client, const unsigned *calls, unsigned until)
{
        struct pollfd fd = {.fd = ctx_client_get_fd(client), .events = (short) ctx_client_get_events(client)};
        uint64_t usec;

        ck_assert_int_ge(fd.fd, 0);
        ck_assert_int_eq(fd.events, POLLIN);
        while (*calls < until) {
                ck_assert_int_eq(ctx_client_get_timeout(client, &usec), 0);
                ck_assert_uint_eq(usec, UINT64_MAX);
                ck_assert_int_eq(poll(&fd, 1, LONG_MSEC), 1);
                ck_assert_int_ge(ctx_client_process(client), 0);
        }
}

static void settle(struct ctx_client *client)
{
        while (ctx_client_process(client) > 0)
                ;
        ck_assert(!is_readable(ctx_client_get_fd(client)));
}

START_TEST(poll_by_hand)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path()), *local, *own, *timed;
        struct seen shared = {}, below = {}, alone = {}, late = {};
        int fd;

        ck_assert_int_eq(ctx_client_process(client), 0);
        local = ctx_with_cancel(ctx);
        own = ctx_with_cancel(ctx_background());
        timed = ctx_with_timeout(ctx_background(), 20000);
        ctx_after_unref(ctx_after_func(ctx, see, &shared));
        ctx_after_unref(ctx_after_func(local, see, &below));
        ctx_after_unref(ctx_after_func(own, see, &alone));
        ctx_after_unref(ctx_after_func(timed, see, &late));
        fd = ctx_done_fd(local);
        ck_assert_int_ge(fd, 0);
        ck_assert_uint_eq(count_threads(), 1);

        spin(client, &late.calls, 1); /* a deadline makes the descriptor readable */
        settle(client);
        ck_assert_uint_eq(alone.calls + shared.calls + below.calls, 0);
        ck_assert_int_eq(ctx_cancel(own), 1);
        ck_assert_uint_eq(alone.calls, 0); /* not on the stack of the one who cancels */
        ck_assert(is_readable(ctx_client_get_fd(client)));
        ck_assert_int_eq(ctx_client_process(client), 1);
        ck_assert_uint_eq(alone.calls, 1);
        ck_assert_int_eq(ctx_client_process(client), 0);

        cancel_elsewhere(ctx);
        spin(client, &below.calls, 1);
        ck_assert(is_readable(fd));
        ck_assert_int_eq(ctx_err(local), -ECANCELED);
        spin(client, &shared.calls, 1);
        ck_assert(pthread_equal(shared.thread, pthread_self()));
        settle(client);
        ck_assert_uint_eq(count_threads(), 1);
        ck_assert_uint_eq(shared.calls + below.calls + alone.calls + late.calls, 4);
        ctx_unref(timed);
        ctx_unref(own);
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

/* Hang-ups and signals come there too, and callbacks one by one. */
START_TEST(what_comes_from_outside)
{
        struct ctx_client *client = new_client();
        struct ctx *peer, *signals;
        struct seen seen[3] = {};
        int fds[2];

        ck_assert_int_eq(ctx_client_process(client), 0);
        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        peer = ctx_with_hangup(ctx_background(), fds[0]);
        settle(client);
        close(fds[1]);
        ck_assert_int_eq(ctx_client_process(client), 1); /* no callback, but something was done */
        ck_assert_int_eq(ctx_err(peer), -ECANCELED);
        ctx_unref(peer);
        close(fds[0]);

        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        peer = ctx_with_hangup(ctx_background(), fds[0]);
        signals = ctx_with_signals(ctx_background(), (int[]){SIGUSR1}, 1);
        for (int i = 0; i < 3; i++)
                ctx_after_unref(ctx_after_func(i ? peer : signals, see, &seen[i]));
        settle(client);
        close(fds[1]);
        ck_assert_int_eq(raise(SIGUSR1), 0);
        ck_assert_int_eq(ctx_err(peer), 0);
        ck_assert_int_eq(ctx_err(signals), 0);
        ck_assert(is_readable(ctx_client_get_fd(client)));
        ck_assert_int_eq(ctx_client_process(client), 1);
        settle(client);
        ck_assert_int_eq(ctx_err(peer), -ECANCELED);
        ck_assert_int_eq(ctx_err(signals), -ECANCELED);
        for (int i = 0; i < 3; i++) {
                ck_assert_uint_eq(seen[i].calls, 1);
                ck_assert(pthread_equal(seen[i].thread, pthread_self()));
        }
        ck_assert_uint_eq(count_threads(), 1);
        ctx_unref(peer);
        ctx_unref(signals);
        close(fds[0]);
        ctx_client_unref(client);
}
END_TEST

START_TEST(in_an_sd_event_loop)
{
        struct ctx_client *client = new_client(), *other = new_client();
        struct ctx *ctx = make(client, fresh_path()), *local, *next;
        struct seen seen = {}, after = {};
        sd_event *event = NULL;
        int fd;

        ck_assert_int_ge(sd_event_new(&event), 0);
        ck_assert_int_eq(ctx_client_attach_event(client, event, SD_EVENT_PRIORITY_IMPORTANT), 0);
        ck_assert_int_eq(ctx_client_attach_event(client, event, 0), -EBUSY);
        ck_assert_int_eq(ctx_client_attach_event(other, event, 0), -EBUSY);
        ck_assert_int_eq(ctx_client_detach_event(other), 0);
        local = ctx_with_cancel(ctx);
        seen.client = client;
        ctx_after_unref(ctx_after_func(local, see, &seen));
        fd = ctx_done_fd(local);
        ck_assert(!is_readable(fd));

        cancel_elsewhere(ctx);
        while (seen.calls == 0)
                ck_assert_int_gt(sd_event_run(event, LONG_MSEC * UINT64_C(1000)), 0);
        ck_assert(is_readable(fd));
        ck_assert(pthread_equal(seen.thread, pthread_self()));
        ck_assert_int_eq(seen.nested, -EBUSY);
        ck_assert_int_eq(seen.detached, 1);
        ck_assert_int_eq(ctx_client_detach_event(client), 0);

        /* Detached, the loop sees nothing; and it goes on by hand, or attached again to another. */
        next = ctx_with_cancel(ctx_background());
        ctx_after_unref(ctx_after_func(next, see, &after));
        ctx_cancel(next);
        ck_assert_int_eq(sd_event_run(event, 0), 0);
        ck_assert_uint_eq(after.calls, 0);
        ck_assert_ptr_null(sd_event_unref(event));
        event = NULL;
        ck_assert_int_eq(ctx_client_attach_event(other, NULL, 0), 0);
        ck_assert_int_ge(sd_event_default(&event), 0);
        ck_assert_int_gt(sd_event_run(event, LONG_MSEC * UINT64_C(1000)), 0);
        ck_assert_uint_eq(after.calls, 1);
        ck_assert_uint_eq(count_threads(), 1);
        ck_assert_int_eq(ctx_client_detach_event(other), 1);
        ctx_client_unref(other);
        sd_event_unref(event);
        ctx_unref(next);
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

struct locker {
        struct ctx *ctx;
        struct ctx_mutex *mutex;
        int r;
};

static void *lock(void *userdata)
{
        struct locker *locker = userdata;

        locker->r = ctx_mutex_lock(locker->ctx, locker->mutex);
        return NULL;
}

/* What a thread waits for is ended by the loop's processing. */
START_TEST(waits_of_other_threads)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path()), *local;
        struct ctx_mutex mutex = CTX_MUTEX_INIT;
        struct locker locker = {.mutex = &mutex};
        struct seen seen = {};
        pthread_t thread;

        ck_assert_int_ge(ctx_client_get_fd(client), 0);
        local = locker.ctx = ctx_with_cancel(ctx);
        ck_assert_int_eq(ctx_mutex_trylock(&mutex), 0);
        ck_assert_int_eq(pthread_create(&thread, NULL, lock, &locker), 0);
        usleep(50000);
        ctx_after_unref(ctx_after_func(ctx, see, &seen));
        ck_assert_uint_eq(count_threads(), 2);
        cancel_elsewhere(ctx);
        spin(client, &seen.calls, 1);
        settle(client);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        ck_assert_int_eq(locker.r, -ECANCELED);
        ck_assert_int_eq(ctx_mutex_unlock(&mutex), 0);
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

static void nothing(void *userdata) {}

/* A thread that is there stays, and goes on with its work. */
static void too_late(bool callback)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path()), *local = ctx_with_cancel(ctx), *own = NULL;

        if (callback)
                ctx_after_unref(ctx_after_func(ctx_background(), nothing, NULL));
        ck_assert_uint_eq(count_threads(), 1);
        if (callback) {
                own = ctx_with_cancel(ctx_background());
                ctx_after_unref(ctx_after_func(own, nothing, NULL));
        } else {
                ck_assert_int_ge(ctx_done_fd(local), 0);
        }
        /* Callbacks have one more. There may be others once one waits. */
        ck_assert_uint_eq(count_threads(), callback ? 3 : 2);
        if (callback)
                ctx_cancel(own);
        ck_assert_int_eq(ctx_client_get_fd(client), -EBUSY);
        ck_assert_int_eq(ctx_client_get_events(client), -EBUSY);
        ck_assert_int_eq(ctx_client_get_timeout(client, NULL), -EBUSY);
        ck_assert_int_eq(ctx_client_process(client), -EBUSY);
        ck_assert_int_eq(ctx_client_attach_event(client, NULL, 0), -EBUSY);
        ck_assert_int_ge(ctx_done_fd(local), 0);
        cancel_elsewhere(ctx);
        ck_assert_int_eq(poll(&(struct pollfd){.fd = ctx_done_fd(local), .events = POLLIN}, 1, LONG_MSEC), 1);
        ctx_unref(own);
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_client_unref(client);
}

START_TEST(too_late_for_callbacks)
{
        too_late(true);
}
END_TEST

START_TEST(too_late_for_shared_contexts)
{
        too_late(false);
}
END_TEST

static int in_the_child(void *userdata)
{
        struct ctx_client *inherited = userdata, *client;
        struct seen seen = {};
        struct ctx *own;

        if (ctx_client_get_fd(inherited) != -ECHILD || ctx_client_process(inherited) != -ECHILD ||
                        ctx_client_detach_event(inherited) != -ECHILD)
                return 1;
        client = new_client();
        if (ctx_client_process(client) != 0)
                return 2;
        own = ctx_with_cancel(ctx_background());
        ctx_after_unref(ctx_after_func(own, see, &seen));
        ctx_cancel(own);
        return ctx_client_process(client) == 1 && seen.calls == 1 && count_threads() == 1 ? 0 : 3;
}

START_TEST(fork_and_wrong_arguments)
{
        struct ctx_client *client = new_client();
        sd_event *event = NULL;

        ck_assert_int_eq(ctx_client_get_fd(NULL), -EINVAL);
        ck_assert_int_eq(ctx_client_get_events(NULL), -EINVAL);
        ck_assert_int_eq(ctx_client_get_timeout(NULL, NULL), -EINVAL);
        ck_assert_int_eq(ctx_client_process(NULL), -EINVAL);
        ck_assert_int_eq(ctx_client_attach_event(NULL, NULL, 0), -EINVAL);
        ck_assert_int_eq(ctx_client_detach_event(NULL), -EINVAL);
        ck_assert_int_ge(sd_event_new(&event), 0);
        ck_assert_int_eq(ctx_client_attach_event(client, event, 0), 0);
        ck_assert_int_eq(wait_child(run_child(in_the_child, client)), 0);
        ck_assert_int_eq(ctx_client_detach_event(client), 1);
        sd_event_unref(event);
        ctx_client_unref(client);
}
END_TEST

/* A child that holds all descriptors which the parent has at that moment. */
static pid_t holder;
static bool forks_in_join;

static void *fork_holder(void *unused)
{
        holder = fork();
        while (holder == 0)
                pause();
        return NULL;
}

/* In front of the C library's, for the library too. */
__attribute__((visibility("default"))) int pthread_join(pthread_t thread, void **ret)
{
        int (*join)(pthread_t, void **) = (int (*)(pthread_t, void **)) dlsym(RTLD_NEXT, "pthread_join");
        pthread_t other;

        if (forks_in_join && pthread_create(&other, NULL, fork_holder, NULL) == 0)
                join(other, NULL);
        forks_in_join = false;
        return join(thread, ret);
}

/* The library's thread has only looked for the daemon, and ends. */
START_TEST(fork_while_the_loop_takes_over)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path());

        ck_assert_int_ge(ctx_done_fd(ctx), 0);
        ck_assert_uint_eq(count_threads(), 2);
        forks_in_join = true;
        ck_assert_int_ge(ctx_client_get_fd(client), 0);
        ck_assert(!forks_in_join);
        settle(client);
        kill(holder, SIGKILL);
        ck_assert_int_eq(wait_child(holder), 128 + SIGKILL);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

#define N_PEERS 40 /* more than one call of epoll_wait(2) takes */

/* However much happened at once, one edge tells of it, and the next one of what comes after. */
START_TEST(in_an_edge_triggered_set)
{
        struct ctx_client *client = new_client();
        struct epoll_event edge = {.events = EPOLLIN | EPOLLET}, event;
        int set = epoll_create1(EPOLL_CLOEXEC), fds[N_PEERS][2];
        struct ctx *peers[N_PEERS];

        ck_assert_int_eq(epoll_ctl(set, EPOLL_CTL_ADD, ctx_client_get_fd(client), &edge), 0);
        for (int i = 0; i < N_PEERS; i++) {
                ck_assert_int_eq(pipe(fds[i]), 0);
                peers[i] = ctx_with_hangup(ctx_background(), fds[i][0]);
                ck_assert_ptr_nonnull(peers[i]);
        }
        for (int from = 0; from < N_PEERS; from = from ? N_PEERS : N_PEERS - 1) {
                int to = from ? N_PEERS : N_PEERS - 1;

                for (int i = from; i < to; i++)
                        close(fds[i][1]);
                ck_assert_int_eq(epoll_wait(set, &event, 1, LONG_MSEC), 1);
                settle(client);
                for (int i = from; i < to; i++)
                        ck_assert_int_eq(ctx_err(peers[i]), -ECANCELED);
        }
        for (int i = 0; i < N_PEERS; i++) {
                ctx_unref(peers[i]);
                close(fds[i][0]);
        }
        close(set);
        ctx_client_unref(client);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        in_an_edge_triggered_set,
                        poll_by_hand,
                        what_comes_from_outside,
                        in_an_sd_event_loop,
                        waits_of_other_threads,
                        too_late_for_callbacks,
                        too_late_for_shared_contexts,
                        fork_and_wrong_arguments,
                        fork_while_the_loop_takes_over,
                        NULL,
        };

        return run_tests_with_daemon("shared-loop", tests);
}
