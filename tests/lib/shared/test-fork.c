/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sched.h>
#include <stdio.h>

#include "tests/lib/shared/daemon.h"

/* After fork without exec: a child reads, waits, derives; what needs the parent's connection is refused, and
 * nothing that it gives up is taken from the parent. */

#define LONG_USEC UINT64_C(30000000)
#define EXPECT(condition)                          \
        do {                                       \
                if (!(condition))                  \
                        return __LINE__ % 251 + 1; \
        } while (0)

struct inherited {
        struct ctx_client *client;
        struct ctx *ctx;   /* the parent has its descriptor */
        struct ctx *other; /* and not this one's */
        int go[2], done[2];
        char path[64];
};

static void setup(struct inherited *i)
{
        i->client = new_client();
        strcpy(i->path, fresh_path());
        i->ctx = make(i->client, i->path);
        i->other = make(i->client, fresh_path());
        ck_assert_int_ge(ctx_done_fd(i->ctx), 0);
        ck_assert_int_eq(pipe(i->go), 0);
        ck_assert_int_eq(pipe(i->done), 0);
}

static void teardown(struct inherited *i)
{
        for (int k = 0; k < 2; k++) {
                close(i->go[k]);
                close(i->done[k]);
        }
        ctx_unref(i->ctx);
        ctx_unref(i->other);
        ctx_client_unref(i->client);
}

static void say(int fd)
{
        ck_assert_int_eq(write(fd, "x", 1), 1);
}

static void hear(int fd)
{
        char byte;

        ck_assert_int_eq(read(fd, &byte, 1), 1);
}

static int read_and_wait(void *userdata)
{
        struct inherited *i = userdata;
        struct ctx *local = ctx_with_cancel(i->ctx), *sibling = ctx_with_cancel(i->ctx);

        EXPECT(local && sibling);
        EXPECT(ctx_err(i->ctx) == 0 && ctx_err(i->other) == 0);
        EXPECT(ctx_wait(i->ctx, 1000) == 0);
        EXPECT(ctx_cancel(sibling) == 1 && ctx_err(local) == 0);
        say(i->done[1]);
        EXPECT(ctx_wait(i->ctx, LONG_USEC) == -ECANCELED);
        EXPECT(ctx_wait(local, LONG_USEC) == -ECANCELED);
        EXPECT(ctx_cause(i->ctx, NULL, NULL) == 1);
        hear(i->go[0]); /* the other is done by now */
        EXPECT(ctx_err(i->other) == -ECANCELED);
        EXPECT(ctx_wait(i->other, LONG_USEC) == -ECANCELED);
        ctx_unref(local);
        ctx_unref(sibling);
        return 0;
}

START_TEST(child_reads_and_waits)
{
        struct inherited i;
        pid_t pid;

        setup(&i);
        pid = run_child(read_and_wait, &i);
        hear(i.done[0]);
        ck_assert_int_eq(ctx_cancel(i.ctx), 1);
        ck_assert_int_eq(ctx_cancel(i.other), 1);
        say(i.go[1]);
        ck_assert_int_eq(wait_child(pid), 0);
        teardown(&i);
}
END_TEST

static int try_all(void *userdata)
{
        struct inherited *i = userdata;
        char *const argv[] = {"true", NULL};

        EXPECT(ctx_cancel(i->ctx) == -ECHILD);
        EXPECT(ctx_release(i->ctx) == -ECHILD);
        EXPECT(ctx_extend(i->ctx, 1) == -ECHILD);
        EXPECT(ctx_done_fd(i->other) == -ECHILD);
        EXPECT(!ctx_open(i->client, i->path) && errno == ECHILD);
        EXPECT(!ctx_create(i->client, "a", NULL) && errno == ECHILD);
        EXPECT(!ctx_value_string(i->ctx, "org.example.a") && errno == ECHILD);
        EXPECT(!ctx_spawn(i->ctx, argv, NULL) && errno == ECHILD);
        EXPECT(strlen(ctx_client_error(i->client)) > 0);
        EXPECT(ctx_err(i->ctx) == 0);
        return 0;
}

START_TEST(child_may_not_use_the_connection)
{
        struct inherited i;

        setup(&i);
        ck_assert_int_eq(wait_child(run_child(try_all, &i)), 0);
        ck_assert_int_eq(ctx_err(i.ctx), 0);
        /* The parent's connection has not noticed anything. */
        ck_assert_int_eq(ctx_cancel(i.ctx), 1);
        teardown(&i);
}
END_TEST

static int give_all_up(void *userdata)
{
        struct inherited *i = userdata;

        ctx_unref(i->ctx);
        ctx_unref(i->other);
        ctx_client_unref(i->client);
        return 0;
}

START_TEST(child_takes_nothing_from_the_parent)
{
        struct inherited i;
        int fd;

        setup(&i);
        fd = ctx_done_fd(i.ctx);
        ck_assert_int_eq(wait_child(run_child(give_all_up, &i)), 0);
        ck_assert(!is_readable(fd));
        ck_assert_int_eq(ctx_cancel(i.ctx), 1);
        /* An Undone from the child would have left it silent. */
        ck_assert(is_readable(fd));
        teardown(&i);
}
END_TEST

static int with_own_client(void *userdata)
{
        struct inherited *i = userdata;
        struct ctx_client *client = ctx_client_new(NULL);
        struct ctx *ctx = client ? ctx_open(client, i->path) : NULL;
        int fd;

        EXPECT(ctx);
        EXPECT(strcmp(ctx_path(ctx), ctx_path(i->ctx)) == 0);
        fd = ctx_done_fd(ctx);
        EXPECT(fd >= 0 && fd != ctx_done_fd(i->ctx));
        say(i->done[1]);
        EXPECT(ctx_wait(ctx, LONG_USEC) == -ECANCELED);
        EXPECT(is_readable(fd));
        EXPECT(ctx_cause(ctx, NULL, NULL) == 1);
        ctx_unref(ctx);
        ctx_client_unref(client);
        return 0;
}

START_TEST(child_has_a_client_of_its_own)
{
        struct inherited i;
        pid_t pid;

        setup(&i);
        pid = run_child(with_own_client, &i);
        hear(i.done[0]);
        ck_assert_int_eq(ctx_cancel(i.ctx), 1);
        ck_assert_int_eq(wait_child(pid), 0);
        teardown(&i);
}
END_TEST

static int watch_again(void *userdata)
{
        struct inherited *i = userdata;
        struct ctx *local = ctx_with_cancel(i->ctx);
        struct pollfd pollfd = {.fd = ctx_done_fd(local), .events = POLLIN};

        EXPECT(pollfd.fd >= 0);
        say(i->done[1]);
        EXPECT(poll(&pollfd, 1, 20000) == 1);
        EXPECT(ctx_err(local) == -ECANCELED);
        ctx_unref(local);
        return 0;
}

START_TEST(descriptor_of_a_local_child_in_both)
{
        struct inherited i;
        struct ctx *local;
        struct pollfd pollfd = {.events = POLLIN};
        pid_t pid;

        setup(&i);
        local = ctx_with_cancel(i.ctx);
        pollfd.fd = ctx_done_fd(local); /* the parent watches before the fork */
        /* Until its thread is at rest: a sanitizer's allocator, unlike libc's, does not survive a fork in the
         * middle of what another thread does. */
        wait_for_other_threads();
        pid = run_child(watch_again, &i);
        hear(i.done[0]);
        ck_assert_int_eq(ctx_cancel(i.ctx), 1);
        ck_assert_int_eq(wait_child(pid), 0);
        ck_assert_int_eq(poll(&pollfd, 1, 20000), 1);
        ctx_unref(local);
        teardown(&i);
}
END_TEST

/* -- A child with its parent's number, in a namespace of its own ----------------------------------------- */

static int cancel_of_parent(void *ctx)
{
        EXPECT(getpid() == 1);
        EXPECT(ctx_cancel(ctx) == -ECHILD);
        EXPECT(ctx_extend(ctx, 1) == -ECHILD);
        return 0;
}

static int be_first(void *unused)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path());
        int status;

        EXPECT(getpid() == 1);
        EXPECT(unshare(CLONE_NEWPID) == 0);
        status = wait_child(run_child(cancel_of_parent, ctx));
        EXPECT(ctx_err(ctx) == 0);
        EXPECT(ctx_cancel(ctx) == 1);
        ctx_unref(ctx);
        ctx_client_unref(client);
        return status;
}

static int have_a_first(void *unused)
{
        if (unshare(CLONE_NEWPID) < 0)
                return 0;
        return wait_child(run_child(be_first, NULL));
}

START_TEST(child_with_the_same_pid)
{
        ck_assert_int_eq(wait_child(run_child(have_a_first, NULL)), 0);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        child_reads_and_waits,
                        child_may_not_use_the_connection,
                        child_takes_nothing_from_the_parent,
                        child_has_a_client_of_its_own,
                        descriptor_of_a_local_child_in_both,
                        child_with_the_same_pid,
                        NULL,
        };

        return run_tests_with_daemon("shared-fork", tests);
}
