/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <sys/wait.h>

#include "lib/ctxclient.h"
#include "lib/local/options.h"
#include "tests/law/local.h"

/* Programs and libraries of different versions: what the library makes of an options struct that is as large
 * as the program knows it. tests/lib/shared/test-options.c asks the same of the calls that need a daemon. */

/* What a library of a later version could know. */
struct later {
        size_t size;
        int first;
        int second;
        uint64_t third;
};

#define LATER_SIZE_VER0 16
#define LATER                                 \
        {                                     \
                sizeof(struct later), 1, 2, 3 \
        }

/* A copy in memory that ends where the struct does, so that a sanitizer sees a read behind it. */
static void *exactly(const void *options, size_t size, size_t given)
{
        unsigned char *copy = calloc(1, given);

        ck_assert_ptr_nonnull(copy);
        memcpy(copy, options, given < size ? given : size);
        memcpy(copy, &given, sizeof given);
        return copy;
}

START_TEST(an_older_program)
{
        struct later taken = LATER, given = {0, 10, 20, 30};
        void *ver0 = exactly(&given, sizeof given, LATER_SIZE_VER0);

        ck_assert_int_eq(options_take(ver0, LATER_SIZE_VER0, &taken, sizeof taken), 0);
        ck_assert_int_eq(taken.first, 10);
        ck_assert_int_eq(taken.second, 20);
        /* What it does not know stays at its default. */
        ck_assert_uint_eq(taken.third, 3);
        free(ver0);
}
END_TEST

START_TEST(a_newer_program)
{
        struct later taken = LATER, given = {0, 10, 20, 30};
        unsigned char *longer = exactly(&given, sizeof given, sizeof given + 9);

        ck_assert_int_eq(options_take(longer, LATER_SIZE_VER0, &taken, sizeof taken), 0);
        ck_assert_int_eq(taken.first, 10);
        ck_assert_uint_eq(taken.third, 30);
        taken.first = 1;
        longer[sizeof given + 8] = 1;
        ck_assert_int_eq(options_take(longer, LATER_SIZE_VER0, &taken, sizeof taken), -E2BIG);
        ck_assert_int_eq(taken.first, 1);
        free(longer);
}
END_TEST

START_TEST(a_size_that_no_version_has)
{
        struct later taken = LATER, given = LATER;

        given.size = LATER_SIZE_VER0 - 1;
        ck_assert_int_eq(options_take(&given, LATER_SIZE_VER0, &taken, sizeof taken), -EINVAL);
        given.size = 0;
        ck_assert_int_eq(options_take(&given, LATER_SIZE_VER0, &taken, sizeof taken), -EINVAL);
        given.size = SIZE_MAX;
        ck_assert_int_eq(options_take(&given, LATER_SIZE_VER0, &taken, sizeof taken), -E2BIG);
}
END_TEST

static int spawn(void *options)
{
        char *const argv[] = {(char *) "true", NULL};
        CTX_AUTO_TASK_UNREF struct ctx_task *task = ctx_spawn(ctx_background(), argv, options);
        int status;

        if (!task)
                return -errno;
        ck_assert_int_eq(ctx_task_wait(task, &status), 0);
        return status;
}

START_TEST(spawn_without_a_daemon)
{
        const struct ctx_spawn_options options = CTX_SPAWN_OPTIONS;
        void *ver0 = exactly(&options, sizeof options, CTX_SPAWN_OPTIONS_SIZE_VER0);
        void *shorter = exactly(&options, sizeof options, CTX_SPAWN_OPTIONS_SIZE_VER0 - 1);
        unsigned char *longer = exactly(&options, sizeof options, sizeof options + 1);

        ck_assert_int_eq(spawn(ver0), 0);
        ck_assert_int_eq(spawn(shorter), -EINVAL);
        ck_assert_int_eq(spawn(longer), 0);
        longer[sizeof options] = 1;
        ck_assert_int_eq(spawn(longer), -E2BIG);
        free(ver0);
        free(shorter);
        free(longer);
}
END_TEST

/* size: what the program knows. The bytes behind that are not touched. */
static void check_init(
                int (*init)(void *options, size_t size), const void *defaults, size_t size, size_t ver0)
{
        unsigned char bytes[4097 + 1];

        for (size_t known = ver0; known <= size + 16; known += 8) {
                memset(bytes, 0xa5, sizeof bytes);
                ck_assert_int_eq(init(bytes, known), 0);
                ck_assert_mem_eq(bytes, &known, sizeof known);
                ck_assert_mem_eq(bytes + sizeof known, (const char *) defaults + sizeof known,
                                (known < size ? known : size) - sizeof known);
                for (size_t i = size; i < known; i++)
                        ck_assert_uint_eq(bytes[i], 0);
                ck_assert_uint_eq(bytes[known], 0xa5);
        }
        ck_assert_int_eq(init(bytes, ver0 - 1), -EINVAL);
        ck_assert_int_eq(init(bytes, 4096), 0);
        ck_assert_int_eq(init(bytes, 4097), -E2BIG);
        /* A field that came after version 0 means at 0 what was done before: that is its default, too. */
        for (size_t i = ver0; i < size; i++)
                ck_assert_uint_eq(((const unsigned char *) defaults)[i], 0);
}

static int create_init(void *options, size_t size)
{
        return ctx_create_options_init(options, size);
}

static int spawn_init(void *options, size_t size)
{
        return ctx_spawn_options_init(options, size);
}

START_TEST(init_of_every_size)
{
        const struct ctx_create_options create = CTX_CREATE_OPTIONS;
        const struct ctx_spawn_options spawn = CTX_SPAWN_OPTIONS;

        check_init(create_init, &create, sizeof create, CTX_CREATE_OPTIONS_SIZE_VER0);
        check_init(spawn_init, &spawn, sizeof spawn, CTX_SPAWN_OPTIONS_SIZE_VER0);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        an_older_program,
                        a_newer_program,
                        a_size_that_no_version_has,
                        spawn_without_a_daemon,
                        init_of_every_size,
                        NULL,
        };

        return run_laws("options of every version", tests);
}
