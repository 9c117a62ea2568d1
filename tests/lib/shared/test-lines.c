/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "tests/lib/shared/daemon.h"
#include "tests/lib/shared/keeping-daemon.h"

/* Law 42 on the lines by which a signal handler asks the daemon: where they lead to when there are several
 * daemons, and when the process has other rights than before. (Where none can be had: test-no-line.c.) */

#define NOBODY 65534

static struct ctx *target;
static int result;

/* Sockets that lead somewhere. */
static uint64_t connected(void)
{
        uint64_t set = 0;

        for (int fd = 0; fd < 64; fd++) {
                struct sockaddr_un peer;
                socklen_t length = sizeof peer;

                set |= (uint64_t) (getpeername(fd, (struct sockaddr *) &peer, &length) == 0) << fd;
        }
        return set;
}

/* Of those that have come since, the first is sd-bus's, and the others are lines. */
static void end_lines(uint64_t before)
{
        uint64_t since = connected() & ~before;

        ck_assert_uint_ne(since, 0);
        for (since &= since - 1; since != 0; since &= since - 1)
                ck_assert_int_eq(shutdown(__builtin_ctzll(since), SHUT_RDWR), 0);
}

/* -- Several daemons ------------------------------------------------------------------------------------- */

/* The one before has lost the context to the one that is there now, but has not ended. */
START_TEST(law_42_a_line_to_an_earlier_daemon_is_not_used)
{
        struct kept kept = {};
        struct ctx_client *client;
        uint64_t before = connected();
        pid_t first, second;
        struct ctx *ctx;

        kept_init(&kept);
        first = keeping_daemon_start(&kept, 1, true);
        client = ctx_client_new(kept.address);
        ck_assert_ptr_nonnull(client);
        ctx = ctx_create(client, "kept", NULL);
        ck_assert_ptr_nonnull(ctx);
        kill(first, SIGSTOP);
        ck_assert_happens(task_state(first, first) == 'T');
        second = keeping_daemon_start(&kept, 2, true);
        ck_assert_int_eq(shutdown(__builtin_ctzll(connected() & ~before), SHUT_RDWR), 0);
        ctx_unref(ctx_open(client, "kept"));
        ck_assert_int_eq(cancel_in_handler(ctx), 1);
        ck_assert_str_eq(kept.state->cause, "by daemon 2");
        ctx_unref(ctx);
        ctx_client_unref(client);
        keeping_daemon_kill(second);
        keeping_daemon_kill(first);
        kept_deinit(&kept);
}
END_TEST

struct elsewhere {
        char path[64];
        int ready[2], go[2];
};

static int look_at_another_users(void *userdata)
{
        struct elsewhere *e = userdata;
        uint64_t before = connected();
        struct ctx_client *client;
        const char *message;
        struct ctx *ctx;
        char byte;

        if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
                return 1;
        client = new_client();
        ctx = ctx_open(client, e->path);
        ck_assert_msg(ctx, "%s", ctx_client_error(client));
        ck_assert_int_eq(ctx_err(ctx), 0);
        end_lines(before);
        ck_assert_int_eq(write(e->ready[1], "", 1), 1);
        ck_assert_int_eq(read(e->go[0], &byte, 1), 1);
        ck_assert_int_lt(ctx_err(ctx), 0);
        ck_assert_int_eq(ctx_cause(ctx, NULL, &message), 1);
        ck_assert_str_ne(message, "ctxd was stopped");
        return 0;
}

/* Its daemon is there, and another one has the address now, which knows nothing of it. */
START_TEST(law_42_a_line_to_another_daemon_says_nothing)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct daemon first = {}, second;
        struct elsewhere e = {};
        struct ctx_client *client;
        char before[192], after[200];
        struct ctx *ctx;
        pid_t pid;

        if (getuid() != 0)
                return;
        daemon_start(&first, NULL);
        ck_assert_int_eq(chmod(first.directory, 0711), 0);
        client = new_client();
        options.mode = 0755;
        options.deadline_usec = boottime_usec() + 2000000;
        strcpy(e.path, "/shown");
        ctx = ctx_create(client, e.path, &options);
        ck_assert_ptr_nonnull(ctx);
        ck_assert(pipe(e.ready) == 0 && pipe(e.go) == 0);
        pid = run_child(look_at_another_users, &e);
        ck_assert_int_eq(read(e.ready[0], before, 1), 1);
        snprintf(before, sizeof before, "%s", first.address + strlen("unix:path="));
        snprintf(after, sizeof after, "%s-before", before);
        ck_assert_int_eq(rename(before, after), 0);
        second = first;
        daemon_launch(&second);
        ck_assert(daemon_becomes_ready(&second));
        while (boottime_usec() <= options.deadline_usec)
                usleep(10000);
        ck_assert_int_eq(write(e.go[1], "", 1), 1);
        ck_assert_int_eq(wait_child(pid), 0);
        ctx_unref(ctx);
        ctx_client_unref(client);
        daemon_kill(&first);
        daemon_stop(&second);
}
END_TEST

/* -- A process that has other rights than before --------------------------------------------------------- */

static void go_on_and_cancel(int signal)
{
        kill(the_daemon.pid, SIGCONT);
        result = ctx_cancel(target);
}

/* The handler interrupts a call that has the line. */
static int cancel_with_less_rights(void *unused)
{
        struct itimerval soon = {.it_value.tv_usec = 50000};
        struct ctx_client *client = new_client();
        struct ctx *ctx[3];

        for (int i = 0; i < 3; i++)
                ctx[i] = make(client, fresh_path());
        if (setegid(NOBODY) < 0 || seteuid(NOBODY) < 0)
                return 1;
        target = ctx[1];
        signal(SIGALRM, go_on_and_cancel);
        daemon_freeze();
        ck_assert_int_eq(setitimer(ITIMER_REAL, &soon, NULL), 0);
        ck_assert_int_eq(ctx_cancel(ctx[0]), 1);
        ck_assert_int_eq(result, 1);
        ck_assert_int_eq(ctx_cancel(ctx[2]), 1);
        for (int i = 0; i < 3; i++)
                ctx_unref(ctx[i]);
        ctx_client_unref(client);
        return 0;
}

/* What it may by the connection that it has, it may by each line. */
START_TEST(law_42_a_process_that_has_given_up_rights)
{
        if (getuid() != 0)
                return;
        ck_assert_int_eq(chmod(the_daemon.directory, 0711), 0);
        ck_assert_int_eq(wait_child(run_child(cancel_with_less_rights, NULL)), 0);
}
END_TEST

static void cancel_with_more_rights(int signal)
{
        ck_assert(seteuid(0) == 0 && setegid(0) == 0);
        kill(the_daemon.pid, SIGCONT);
        (void) !ctx_cancel(target);
        ck_assert(setegid(NOBODY) == 0 && seteuid(NOBODY) == 0);
}

static int keep_no_rights(void *path)
{
        struct itimerval soon = {.it_value.tv_usec = 50000};
        struct ctx_client *client;
        struct ctx *ctx[2], *of_root;

        if (setegid(NOBODY) < 0 || seteuid(NOBODY) < 0)
                return 1;
        client = new_client();
        of_root = ctx_open(client, path);
        ck_assert_msg(of_root, "%s", ctx_client_error(client));
        for (int i = 0; i < 2; i++)
                ctx[i] = make(client, i == 0 ? "~/first" : "~/second");
        ck_assert_int_eq(ctx_cancel(of_root), -EACCES);
        target = ctx[1];
        signal(SIGALRM, cancel_with_more_rights);
        daemon_freeze();
        ck_assert_int_eq(setitimer(ITIMER_REAL, &soon, NULL), 0);
        ck_assert_int_eq(ctx_cancel(ctx[0]), 1);
        ck_assert_int_eq(ctx_cancel(of_root), -EACCES);
        return 0;
}

/* The rights that it has for a moment are not kept with a line. */
START_TEST(law_46_a_process_that_has_rights_for_a_moment)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx_client *client = new_client();
        char path[64];
        struct ctx *ctx;

        if (getuid() != 0)
                return;
        ck_assert_int_eq(chmod(the_daemon.directory, 0711), 0);
        options.mode = 0755;
        strcpy(path, fresh_path());
        ctx = ctx_create(client, path, &options);
        ck_assert_ptr_nonnull(ctx);
        ck_assert_int_eq(wait_child(run_child(keep_no_rights, path)), 0);
        ck_assert_int_eq(ctx_err(ctx), 0);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_42_a_line_to_an_earlier_daemon_is_not_used,
                        law_42_a_line_to_another_daemon_says_nothing,
                        law_42_a_process_that_has_given_up_rights,
                        law_46_a_process_that_has_rights_for_a_moment,
                        NULL,
        };

        return run_tests_with_daemon("shared-lines", tests);
}
