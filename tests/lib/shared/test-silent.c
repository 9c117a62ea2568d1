/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <systemd/sd-bus.h>

#include "proto/names.h"
#include "tests/lib/shared/daemon.h"

/* A daemon that is stopped (SIGSTOP): who enters a context, gives one up, or waits until one is drained
 * (laws 40 and 41). test-unanswered.c has the other calls. The old limit was 25 s, so the bounds here are
 * wide. */

#define SHORT_USEC UINT64_C(50000)
#define WIDE_USEC UINT64_C(12000000)

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

static uint64_t took(uint64_t began)
{
        return boottime_usec() - began;
}

/* How many members the daemon sees in it. */
static unsigned members(const char *path)
{
        sd_bus_message *reply = NULL;
        uint32_t contexts, n;
        sd_bus *bus;

        ck_assert_int_ge(sd_bus_new(&bus), 0);
        ck_assert_int_ge(sd_bus_set_address(bus, the_daemon.address), 0);
        ck_assert_int_ge(sd_bus_set_bus_client(bus, 1), 0);
        ck_assert_int_ge(sd_bus_start(bus), 0);
        ck_assert_int_ge(sd_bus_call_method(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                         "Preview", NULL, &reply, "su", path, 0),
                        0);
        ck_assert_int_gt(sd_bus_message_read(reply, "uu", &contexts, &n), 0);
        sd_bus_message_unref(reply);
        sd_bus_flush_close_unref(bus);
        return n;
}

/* -- An enter (law 40) ----------------------------------------------------------------------------------- */

struct inside {
        struct ctx *ctx;
        int go[2];
        _Atomic uint64_t usec; /* how long the enter took */
        pthread_t thread;
};

static void *enter_and_stay(void *userdata)
{
        struct inside *in = userdata;
        uint64_t began = boottime_usec();
        char byte;

        ck_assert_int_eq(ctx_enter(in->ctx), 0);
        in->usec = took(began) + 1;
        ck_assert_int_eq(read(in->go[0], &byte, 1), 1);
        ctx_leave(in->ctx);
        return NULL;
}

static void begin(struct inside *in, struct ctx *ctx)
{
        in->ctx = ctx;
        in->usec = 0;
        ck_assert_int_eq(pipe(in->go), 0);
        ck_assert_int_eq(pthread_create(&in->thread, NULL, enter_and_stay, in), 0);
        ck_assert_happens(in->usec != 0);
        ck_assert_uint_lt(in->usec, WIDE_USEC);
}

static void end(struct inside *in)
{
        ck_assert_int_eq(write(in->go[1], "x", 1), 1);
        ck_assert_int_eq(pthread_join(in->thread, NULL), 0);
        close(in->go[0]);
        close(in->go[1]);
}

/* And it is a member as soon as the daemon goes on, although nobody calls anything. */
START_TEST(law_40_an_enter_does_not_wait_for_the_daemon)
{
        struct ctx *ctx = make(client, fresh_path()), *other = make(client, fresh_path());
        struct ctx *local = ctx_with_timeout(ctx, UINT64_C(3600000000));
        struct inside a, b, c;

        daemon_freeze();
        begin(&a, ctx);
        begin(&b, local);
        begin(&c, other);
        end(&b); /* it leaves before there is an answer */
        daemon_thaw();
        ck_assert_happens(members(ctx_path(ctx)) == 1);
        ck_assert_happens(members(ctx_path(other)) == 1);
        end(&c);
        ck_assert_uint_eq(members(ctx_path(other)), 0);
        end(&a);
        ck_assert_uint_eq(members(ctx_path(ctx)), 0);
        begin(&a, local);
        ck_assert_happens(members(ctx_path(ctx)) == 1);
        end(&a);
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_unref(other);
}
END_TEST

/* A context that is given up before the answer, and one whose client is. */
START_TEST(law_40_an_enter_is_forgotten_before_the_answer)
{
        struct ctx_client *second = new_client();
        struct ctx *ctx = make(client, fresh_path()), *other = make(second, fresh_path());
        uint64_t began;

        daemon_freeze();
        began = boottime_usec();
        for (unsigned i = 0; i < 3; i++) {
                CTX_SCOPE(ctx);
                CTX_SCOPE(other);
        }
        ctx_unref(ctx);
        ctx_unref(other);
        ctx_client_unref(second);
        ck_assert_uint_lt(took(began), WIDE_USEC);
        daemon_thaw();
        ctx = make(client, fresh_path());
        ck_assert_int_eq(ctx_enter(ctx), 0);
        ck_assert_happens(members(ctx_path(ctx)) == 1);
        ctx_leave(ctx);
        ctx_unref(ctx);
}
END_TEST

/* -- A release (law 41) ---------------------------------------------------------------------------------- */

static void is_released(struct ctx *ctx)
{
        const char *message;

        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        ck_assert_int_eq(ctx_cause(ctx, NULL, &message), 1);
        ck_assert_str_eq(message, "context released");
}

static bool can_be_made(const char *path)
{
        struct ctx *ctx = ctx_create(client, path, NULL);

        if (!ctx)
                return false;
        ctx_unref(ctx);
        return true;
}

static void release_between(void (*go_away)(void), void (*come_back)(void))
{
        struct ctx_client *other = new_client();
        char *path = strdup(fresh_path()), *second = strdup(fresh_path());
        struct ctx *ctx = make(client, path), *local = ctx_with_cancel(ctx), *done = make(client, second);
        struct ctx *same = ctx_open(other, ctx_path(ctx));
        uint64_t began = boottime_usec();

        ck_assert_int_eq(ctx_cancel(done), 1);
        go_away();
        ck_assert_int_eq(ctx_release(ctx), 0);
        is_released(ctx);
        is_released(local);
        is_released(same);
        ck_assert(is_readable(ctx_done_fd(ctx)));
        ck_assert_int_eq(ctx_release(ctx), 0);
        ck_assert_int_eq(ctx_release(done), 0);
        ck_assert_uint_lt(took(began), WIDE_USEC);
        come_back();
        ck_assert(can_be_made(path));
        ck_assert(can_be_made(second));
        ctx_unref(same);
        ctx_unref(done);
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_client_unref(other);
        free(path);
        free(second);
}

START_TEST(law_41_a_release_ends_what_is_here_while_the_daemon_is_stopped)
{
        struct ctx *readonly, *ctx = make(client, fresh_path());

        release_between(daemon_freeze, daemon_thaw);
        readonly = ctx_readonly(ctx);
        ck_assert_int_eq(ctx_release(readonly), -EPERM);
        ck_assert_int_eq(ctx_err(ctx), 0);
        ck_assert_int_eq(ctx_release(ctx), 0);
        is_released(ctx);
        ctx_unref(readonly);
        ctx_unref(ctx);
}
END_TEST

START_TEST(law_41_a_release_without_a_daemon)
{
        struct daemon own = {};
        struct ctx_client *mine;
        struct ctx *ctx, *local;

        daemon_start(&own, NULL);
        mine = ctx_client_new(own.address);
        ck_assert_ptr_nonnull(mine);
        ctx = make(mine, "gone");
        local = ctx_with_cancel(ctx);
        daemon_kill(&own);
        ck_assert_int_eq(ctx_release(ctx), 0);
        is_released(ctx);
        is_released(local);
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_client_unref(mine);
        daemon_again(&own);
        daemon_stop(&own);
}
END_TEST

/* -- Until nobody is left (law 40) ----------------------------------------------------------------------- */

/* Half a second more was the least before; the quickest of some counts, since a busy machine may be slow. */
START_TEST(law_40_cancel_wait_returns_in_time)
{
        uint64_t least = UINT64_MAX;

        for (unsigned i = 0; i < 10; i++) {
                struct ctx *ctx = make(client, fresh_path());
                uint64_t began;

                if (i % 2)
                        ck_assert_int_ge(ctx_done_fd(ctx), 0);
                daemon_freeze();
                began = boottime_usec();
                ck_assert_int_eq(ctx_cancel_wait(ctx, SHORT_USEC), -ETIMEDOUT);
                if (took(began) < least)
                        least = took(began);
                ck_assert_uint_ge(took(began), SHORT_USEC);
                ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
                daemon_thaw();
                ck_assert_int_eq(ctx_cancel_wait(ctx, UINT64_MAX), 0);
                ctx_unref(ctx);
        }
        ck_assert_uint_lt(least, 400000);
}
END_TEST

/* -- A handle that one client gives up, and another one asks for ----------------------------------------- */

#define MANY 40

/* The first one speaks for all handles of a process, and has much to say when it is freed. Its last word is
 * about the handle that the second one asks for. */
static int hand_over(void *userdata)
{
        struct ctx_client *first = new_client(), *second = new_client();
        struct ctx *ctx[MANY], *same;
        struct pollfd pollfd = {.events = POLLIN};
        unsigned i;

        for (i = 0; i < MANY; i++) {
                ctx[i] = make(first, fresh_path());
                if (ctx_done_fd(ctx[i]) < 0)
                        return 1;
        }
        same = ctx_open(second, ctx_path(ctx[MANY - 1]));
        daemon_freeze();
        for (i = 0; i < MANY; i++)
                ctx_unref(ctx[i]);
        ctx_client_unref(first);
        if (!same || ctx_poll(same, NULL, 0, 1000) != 0) /* asks for it */
                return 2;
        daemon_thaw();
        pollfd.fd = ctx_done_fd(same);
        first = new_client(); /* by now everything was read */
        ctx[0] = ctx_open(first, ctx_path(same));
        if (pollfd.fd < 0 || ctx_cancel(ctx[0]) != 1)
                return 3;
        if (poll(&pollfd, 1, 5000) != 1)
                return 4;
        ctx_unref(ctx[0]);
        ctx_unref(same);
        ctx_client_unref(first);
        ctx_client_unref(second);
        return 0;
}

START_TEST(law_5_a_handle_survives_the_client_that_spoke_for_it)
{
        for (unsigned i = 0; i < 10; i++)
                ck_assert_int_eq(wait_child(run_child(hand_over, NULL)), 0);
}
END_TEST

/* -- A deadline of the shared context itself (law 40) ---------------------------------------------------- */

static int wait_for_it(struct ctx *ctx)
{
        return ctx_wait(ctx, UINT64_MAX);
}

static int poll_it(struct ctx *ctx)
{
        return ctx_poll(ctx, NULL, 0, UINT64_MAX);
}

static int read_one(struct ctx *ctx)
{
        int fds[2], r;
        char byte;

        ck_assert_int_eq(pipe(fds), 0);
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

START_TEST(law_40_a_shared_deadline_holds_while_the_daemon_is_stopped)
{
        int (*const ways[])(struct ctx *) = {wait_for_it, poll_it, read_one, lock_mutex};
        size_t n = sizeof ways / sizeof *ways;
        struct ctx_create_options options = CTX_CREATE_OPTIONS;

        for (size_t i = 0; i < 3 * n; i++) {
                struct ctx *ctx, *local;
                uint64_t began;

                options.timeout_usec = UINT64_C(300000);
                ctx = ctx_create(client, fresh_path(), &options);
                ck_assert_ptr_nonnull(ctx);
                local = i < n ? ctx_ref(ctx) : ctx_with_cancel(ctx);
                if (i >= 2 * n)
                        ck_assert_int_ge(ctx_done_fd(ctx), 0);
                daemon_freeze();
                began = boottime_usec();
                ck_assert_msg(ways[i % n](local) == -ETIMEDOUT, "way %zu", i);
                ck_assert_uint_lt(took(began), WIDE_USEC);
                ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
                daemon_thaw();
                ctx_unref(local);
                ctx_unref(ctx);
        }
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_40_an_enter_does_not_wait_for_the_daemon,
                        law_40_an_enter_is_forgotten_before_the_answer,
                        law_41_a_release_ends_what_is_here_while_the_daemon_is_stopped,
                        law_41_a_release_without_a_daemon,
                        law_40_cancel_wait_returns_in_time,
                        law_5_a_handle_survives_the_client_that_spoke_for_it,
                        law_40_a_shared_deadline_holds_while_the_daemon_is_stopped,
                        NULL,
        };

        return run_tests_with_daemon_and("shared-silent", tests, setup, teardown);
}
