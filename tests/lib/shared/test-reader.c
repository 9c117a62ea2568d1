/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/lib/shared/daemon.h"

/* Deadlines that their owner moves, as others see it: another user, who has no state page; other processes
 * of the owner; a child of a fork. Law 14, and law 40 where the daemon does not answer. */

#define LONG_USEC UINT64_C(60000000)
#define SOON_USEC UINT64_C(3000000)
#define NOBODY 65534

/* What the owner and the reader tell each other. */
static struct {
        char path[64];
        uint64_t deadline; /* that it was made with */
        uint64_t later;    /* that it has been moved to */
        _Atomic int step;
        bool forks;
} * common;

enum { OPENED = 1, MOVED, LOOKED, PASSED };

static void wait_for(int step)
{
        ck_assert_happens(common->step >= step);
}

static void become_nobody(void)
{
        if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
                _exit(77);
}

/* It has been moved to a later time, and the old one passes. */
static void outlives_the_old_deadline(struct ctx *ctx, struct ctx *local)
{
        uint64_t now = boottime_usec(), left = common->deadline > now ? common->deadline - now : 0, deadline;

        ck_assert_int_eq(ctx_wait(local, left + 300000), 0);
        ck_assert_uint_gt(boottime_usec(), common->deadline);
        ck_assert_int_eq(ctx_err(ctx), 0);
        ck_assert_int_eq(ctx_err(local), 0);
        ck_assert_int_eq(ctx_sleep(ctx, 1000), 0);
        ck_assert_int_eq(ctx_deadline(local, &deadline), 1);
        ck_assert_uint_eq(deadline, common->later);
        common->step = LOOKED;
}

/* It has been moved to an earlier time, which passes. */
static void ends_at_the_new_deadline(struct ctx *ctx, struct ctx *local)
{
        ck_assert_int_eq(ctx_wait(local, LONG_USEC), -ETIMEDOUT);
        ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
        ck_assert_int_eq(ctx_wait(ctx, LONG_USEC), -ETIMEDOUT);
}

static int read_it(void *unused)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = ctx_open(client, common->path), *local;

        ck_assert_msg(ctx, "%s", ctx_client_error(client));
        local = ctx_with_cancel(ctx);
        ck_assert_int_eq(ctx_err(local), 0);
        if (common->forks)
                ck_assert_int_ge(ctx_done_fd(ctx), 0); /* the child cannot ask for it */
        common->step = OPENED;
        if (common->forks) {
                pid_t pid = fork(); /* what the child inherits is its parent's, and works as long as that */

                ck_assert_int_ge(pid, 0);
                if (pid > 0)
                        return wait_child(pid);
        }
        wait_for(MOVED);
        outlives_the_old_deadline(ctx, local);
        ends_at_the_new_deadline(ctx, local);
        common->step = PASSED;
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_client_unref(client);
        return 0;
}

static int read_it_as_nobody(void *unused)
{
        become_nobody();
        return read_it(NULL);
}

static struct ctx *make_for_all(struct ctx_client *client)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx *ctx;

        common = mmap(NULL, sizeof *common, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ck_assert_ptr_ne(common, MAP_FAILED);
        ck_assert_int_eq(chmod(the_daemon.directory, 0711), 0);
        strcpy(common->path, fresh_path());
        common->deadline = options.deadline_usec = boottime_usec() + SOON_USEC;
        common->later = options.deadline_usec + LONG_USEC;
        options.mode = 0744;
        ctx = ctx_create(client, common->path, &options);
        ck_assert_msg(ctx, "%s", ctx_client_error(client));
        return ctx;
}

/* Where this machine was too slow there is nothing to be seen. */
static void move_while(int (*reader)(void *userdata), bool forks)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make_for_all(client);
        pid_t pid;

        common->forks = forks;
        pid = run_child(reader, NULL);
        wait_for(OPENED);
        if (ctx_extend(ctx, common->later) == -EALREADY)
                exit(0);
        common->step = MOVED;
        wait_for(LOOKED);
        ck_assert_int_eq(ctx_extend(ctx, boottime_usec()), 0);
        ck_assert_int_eq(wait_child(pid), 0);
        wait_for(PASSED);
        ctx_unref(ctx);
        ctx_client_unref(client);
}

START_TEST(law_14_another_user_sees_an_extend)
{
        if (getuid() == 0)
                move_while(read_it_as_nobody, false);
}
END_TEST

START_TEST(law_14_another_process_sees_an_extend)
{
        move_while(read_it, false);
}
END_TEST

START_TEST(law_14_a_forked_child_sees_an_extend)
{
        move_while(read_it, true);
}
END_TEST

static int read_without_daemon(void *unused)
{
        struct ctx_client *client;
        struct ctx *ctx, *local;

        become_nobody();
        client = new_client();
        ctx = ctx_open(client, common->path);
        ck_assert_msg(ctx, "%s", ctx_client_error(client));
        local = ctx_with_cancel(ctx);
        ck_assert_int_ge(ctx_done_fd(ctx), 0);
        common->step = OPENED;
        wait_for(MOVED);
        ck_assert_int_eq(ctx_wait(local, LONG_USEC), -ETIMEDOUT);
        ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
        ck_assert_uint_lt(boottime_usec(), common->deadline + UINT64_C(15000000));
        common->step = PASSED;
        return 0;
}

START_TEST(law_40_without_an_answer_the_known_deadline_counts)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make_for_all(client);
        bool passed;
        pid_t pid;

        if (getuid() != 0)
                return;
        pid = run_child(read_without_daemon, NULL);
        wait_for(OPENED);
        ck_assert_int_eq(kill(the_daemon.pid, SIGSTOP), 0);
        common->step = MOVED;
        passed = HAPPENS(common->step == PASSED);
        ck_assert_int_eq(kill(the_daemon.pid, SIGCONT), 0);
        ck_assert(passed);
        ck_assert_int_eq(wait_child(pid), 0);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_14_another_user_sees_an_extend,
                        law_14_another_process_sees_an_extend,
                        law_14_a_forked_child_sees_an_extend,
                        law_40_without_an_answer_the_known_deadline_counts,
                        NULL,
        };

        return run_tests_with_daemon("shared-reader", tests);
}
