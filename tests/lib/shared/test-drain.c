/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/lib/shared/daemon.h"

/* Laws 29 and 31 through the library: lifelines, and waiting until nobody is left. */

#define LONG_USEC UINT64_C(30000000)
#define SHORT_USEC UINT64_C(100000)

/* A member that lives until it is killed, or gets signal on cancel (0: none). */
static struct ctx_task *start_member(struct ctx *ctx, int signal)
{
        struct ctx_spawn_options options = CTX_SPAWN_OPTIONS;
        struct ctx_task *task;

        options.signal = signal;
        task = ctx_spawn(ctx, (char *[]){"sleep", "1000", NULL}, &options);
        ck_assert_msg(task, "%s: %s", strerror(errno), ctx_client_error(NULL));
        return task;
}

/* Returns the signal that has ended it. */
static int end_member(struct ctx_task *task, bool kill_it)
{
        int status;

        if (kill_it) /* its own pid is not told: through the pidfd */
                ck_assert_int_eq(syscall(SYS_pidfd_send_signal, ctx_task_pidfd(task), SIGKILL, NULL, 0), 0);
        ck_assert_int_eq(ctx_task_wait(task, &status), 0);
        ctx_task_unref(task);
        return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static struct ctx *make_below(struct ctx_client *client, struct ctx *parent, const char *label)
{
        char path[200];

        snprintf(path, sizeof path, "%.*s/%s", (int) strcspn(ctx_path(parent), "#"), ctx_path(parent), label);
        return make(client, path);
}

/* What the daemon has seen before now, it has acted upon. */
static void round_trip(struct ctx_client *client, struct ctx *ctx)
{
        for (int i = 0; i < 3; i++)
                ctx_unref(ctx_open(client, ctx_path(ctx)));
}

struct holder {
        const char *path; /* to ask for a lifeline of its own, or NULL: with what it has inherited */
        int ready;
};

static int hold(void *userdata)
{
        const struct holder *h = userdata;

        if (h->path) {
                struct ctx_client *client = new_client();
                struct ctx *ctx = ctx_open(client, h->path);

                if (!ctx || ctx_lifeline_fd(ctx) < 0)
                        return 1;
        }
        if (write(h->ready, "r", 1) != 1)
                return 2;
        for (;;)
                pause();
}

static void lifeline_in_two_processes(bool inherited)
{
        struct ctx_client *client = new_client();
        const char *path = fresh_path(), *message;
        struct ctx *ctx = make(client, path);
        int own = ctx_lifeline_fd(ctx), more = ctx_lifeline_fd(ctx), ready[2], error;
        struct holder h;
        char byte;
        pid_t pid;

        ck_assert_int_ge(own, 0);
        ck_assert_int_ge(more, 0);
        ck_assert_int_ne(own, more);
        ck_assert_int_eq(fcntl(own, F_GETFD), FD_CLOEXEC);
        ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
        h = (struct holder){inherited ? NULL : path, ready[1]};
        if (!inherited) { /* the child is not to have ours as well */
                ck_assert_int_eq(close(more), 0);
                more = -1;
        }
        pid = run_child(hold, &h);
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);

        /* One holder's close is none. */
        close(own);
        if (more >= 0)
                close(more);
        round_trip(client, ctx);
        ck_assert_int_eq(ctx_err(ctx), 0);

        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        ck_assert_int_eq(ctx_wait(ctx, LONG_USEC), -ECANCELED);
        ck_assert_int_eq(ctx_cause(ctx, &error, &message), 1);
        ck_assert_int_eq(error, ECANCELED);
        ck_assert_str_eq(message, "lifeline closed");
        ck_assert_int_eq(ctx_lifeline_fd(ctx), -EALREADY);
        close(ready[0]);
        close(ready[1]);
        ctx_unref(ctx);
        ctx_client_unref(client);
}

START_TEST(last_close_of_a_lifeline_cancels)
{
        lifeline_in_two_processes(true);
        lifeline_in_two_processes(false);
}
END_TEST

START_TEST(close_of_the_only_lifeline_cancels_what_is_below)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path()), *below = make_below(client, ctx, "below");
        struct ctx *local = ctx_with_cancel(below);
        int fd = ctx_lifeline_fd(ctx);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(ctx_err(local), 0);
        close(fd);
        ck_assert_int_eq(ctx_wait(local, LONG_USEC), -ECANCELED);
        ctx_unref(local);
        ctx_unref(below);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

/* 0 once it is drained, 1 if it was before the word on told. */
static int wait_until_drained(void *userdata)
{
        const struct holder *h = userdata;
        struct ctx_client *client = new_client();
        struct ctx *ctx = ctx_open(client, h->path);
        int fd = ctx ? ctx_drained_fd(ctx) : -1;

        if (fd < 0 || is_readable(fd))
                return 1;
        if (write(h->ready, "r", 1) != 1 || !becomes_readable(fd) || ctx_err(ctx) != -ECANCELED)
                return 2;
        return 0;
}

START_TEST(drained_when_the_last_member_has_left)
{
        struct ctx_client *client = new_client();
        struct holder h = {.path = fresh_path()};
        struct ctx *ctx = make(client, h.path), *below = make_below(client, ctx, "below"), *late;
        struct ctx_task *one, *two;
        int fd = ctx_drained_fd(ctx), ready[2];
        char byte;
        pid_t pid;

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(ctx_drained_fd(ctx), fd);
        one = start_member(ctx, 0);
        two = start_member(below, 0);
        ck_assert_int_eq(pipe(ready), 0);
        h.ready = ready[1];
        pid = run_child(wait_until_drained, &h);
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);

        ck_assert_int_eq(ctx_cancel(ctx), 1);
        round_trip(client, ctx);
        ck_assert(!is_readable(fd));
        end_member(one, true);
        round_trip(client, ctx);
        ck_assert(!is_readable(fd)); /* the other one is in a context below */
        ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
        end_member(two, true);
        ck_assert(becomes_readable(fd));
        ck_assert_int_eq(wait_child(pid), 0);

        late = ctx_open(client, ctx_path(ctx)); /* who asks afterwards */
        ck_assert(is_readable(ctx_drained_fd(late)));
        ctx_unref(late);
        close(ready[0]);
        close(ready[1]);
        ctx_unref(below);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

START_TEST(an_active_one_is_not_drained)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path());
        int fd = ctx_drained_fd(ctx);

        end_member(start_member(ctx, 0), true);
        round_trip(client, ctx);
        ck_assert(!is_readable(fd));
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert(becomes_readable(fd));
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

START_TEST(cancel_wait_returns_when_all_have_left)
{
        struct ctx_client *client = new_client();
        struct ctx *empty = make(client, fresh_path()), *ctx = make(client, fresh_path());
        struct ctx_task *task;

        ck_assert_int_eq(ctx_cancel_wait(empty, LONG_USEC), 1);
        ck_assert_int_eq(ctx_cancel_wait(empty, UINT64_MAX), 0);
        ck_assert_int_eq(ctx_release(empty), 0);

        task = start_member(ctx, SIGTERM);
        ck_assert_int_eq(ctx_cancel_wait(ctx, LONG_USEC), 1);
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        ck_assert(becomes_readable(ctx_task_pidfd(task)));
        ck_assert_int_eq(end_member(task, false), SIGTERM);
        ctx_unref(empty);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

START_TEST(cancel_wait_says_that_somebody_has_not_left)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path());
        struct ctx_task *task = start_member(ctx, 0);
        uint64_t before = boottime_usec();

        ck_assert_int_eq(ctx_cancel_wait(ctx, SHORT_USEC), -ETIMEDOUT);
        ck_assert_uint_ge(boottime_usec(), before + SHORT_USEC);
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        ck_assert_int_eq(ctx_cancel_wait(ctx, 0), -ETIMEDOUT);
        end_member(task, true);
        ck_assert_int_eq(ctx_cancel_wait(ctx, LONG_USEC), 0);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

START_TEST(a_forgotten_one_has_drained)
{
        struct ctx_client *client;
        struct daemon daemon = {};
        struct ctx *ctx;

        daemon_start(&daemon, "[Daemon]\nRetainSec=50ms\n");
        client = new_client();
        ctx = make(client, "a");
        ck_assert_int_eq(ctx_cancel_wait(ctx, LONG_USEC), 1);
        for (int i = 0; i < 3000; i++) {
                struct ctx *same = ctx_open(client, ctx_path(ctx));

                if (!same)
                        break;
                ctx_unref(same);
                usleep(20000);
        }
        ck_assert_int_eq(ctx_drained_fd(ctx), -ENOENT);
        ck_assert_int_eq(ctx_cancel_wait(ctx, UINT64_MAX), 0);
        ctx_unref(ctx);
        ctx_client_unref(client);
        daemon_stop(&daemon);
}
END_TEST

static int cancel_and_wait(void *userdata)
{
        const struct holder *h = userdata;
        struct ctx_client *client = new_client();
        struct ctx *ctx = ctx_open(client, h->path);
        int r = ctx ? ctx_cancel_wait(ctx, UINT64_MAX) : 0;

        return r < 0 && r != -ETIMEDOUT ? 0 : 1;
}

static bool holds_an_eventfd(pid_t pid)
{
        char path[64], target[64];

        for (int fd = 3; fd < 64; fd++) {
                ssize_t n;

                snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
                n = readlink(path, target, sizeof target - 1);
                target[n < 0 ? 0 : n] = '\0';
                if (strstr(target, "[eventfd]"))
                        return true;
        }
        return false;
}

START_TEST(cancel_wait_does_not_wait_for_a_daemon_that_is_gone)
{
        struct holder h = {.path = "a"};
        struct ctx_client *client;
        struct ctx_task *task;
        struct daemon daemon = {};
        struct ctx *ctx;
        pid_t pid;

        daemon_start(&daemon, NULL);
        client = new_client();
        ctx = make(client, h.path);
        task = start_member(ctx, 0);
        pid = run_child(cancel_and_wait, &h);
        ck_assert_happens(holds_an_eventfd(pid));
        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
        kill(daemon.pid, SIGKILL);
        ck_assert_int_eq(wait_child(pid), 0);
        daemon_restart(&daemon);
        end_member(task, true);
        ctx_unref(ctx);
        ctx_client_unref(client);
        daemon_stop(&daemon);
}
END_TEST

START_TEST(of_the_wrong_kind)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path()), *local = ctx_with_cancel(ctx);
        struct ctx *readonly = ctx_readonly(ctx);
        struct ctx *const wrong[] = {NULL, local, ctx_background()};

        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
                ck_assert_int_eq(ctx_drained_fd(wrong[i]), -EINVAL);
                ck_assert_int_eq(ctx_lifeline_fd(wrong[i]), -EINVAL);
                ck_assert_int_eq(ctx_cancel_wait(wrong[i], 0), -EINVAL);
        }
        ck_assert_int_eq(ctx_err(local), 0);
        ck_assert_int_eq(ctx_lifeline_fd(readonly), -EPERM);
        ck_assert_int_eq(ctx_cancel_wait(readonly, 0), -EPERM);
        ck_assert_int_eq(ctx_err(ctx), 0);
        ck_assert_int_eq(ctx_drained_fd(readonly), ctx_drained_fd(ctx));
        ctx_unref(readonly);
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_client_unref(client);
}
END_TEST

/* What the parent had asked for works; what needs its connection does not. */
static int use_the_parents(void *userdata)
{
        struct ctx **contexts = userdata; /* one with the descriptor, one without */

        if (ctx_drained_fd(contexts[0]) < 0 || is_readable(ctx_drained_fd(contexts[0])))
                return 1;
        if (ctx_drained_fd(contexts[1]) != -ECHILD || ctx_lifeline_fd(contexts[0]) != -ECHILD)
                return 2;
        return ctx_cancel_wait(contexts[0], 0) == -ECHILD && ctx_err(contexts[0]) == 0 ? 0 : 3;
}

START_TEST(after_a_fork)
{
        struct ctx_client *client = new_client();
        struct ctx *contexts[] = {make(client, fresh_path()), make(client, fresh_path())};

        ck_assert_int_ge(ctx_drained_fd(contexts[0]), 0);
        ck_assert_int_eq(wait_child(run_child(use_the_parents, contexts)), 0);
        ctx_unref(contexts[0]);
        ctx_unref(contexts[1]);
        ctx_client_unref(client);
}
END_TEST

START_TEST(no_descriptor_is_left)
{
        struct ctx_client *client = new_client();
        struct ctx *ctx = make(client, fresh_path()); /* maps the pages */
        unsigned before;

        ck_assert_int_ge(ctx_drained_fd(ctx), 0); /* the library's own descriptor */
        ctx_unref(ctx);
        before = count_fds(getpid());
        for (int i = 0; i < 3; i++) {
                struct ctx_task *task;
                int lifeline;

                ctx = make(client, fresh_path());
                lifeline = ctx_lifeline_fd(ctx);
                ck_assert_int_ge(ctx_drained_fd(ctx), 0);
                task = start_member(ctx, 0);
                ck_assert_int_eq(ctx_cancel_wait(ctx, 1000), -ETIMEDOUT);
                end_member(task, true);
                ck_assert_int_eq(ctx_cancel_wait(ctx, LONG_USEC), 0);
                close(lifeline);
                ctx_unref(ctx);
        }
        ck_assert_uint_eq(count_fds(getpid()), before);
        ctx_client_unref(client);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        last_close_of_a_lifeline_cancels,
                        close_of_the_only_lifeline_cancels_what_is_below,
                        drained_when_the_last_member_has_left,
                        an_active_one_is_not_drained,
                        cancel_wait_returns_when_all_have_left,
                        cancel_wait_says_that_somebody_has_not_left,
                        a_forgotten_one_has_drained,
                        cancel_wait_does_not_wait_for_a_daemon_that_is_gone,
                        of_the_wrong_kind,
                        after_a_fork,
                        no_descriptor_is_left,
                        NULL,
        };

        return run_tests_with_daemon("shared-drain", tests);
}
