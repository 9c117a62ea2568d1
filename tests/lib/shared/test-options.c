/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <sys/syscall.h>

#include "tests/lib/shared/daemon.h"

/* Options of every version, for the calls that ask the daemon: what a program of the first version gives, and
 * one of a later version that knows more. */

/* The structs as version 0 has them, written down once more, and followed by what a later version may add. */
struct create {
        size_t size;
        uint32_t flags, mode;
        uint64_t timeout_usec, deadline_usec;
        const char *cause_message;
        int cause_error, owner_pidfd;
        const char *const *values;
        const char *description;
        uint64_t grace_usec;
        uint64_t later;
};

struct spawn {
        size_t size;
        int signal, fds[3];
        uint64_t kill_after_usec;
        char *const *env;
        const char *directory;
        uint64_t flags;
        uint64_t later;
};

#define CREATE_VER0 offsetof(struct create, later)
#define SPAWN_VER0 offsetof(struct spawn, flags)

/* 0, or why it was not made. */
static int create(struct ctx_client *client, struct create *options)
{
        struct ctx *ctx = ctx_create(client, fresh_path(), (struct ctx_create_options *) options);
        uint64_t deadline = 0;

        if (!ctx)
                return -errno;
        ck_assert_int_eq(ctx_deadline(ctx, &deadline), 1);
        ck_assert_str_eq(ctx_value_string(ctx, "org.example.user"), "ada");
        ck_assert_int_eq(ctx_release(ctx), 0);
        ctx_unref(ctx);
        return 0;
}

START_TEST(create_of_every_version)
{
        const char *const values[] = {"org.example.user=ada", NULL};
        struct create options = {.mode = CTX_MODE_INHERIT,
                        .timeout_usec = 60000000,
                        .deadline_usec = UINT64_MAX,
                        .owner_pidfd = -1,
                        .values = values};
        struct ctx_client *client = new_client();

        ck_assert_uint_eq(CREATE_VER0, CTX_CREATE_OPTIONS_SIZE_VER0);
        options.size = CREATE_VER0;
        options.later = UINT64_MAX; /* behind what is given */
        ck_assert_int_eq(create(client, &options), 0);
        options.size = sizeof options;
        ck_assert_int_eq(create(client, &options), -E2BIG);
        options.later = 0;
        ck_assert_int_eq(create(client, &options), 0);
        options.size = CREATE_VER0 - 1;
        ck_assert_int_eq(create(client, &options), -EINVAL);
        options.size = 0;
        ck_assert_int_eq(create(client, &options), -EINVAL);
        options.size = SIZE_MAX;
        ck_assert_int_eq(create(client, &options), -E2BIG);
        ctx_client_unref(client);
}
END_TEST

/* 0, or why it was not started; the command ends when ctx is done. */
static int spawn(struct ctx *ctx, struct spawn *options)
{
        char *const argv[] = {(char *) "true", NULL};
        struct ctx_task *task = ctx_spawn(ctx, argv, (struct ctx_spawn_options *) options);
        int status;

        if (!task)
                return -errno;
        ck_assert_int_eq(ctx_task_wait(task, &status), 0);
        ctx_task_unref(task);
        return status;
}

static int attach(struct ctx *ctx, struct spawn *options)
{
        char *const argv[] = {(char *) "sleep", (char *) "60", NULL};
        struct ctx_task *task = ctx_spawn(ctx_background(), argv, NULL);
        int r;

        ck_assert_ptr_nonnull(task);
        r = ctx_attach(ctx, ctx_task_pidfd(task), (struct ctx_spawn_options *) options);
        ck_assert_int_eq(syscall(SYS_pidfd_send_signal, ctx_task_pidfd(task), SIGKILL, NULL, 0), 0);
        ck_assert_int_eq(ctx_task_wait(task, NULL), 0);
        ctx_task_unref(task);
        return r;
}

static void check_spawn(int (*call)(struct ctx *ctx, struct spawn *options), struct ctx *ctx)
{
        struct spawn options = {
                        .signal = SIGTERM, .fds = {-1, -1, -1}, .kill_after_usec = CTX_KILL_AFTER_DEFAULT};

        options.size = SPAWN_VER0;
        options.flags = options.later = UINT64_MAX; /* behind what is given */
        ck_assert_int_eq(call(ctx, &options), 0);
        options.flags = 0;
        options.size = CTX_SPAWN_OPTIONS_SIZE_VER1;
        ck_assert_int_eq(call(ctx, &options), 0);
        options.size = sizeof options;
        ck_assert_int_eq(call(ctx, &options), -E2BIG);
        options.later = 0;
        ck_assert_int_eq(call(ctx, &options), 0);
        options.size = SPAWN_VER0 - 1;
        ck_assert_int_eq(call(ctx, &options), -EINVAL);
        options.size = SIZE_MAX;
        ck_assert_int_eq(call(ctx, &options), -E2BIG);
}

START_TEST(spawn_of_every_version)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path());

        ck_assert_uint_eq(SPAWN_VER0, CTX_SPAWN_OPTIONS_SIZE_VER0);
        check_spawn(spawn, ctx);
        check_spawn(attach, ctx);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

START_TEST(guard_of_a_client)
{
        unsigned before, with;

        /* The first one of a process leaves something open for good, such as the library's own pages. */
        ctx_client_unref(new_client());
        before = count_fds(getpid());
        {
                CTX_AUTO_CLIENT_UNREF struct ctx_client *client = new_client();

                with = count_fds(getpid());
                ck_assert_ptr_nonnull(client);
        }
        ck_assert_uint_gt(with, before);
        ck_assert_uint_eq(count_fds(getpid()), before);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        create_of_every_version,
                        spawn_of_every_version,
                        guard_of_a_client,
                        NULL,
        };

        return run_tests_with_daemon("shared-options", tests);
}
