/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "tests/lib/shared/daemon.h"
#include "tests/lib/shared/keeping-daemon.h"

/* A new daemon is slow to say whether it knows the contexts of the one before it, or never says so. Nobody
 * has to wait for that who waits for something else, and it is not asked ever more (law 40). */

#define MANY 200

static struct kept kept;
static struct ctx_client *client;
static struct ctx *ctxs[MANY];
static pid_t daemon_pid;

static void open_contexts(size_t n)
{
        kept_init(&kept);
        kept.state->no_page = true; /* else nobody has to ask */
        daemon_pid = keeping_daemon_start(&kept, 1, true);
        client = ctx_client_new(kept.address);
        ck_assert_msg(client, "%s", ctx_client_error(NULL));
        for (size_t i = 0; i < n; i++) {
                ctxs[i] = ctx_create(client, "kept", NULL);
                ck_assert_msg(ctxs[i], "%s", ctx_client_error(client));
        }
}

/* How often that one is called is counted from its beginning. */
static void another_daemon(void)
{
        keeping_daemon_kill(daemon_pid);
        kept.state->n_calls = 0;
        daemon_pid = keeping_daemon_start(&kept, 2, false);
}

static void close_contexts(size_t n)
{
        for (size_t i = 0; i < n; i++)
                ctx_unref(ctxs[i]);
        ctx_client_unref(client);
        keeping_daemon_kill(daemon_pid);
        kept_deinit(&kept);
}

struct waiter {
        struct ctx *ctx;
        _Atomic bool returned;
        int r;
        pthread_t thread;
};

static void *wait_in_thread(void *userdata)
{
        struct waiter *w = userdata;

        w->r = ctx_wait(w->ctx, UINT64_MAX);
        w->returned = true;
        return NULL;
}

/* Who sleeps below such a context asks, and wakes all the same when its own context is done. */
START_TEST(law_40_who_asks_is_woken)
{
        struct waiter w = {};
        struct ctx *local;
        uint64_t began;

        open_contexts(1);
        local = w.ctx = ctx_with_cancel(ctxs[0]);
        ck_assert_int_eq(pthread_create(&w.thread, NULL, wait_in_thread, &w), 0);
        kept.state->says_nothing = true;
        another_daemon();
        ck_assert_happens(kept.state->n_calls > 0);
        began = boottime_usec();
        ck_assert_int_ge(ctx_cancel(local), 0);
        ck_assert_int_eq(pthread_join(w.thread, NULL), 0);
        ck_assert_uint_lt(boottime_usec() - began, 12000000); /* the answer is awaited for 25 s */
        ck_assert_int_eq(w.r, -ECANCELED);
        ctx_unref(local);
        close_contexts(1);
}
END_TEST

START_TEST(it_is_not_asked_ever_more)
{
        open_contexts(MANY);
        kept.state->says_nothing = true;
        another_daemon();
        for (int i = 0; i < 100; i++)
                ck_assert_int_eq(ctx_wait(ctxs[i % MANY], 20000), 0);
        ck_assert_uint_ge(kept.state->n_calls, MANY);
        ck_assert_uint_le(kept.state->n_calls, 8 * MANY); /* in some seconds: after 0.5 s, 1 s, 2 s ... */
        close_contexts(MANY);
}
END_TEST

static uint64_t monotonic_usec(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

static void count(void *userdata)
{
        ++*(_Atomic int *) userdata;
}

/* One turn of a program's own loop. Returns how long the library has kept it. */
static uint64_t turn(int fd)
{
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};
        uint64_t now = monotonic_usec(), until;
        int timeout = 100;

        if (ctx_client_get_timeout(client, &until) > 0 && until < now + 100000)
                timeout = until <= now ? 0 : (int) ((until - now) / 1000) + 1;
        (void) poll(&pollfd, 1, timeout);
        now = monotonic_usec();
        ck_assert_int_ge(ctx_client_process(client), 0);
        return monotonic_usec() - now;
}

START_TEST(law_40_a_loop_is_not_held_up)
{
        struct ctx_after *after;
        _Atomic int called = 0;
        unsigned n_long = 0;
        int fd;

        open_contexts(1);
        fd = ctx_client_get_fd(client);
        ck_assert_int_ge(fd, 0);
        after = ctx_after_func(ctxs[0], count, (void *) &called);
        kept.state->says_nothing = true;
        another_daemon();
        while (kept.state->n_calls < 3)
                n_long += turn(fd) >= 400000; /* the library's thread waits half a second for an answer */
        ck_assert_uint_le(n_long, 1);
        ck_assert_int_eq(called, 0);
        kept.state->says_nothing = false;
        while (called == 0)
                turn(fd);
        ck_assert_int_eq(ctx_err(ctxs[0]), -ECANCELED);
        ctx_after_unref(after);
        close_contexts(1);
}
END_TEST

/* Who does not read a context is told that an authorization may help. No person is asked for it by the
 * library's thread, and the daemon is not asked again: it will say the same. */
START_TEST(no_person_is_asked)
{
        open_contexts(1);
        kept.state->wants_authorization = true;
        another_daemon();
        for (int i = 0; i < 50; i++)
                ck_assert_int_eq(ctx_wait(ctxs[0], 20000), 0);
        ck_assert_uint_eq(kept.state->n_interactive, 0);
        ck_assert_uint_eq(kept.state->n_calls, 1);
        close_contexts(1);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_40_who_asks_is_woken,
                        it_is_not_asked_ever_more,
                        law_40_a_loop_is_not_held_up,
                        no_person_is_asked,
                        NULL,
        };

        return run_tests("shared-unchecked", tests);
}
