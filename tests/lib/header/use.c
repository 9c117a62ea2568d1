/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <malloc.h>
#include <sys/wait.h>

#include "lib/ctxclient.h"
#include "tests/law/local.h"

/* What the header adds to the functions: guards, initial values, the version. */

static void count(void *userdata)
{
        atomic_fetch_add((atomic_uint *) userdata, 1);
}

static void warm_up(void)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        atomic_uint calls = 0;
        CTX_AUTO_AFTER_STOP struct ctx_after *after = ctx_after_func(ctx, count, &calls);

        ck_assert_ptr_nonnull(after);
}

START_TEST(guard_of_a_context)
{
        static const struct ctx_key key = CTX_KEY("counted");
        struct ctx *parent = ctx_with_cancel(ctx_background()), *kept = NULL;
        atomic_uint calls = 0;

        {
                CTX_AUTO_UNREF struct ctx *ctx = ctx_with_value(parent, &key, &calls, count);

                ck_assert_ptr_nonnull(ctx);
        }
        ck_assert_uint_eq(calls, 1);
        ck_assert_int_eq(ctx_err(parent), 0);
        {
                CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(parent);

                kept = ctx_ref(ctx);
        }
        ck_assert_int_eq(ctx_err(kept), -ECANCELED);
        {
                CTX_SCOPE(parent);
                ck_assert_ptr_eq(ctx_current(), parent);
        }
        ck_assert_ptr_eq(ctx_current(), ctx_background());
        ctx_unref(kept);
        ctx_unref(parent);
}
END_TEST

START_TEST(guard_of_a_callback)
{
        CTX_AUTO_UNREF struct ctx *ctx = ctx_with_cancel(ctx_background());
        atomic_uint stopped = 0, kept = 0;

        {
                CTX_AUTO_AFTER_UNREF struct ctx_after *after = ctx_after_func(ctx, count, &kept);
                CTX_AUTO_AFTER_STOP struct ctx_after *stop = ctx_after_func(ctx, count, &stopped);

                ck_assert(after && stop);
        }
        ctx_cancel(ctx);
        while (atomic_load(&kept) == 0)
                usleep(1000);
        ck_assert_uint_eq(stopped, 0);
}
END_TEST

/* So large that it is a mapping of its own, which is seen to go. */
START_TEST(guard_of_a_channel)
{
        size_t before = mallinfo2().hblkhd;

        {
                CTX_AUTO_CHAN_UNREF struct ctx_chan *chan = ctx_chan_new(1 << 20, 4);

                ck_assert_ptr_nonnull(chan);
        }
        ck_assert_uint_eq(mallinfo2().hblkhd, before);
}
END_TEST

START_TEST(guard_of_a_group)
{
        CTX_AUTO_UNREF struct ctx *ctx = NULL;

        {
                CTX_AUTO_GROUP_UNREF struct ctx_group *group = ctx_group_new(ctx_background());

                ctx = ctx_ref(ctx_group_ctx(group));
                ck_assert_int_eq(ctx_err(ctx), 0);
        }
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
}
END_TEST

START_TEST(guard_of_a_task)
{
        char *const argv[] = {(char *) "true", NULL};
        int pidfd, status;

        {
                CTX_AUTO_TASK_UNREF struct ctx_task *task = ctx_spawn(ctx_background(), argv, NULL);

                ck_assert_ptr_nonnull(task);
                pidfd = ctx_task_pidfd(task);
                ck_assert_int_ge(fcntl(pidfd, F_GETFD), 0);
        }
        /* The handle is gone, and the child is not reaped. */
        ck_assert_int_eq(fcntl(pidfd, F_GETFD), -1);
        ck_assert_int_gt(waitpid(-1, &status, 0), 0);
        ck_assert_int_eq(status, 0);
}
END_TEST

/* Nothing was made, and nothing is given up. */
START_TEST(guards_of_nothing)
{
        CTX_AUTO_UNREF struct ctx *ctx = NULL;
        CTX_AUTO_CANCEL struct ctx *cancelled = NULL;
        CTX_AUTO_AFTER_UNREF struct ctx_after *after = NULL;
        CTX_AUTO_AFTER_STOP struct ctx_after *stopped = NULL;
        CTX_AUTO_CHAN_UNREF struct ctx_chan *chan = NULL;
        CTX_AUTO_GROUP_UNREF struct ctx_group *group = NULL;
        CTX_AUTO_TASK_UNREF struct ctx_task *task = NULL;
        CTX_AUTO_CLIENT_UNREF struct ctx_client *client = NULL;

        ck_assert(!ctx && !cancelled && !after && !stopped && !chan && !group && !task && !client);
}
END_TEST

START_TEST(version)
{
        ck_assert_int_eq(ctx_version(), CTX_VERSION);
        ck_assert_int_eq(CTX_VERSION,
                        CTX_VERSION_MAJOR * 1000000 + CTX_VERSION_MINOR * 1000 + CTX_VERSION_MICRO);
}
END_TEST

START_TEST(functions_beside_macros)
{
        const struct ctx_create_options create = CTX_CREATE_OPTIONS;
        const struct ctx_spawn_options spawn = CTX_SPAWN_OPTIONS;
        const struct ctx_key key = CTX_KEY("key");
        const struct ctx_mutex mutex = CTX_MUTEX_INIT;
        const struct ctx_cond cond = CTX_COND_INIT;
        const struct ctx_sem sem = CTX_SEM_INIT(3);
        struct ctx_create_options create_of;
        struct ctx_spawn_options spawn_of;
        struct ctx_key key_of;
        struct ctx_mutex mutex_of = {1};
        struct ctx_cond cond_of = {1};
        struct ctx_sem sem_of = {1, 1};

        ck_assert_int_eq(ctx_create_options_init(&create_of, sizeof create_of), 0);
        ck_assert_mem_eq(&create_of, &create, sizeof create);
        ck_assert_int_eq(ctx_spawn_options_init(&spawn_of, sizeof spawn_of), 0);
        ck_assert_mem_eq(&spawn_of, &spawn, sizeof spawn);
        ck_assert_int_eq(ctx_key_init(&key_of, key.name), 0);
        ck_assert_mem_eq(&key_of, &key, sizeof key);
        ck_assert_int_eq(ctx_mutex_init(&mutex_of), 0);
        ck_assert_mem_eq(&mutex_of, &mutex, sizeof mutex);
        ck_assert_int_eq(ctx_cond_init(&cond_of), 0);
        ck_assert_mem_eq(&cond_of, &cond, sizeof cond);
        ck_assert_int_eq(ctx_sem_init(&sem_of, 3), 0);
        ck_assert_mem_eq(&sem_of, &sem, sizeof sem);

        ck_assert_int_eq(ctx_create_options_init(NULL, sizeof create_of), -EINVAL);
        ck_assert_int_eq(ctx_spawn_options_init(NULL, sizeof spawn_of), -EINVAL);
        ck_assert_int_eq(ctx_key_init(NULL, "key"), -EINVAL);
        ck_assert_int_eq(ctx_key_init(&key_of, NULL), -EINVAL);
        ck_assert_int_eq(ctx_mutex_init(NULL), -EINVAL);
        ck_assert_int_eq(ctx_cond_init(NULL), -EINVAL);
        ck_assert_int_eq(ctx_sem_init(NULL, 0), -EINVAL);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        guard_of_a_context,
                        guard_of_a_callback,
                        guard_of_a_channel,
                        guard_of_a_group,
                        guard_of_a_task,
                        guards_of_nothing,
                        version,
                        functions_beside_macros,
                        NULL,
        };

        warm = warm_up;
        return run_laws("what the header adds", tests);
}
