/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "tests/lib/shared/daemon.h"

/* What becomes of a cancel, and of a question, in a signal handler where no line to the daemon can be had. */

#define NOBODY 65534

struct elsewhere {
        char path[64];
        int ready[2], go[2];
};

static struct ctx *target;
static int result;

/* A client with a connection, and no descriptor for a line. The address has a second half. */
static struct ctx_client *new_client_without_line(int *ret_fds, int *ret_n)
{
        struct ctx_client *client = NULL;
        struct rlimit limit = {64, 64};
        char address[300];
        int n = 0;

        snprintf(address, sizeof address, "%s;unix:path=/there-is-none", the_daemon.address);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        while ((ret_fds[n] = fcntl(0, F_DUPFD_CLOEXEC, 3)) >= 0)
                n++;
        while (!client && n > 0) {
                close(ret_fds[--n]);
                client = ctx_client_new(address);
        }
        ck_assert_ptr_nonnull(client);
        *ret_n = n;
        return client;
}

/* What the handler finds out by the page, before anybody has settled anything. */
static struct ctx *same;
static int err_of_same;

static void cancel_and_look(int signal)
{
        result = ctx_cancel(target);
        err_of_same = ctx_err(same);
}

START_TEST(law_42_a_line_can_be_had_later)
{
        struct ctx_client *other = new_client(), *client;
        int fds[64], n;

        client = new_client_without_line(fds, &n);
        while (n > 0)
                close(fds[--n]);
        target = make(client, fresh_path());
        same = ctx_open(other, ctx_path(target));
        ck_assert_ptr_nonnull(same);
        signal(SIGUSR1, cancel_and_look);
        raise(SIGUSR1);
        ck_assert_int_eq(result, 1);
        ck_assert_int_eq(err_of_same, -ECANCELED);
        ctx_unref(same);
        ctx_unref(target);
        ctx_client_unref(client);
        ctx_client_unref(other);
}
END_TEST

static int cancel_without_a_line(void *path)
{
        struct ctx *ctx, *local;
        int fds[64], n;

        ctx = make(new_client_without_line(fds, &n), path);
        local = ctx_with_cancel(ctx);
        while (fcntl(0, F_DUPFD_CLOEXEC, 3) >= 0)
                ;
        ck_assert_int_eq(cancel_in_handler(ctx), 1);
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        ck_assert_int_eq(ctx_err(local), -ECANCELED);
        for (;;)
                pause();
}

static int cancel_with_one_connection(void *path)
{
        struct ctx *ctx = make(new_client(), path), *local = ctx_with_cancel(ctx);

        ck_assert_int_eq(cancel_in_handler(ctx), 1);
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        ck_assert_int_eq(ctx_err(local), -ECANCELED);
        for (;;)
                pause();
}

/* The daemon is told although the process calls nothing more. */
START_TEST(law_41_a_cancel_without_a_line_is_told)
{
        struct ctx_client *client = new_client();
        char path[64];
        struct ctx *ctx = NULL;
        pid_t pid;

        strcpy(path, fresh_path());
        pid = run_child(cancel_without_a_line, path);
        ck_assert_happens((ctx = ctx_open(client, path)));
        ck_assert_happens(ctx_err(ctx) == -ECANCELED);
        kill(pid, SIGKILL);
        wait_child(pid);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

/* The same where the daemon takes no more connections. */
START_TEST(law_41_a_cancel_whose_line_is_refused_is_told)
{
        struct daemon mine = {};
        struct ctx_client *client;
        char path[64];
        struct ctx *ctx = NULL;
        pid_t pid;

        daemon_start(&mine, "[Daemon]\nMaxConnectionsPerUser=3\n");
        client = new_client();
        strcpy(path, fresh_path());
        pid = run_child(cancel_with_one_connection, path);
        ck_assert_happens((ctx = ctx_open(client, path)));
        ck_assert_happens(ctx_err(ctx) == -ECANCELED);
        kill(pid, SIGKILL);
        wait_child(pid);
        ctx_unref(ctx);
        ctx_client_unref(client);
        daemon_stop(&mine);
}
END_TEST

static void fill_and_cancel(int signal)
{
        while (fcntl(0, F_DUPFD_CLOEXEC, 3) >= 0)
                ;
        kill(the_daemon.pid, SIGCONT);
        result = ctx_cancel(target);
}

static int cancel_beside_a_line(void *path)
{
        struct itimerval soon = {.it_value.tv_usec = 50000};
        struct rlimit limit = {64, 64};
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path());

        target = make(client, path);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        signal(SIGALRM, fill_and_cancel);
        daemon_freeze();
        ck_assert_int_eq(setitimer(ITIMER_REAL, &soon, NULL), 0);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_int_eq(result, 1);
        for (;;)
                pause();
}

/* The call that the handler has interrupted has the line. */
START_TEST(law_41_a_cancel_beside_the_only_line_is_told)
{
        struct ctx_client *client = new_client();
        char path[64];
        struct ctx *ctx = NULL;
        pid_t pid;

        strcpy(path, fresh_path());
        pid = run_child(cancel_beside_a_line, path);
        ck_assert_happens((ctx = ctx_open(client, path)));
        ck_assert_happens(ctx_err(ctx) == -ECANCELED);
        kill(pid, SIGKILL);
        wait_child(pid);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

static void look(int signal)
{
        result = ctx_err(target);
}

/* Opens the context as another user, with no line and no descriptor left for one, says so, and waits. */
static void open_without_a_line(struct elsewhere *e)
{
        struct ctx_client *client;
        int fds[64], n;
        char byte;

        ck_assert(setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
        client = new_client_without_line(fds, &n);
        while (n > 0)
                close(fds[--n]);
        target = ctx_open(client, e->path);
        ck_assert_msg(target, "%s", ctx_client_error(client));
        while (fcntl(0, F_DUPFD_CLOEXEC, 3) >= 0)
                ;
        ck_assert_int_eq(write(e->ready[1], "", 1), 1);
        ck_assert_int_eq(read(e->go[0], &byte, 1), 1);
}

/* Makes it for all to read, and has somebody open it so. */
static struct ctx *make_for_who_has_no_line(struct ctx_client *client, struct elsewhere *e,
                uint64_t deadline_usec, int (*fn)(void *userdata), pid_t *ret_pid)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx *ctx;
        char byte;

        ck_assert_int_eq(chmod(the_daemon.directory, 0711), 0);
        options.mode = 0755;
        options.deadline_usec = deadline_usec;
        strcpy(e->path, fresh_path());
        ctx = ctx_create(client, e->path, &options);
        ck_assert_ptr_nonnull(ctx);
        ck_assert(pipe(e->ready) == 0 && pipe(e->go) == 0);
        *ret_pid = run_child(fn, e);
        ck_assert_int_eq(read(e->ready[0], &byte, 1), 1);
        return ctx;
}

static int look_without_a_line(void *userdata)
{
        open_without_a_line(userdata);
        signal(SIGUSR1, look);
        raise(SIGUSR1);
        ck_assert_int_eq(result, 0);
        ck_assert_int_eq(ctx_err(target), 0);
        return 0;
}

/* The owner has moved the deadline, and this process can ask by no line. */
START_TEST(law_14_a_deadline_that_was_moved_and_no_line)
{
        uint64_t deadline_usec = boottime_usec() + 2000000;
        struct ctx_client *client = new_client();
        struct elsewhere e = {};
        struct ctx *ctx;
        pid_t pid;

        if (getuid() != 0)
                return;
        ctx = make_for_who_has_no_line(client, &e, deadline_usec, look_without_a_line, &pid);
        ck_assert_int_eq(ctx_extend(ctx, deadline_usec + UINT64_C(3600000000)), 0);
        while (boottime_usec() <= deadline_usec)
                usleep(10000);
        ck_assert_int_eq(write(e.go[1], "", 1), 1);
        ck_assert_int_eq(wait_child(pid), 0);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

static ucontext_t back, other;

static void wait_on_coroutine(void)
{
        result = ctx_wait(target, UINT64_MAX);
}

/* Of its stack it cannot be said that it is in no handler. */
static int wait_without_a_line(void *userdata)
{
        size_t size = 1 << 18;
        char *memory = mmap(NULL, 3 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        alarm(20);
        ck_assert_int_eq(mprotect(memory + size, size, PROT_READ | PROT_WRITE), 0);
        open_without_a_line(userdata);
        getcontext(&other);
        other.uc_stack.ss_sp = memory + size;
        other.uc_stack.ss_size = size;
        other.uc_link = &back;
        makecontext(&other, wait_on_coroutine, 0);
        swapcontext(&back, &other);
        ck_assert_int_eq(result, -ETIMEDOUT);
        return 0;
}

/* The daemon is stopped, so it does not say that the deadline has passed. */
START_TEST(law_40_a_wait_on_a_stack_of_the_programs_own)
{
        struct ctx_client *client = new_client();
        struct elsewhere e = {};
        struct ctx *ctx;
        pid_t pid;

        if (getuid() != 0)
                return;
        ctx = make_for_who_has_no_line(client, &e, boottime_usec() + 3000000, wait_without_a_line, &pid);
        daemon_freeze();
        ck_assert_int_eq(write(e.go[1], "", 1), 1);
        ck_assert_int_eq(wait_child(pid), 0);
        daemon_thaw();
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_42_a_line_can_be_had_later,
                        law_41_a_cancel_without_a_line_is_told,
                        law_41_a_cancel_whose_line_is_refused_is_told,
                        law_41_a_cancel_beside_the_only_line_is_told,
                        law_14_a_deadline_that_was_moved_and_no_line,
                        law_40_a_wait_on_a_stack_of_the_programs_own,
                        NULL,
        };

        return run_tests_with_daemon("shared-no-line", tests);
}
