/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "tests/harness/bus.h"
#include "tests/lib/shared/daemon.h"

/* Law 42 for shared contexts: ctx_err() and ctx_cancel() in a handler of a timer's signal, which interrupts
 * the thread again and again, inside malloc() and inside the library. */

#define NOBODY 65534
#define STEP_NSEC 150000
/* Longer than all of this takes on a busy machine. */
#define TOO_LONG_SEC 240

static struct ctx_client *client;

/* What the handler cancels, one with each signal, and what was derived from it. */
static struct target {
        char path[64];
        struct ctx *ctx, *local, *below;
        int before, r, after, again;
} * targets;
static unsigned n_targets;
static _Atomic unsigned n_cancelled;
/* What it only looks at. */
static struct ctx *looked_at;
static _Atomic int seen;

static void handler(int signal)
{
        int saved = errno;
        unsigned n = n_cancelled;

        if (looked_at)
                seen = ctx_err(looked_at);
        if (n < n_targets) {
                struct target *t = &targets[n];

                t->before = ctx_err(t->local);
                t->r = ctx_cancel(n % 3 == 2 ? t->local : t->ctx);
                t->after = ctx_err(n % 3 == 2 ? t->local : t->ctx);
                t->again = ctx_cancel(n % 3 == 2 ? t->local : t->ctx);
                n_cancelled = n + 1;
        }
        errno = saved;
}

static void *watch_clock(void *unused)
{
        sigset_t all;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, NULL);
        for (int i = 0; i < TOO_LONG_SEC * 10; i++)
                usleep(100000);
        fprintf(stderr, "The handler hangs at %u of %u\n", n_cancelled, n_targets);
        abort();
}

static timer_t start_signals(void)
{
        struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
        struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
        struct itimerspec every = {{.tv_nsec = STEP_NSEC}, {.tv_nsec = STEP_NSEC}};
        pthread_t thread;
        timer_t timer;

        ck_assert_int_eq(pthread_create(&thread, NULL, watch_clock, NULL), 0);
        pthread_detach(thread);
        event._sigev_un._tid = gettid();
        sigaction(SIGUSR1, &action, NULL);
        ck_assert_int_eq(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
        ck_assert_int_eq(timer_settime(timer, 0, &every, NULL), 0);
        return timer;
}

static void make_targets(unsigned n)
{
        targets = calloc(n, sizeof *targets);
        for (unsigned i = 0; i < n; i++) {
                struct target *t = &targets[i];

                strcpy(t->path, fresh_path());
                t->ctx = make(client, t->path);
                t->local = ctx_with_cancel(t->ctx);
                t->below = ctx_with_cancel(t->local);
        }
        n_cancelled = 0;
        n_targets = n;
}

static void free_targets(void)
{
        for (unsigned i = 0; i < n_targets; i++) {
                ctx_unref(targets[i].below);
                ctx_unref(targets[i].local);
                ctx_unref(targets[i].ctx);
        }
        free(targets);
}

static void all_are_done(void)
{
        for (unsigned i = 0; i < n_targets; i++) {
                struct target *t = &targets[i];

                ck_assert_msg(t->before == 0 && t->r == 1, "%u: before %d, cancel %d", i, t->before, t->r);
                ck_assert_int_eq(t->after, -ECANCELED);
                ck_assert_int_eq(t->again, 0);
                ck_assert_int_eq(ctx_err(t->local), -ECANCELED);
                ck_assert_int_eq(ctx_err(t->below), -ECANCELED);
                ck_assert_int_eq(ctx_err(t->ctx), i % 3 == 2 ? 0 : -ECANCELED);
        }
}

/* -- What is interrupted --------------------------------------------------------------------------------- */

/* Chunks of all sizes, so that most calls need the lock of malloc(). */
static void use_malloc(unsigned n)
{
        void *p[16];

        for (size_t i = 0; i < 16; i++)
                p[i] = malloc((n * 7919 + i * 104729) % 5000 + 1);
        for (size_t i = 0; i < 16; i++)
                free(p[i]);
}

static void use_library(unsigned n)
{
        struct ctx *ctx, *local;
        struct ctx_client *other;
        const char *text;

        switch (n % 6) {
        case 0:
                ctx = make(client, fresh_path());
                (void) ctx_cancel(ctx);
                ctx_unref(ctx);
                break;
        case 1:
                ctx = make(client, fresh_path());
                (void) ctx_cancel_cause(ctx, EPIPE, "a text");
                ck_assert_int_eq(ctx_cause(ctx, NULL, &text), 1);
                ctx_unref(ctx);
                break;
        case 2:
                ctx = make(client, fresh_path());
                local = ctx_with_timeout(ctx, 60000000);
                ck_assert_int_ge(ctx_done_fd(ctx), 0);
                ck_assert_int_eq(ctx_wait(local, 100), 0);
                ck_assert_int_eq(ctx_release(ctx), 0);
                ctx_unref(local);
                ctx_unref(ctx);
                break;
        case 3:
                other = new_client();
                ctx = make(other, fresh_path());
                ctx_unref(ctx);
                ctx_client_unref(other);
                break;
        case 4:
                ck_assert_ptr_eq(ctx_open(client, "there-is-none"), NULL);
                ck_assert_str_ne(ctx_client_error(client), "");
                break;
        default:
                for (int i = 0; i < 20; i++) {
                        local = ctx_with_cancel(targets[n_targets - 1].ctx);
                        ctx_cancel(local);
                        ctx_unref(local);
                }
        }
}

static void work_until_all_is_cancelled(bool with_library)
{
        timer_t timer = start_signals();

        for (unsigned n = 0; n_cancelled < n_targets; n++) {
                use_malloc(n);
                if (with_library && n % 8 == 0)
                        use_library(n / 8);
        }
        timer_delete(timer);
}

/* Another process opens all of them, and sees their end. */
static int other_process(void *fds)
{
        struct ctx_client *own = new_client();
        struct ctx **ctx = calloc(n_targets, sizeof(struct ctx *));
        char byte;

        for (unsigned i = 0; i < n_targets; i++)
                ck_assert_ptr_ne((ctx[i] = ctx_open(own, targets[i].path)), NULL);
        ck_assert_int_eq(write(((int *) fds)[1], "", 1), 1);
        ck_assert_int_eq(read(((int *) fds)[2], &byte, 1), 1);
        for (unsigned i = 0; i < n_targets; i++)
                if (i % 3 == 2)
                        ck_assert_int_eq(ctx_err(ctx[i]), 0);
                else if (*(const bool *) (const void *) &((int *) fds)[4])
                        ck_assert_happens(ctx_err(ctx[i]) == -ECANCELED);
                else
                        ck_assert_int_eq(ctx_err(ctx[i]), -ECANCELED);
        return 0;
}

/* fds: the reader's way to us, ours to it; and whether it may take a moment. */
static pid_t start_other(int fds[5], bool later)
{
        char byte;
        pid_t pid;

        ck_assert_int_eq(pipe(fds), 0);
        ck_assert_int_eq(pipe(fds + 2), 0);
        fds[4] = later;
        pid = run_child(other_process, fds);
        ck_assert_int_eq(read(fds[0], &byte, 1), 1);
        return pid;
}

static void ask_other(pid_t pid, int fds[5])
{
        ck_assert_int_eq(write(fds[3], "", 1), 1);
        ck_assert_int_eq(wait_child(pid), 0);
        for (int i = 0; i < 4; i++)
                close(fds[i]);
}

/* Law 5: what was cancelled there is done everywhere when the cancel returns. */
static void cancel_all(bool with_library)
{
        int fds[5];
        pid_t pid;

        client = new_client();
        make_targets(2000);
        pid = start_other(fds, false);
        work_until_all_is_cancelled(with_library);
        all_are_done();
        ask_other(pid, fds);
        free_targets();
        ctx_client_unref(client);
}

START_TEST(law_42_a_cancel_that_interrupts_malloc)
{
        cancel_all(false);
}
END_TEST

START_TEST(law_42_a_cancel_that_interrupts_the_library)
{
        cancel_all(true);
}
END_TEST

/* -- Without an answer ----------------------------------------------------------------------------------- */

START_TEST(law_42_a_cancel_while_the_daemon_is_stopped)
{
        int fds[5];
        pid_t pid;

        client = new_client();
        make_targets(8);
        pid = start_other(fds, true);
        daemon_freeze();
        work_until_all_is_cancelled(false);
        all_are_done();
        daemon_thaw();
        ask_other(pid, fds);
        free_targets();
        ctx_client_unref(client);
}
END_TEST

START_TEST(law_42_a_cancel_while_the_daemon_is_gone)
{
        struct daemon mine = {};

        daemon_start(&mine, NULL);
        client = new_client();
        make_targets(300);
        daemon_kill(&mine);
        work_until_all_is_cancelled(false);
        all_are_done();
        daemon_again(&mine);
        free_targets();
        ctx_client_unref(client);
        daemon_stop(&mine);
}
END_TEST

/* -- Over a bus ------------------------------------------------------------------------------------------ */

/* There, the connection stays when the daemon goes, and another one may have its name. */
static void cancel_over(const char *program)
{
        struct private_bus bus = {};
        struct daemon mine = {};

        daemon_configure(&mine, NULL);
        bus_start(&bus, program, mine.directory);
        mine.bus = bus.address;
        daemon_again(&mine);
        client = ctx_client_new(bus.address);
        ck_assert_msg(client, "%s", ctx_client_error(NULL));
        make_targets(100);
        work_until_all_is_cancelled(false);
        all_are_done();
        free_targets();

        make_targets(50);
        daemon_kill(&mine);
        work_until_all_is_cancelled(false);
        all_are_done();
        daemon_again(&mine);
        free_targets();

        make_targets(50);
        work_until_all_is_cancelled(false);
        all_are_done();
        free_targets();
        ctx_client_unref(client);
        daemon_stop(&mine);
        bus_stop(&bus);
}

START_TEST(law_42_a_cancel_over_a_bus)
{
        cancel_over("dbus-daemon");
        cancel_over("dbus-broker");
}
END_TEST

/* -- Without a page -------------------------------------------------------------------------------------- */

static int look_as_nobody(void *path)
{
        timer_t timer;

        if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
                return 77;
        client = new_client();
        for (int i = 0; i < 100; i++) {
                char name[80];

                snprintf(name, sizeof name, "%s-%d", (const char *) path, i);
                looked_at = NULL;
                looked_at = ctx_open(client, name);
                ck_assert_ptr_ne(looked_at, NULL);
                seen = 0;
                timer = start_signals();
                for (unsigned n = 0; !seen; n++)
                        use_malloc(n);
                timer_delete(timer);
                ck_assert_int_eq(seen, i % 2 ? -ECANCELED : -ETIMEDOUT);
                ctx_unref(looked_at);
        }
        return 0;
}

START_TEST(law_42_err_of_another_users_context)
{
        char path[64];
        struct ctx *ctx[100];
        pid_t pid;

        if (getuid() != 0)
                return;
        client = new_client();
        ck_assert_int_eq(chmod(the_daemon.directory, 0711), 0);
        strcpy(path, fresh_path());
        for (int i = 0; i < 100; i++) {
                struct ctx_create_options options = CTX_CREATE_OPTIONS;
                char name[80];

                snprintf(name, sizeof name, "%s-%d", path, i);
                options.mode = 0744;
                if (i % 2 == 0)
                        options.deadline_usec = boottime_usec() + 3000000;
                ctx[i] = ctx_create(client, name, &options);
                ck_assert_ptr_ne(ctx[i], NULL);
        }
        pid = run_child(look_as_nobody, path);
        usleep(100000);
        for (int i = 1; i < 100; i += 2) {
                ck_assert_int_eq(ctx_cancel(ctx[i]), 1);
                usleep(1000);
        }
        ck_assert_int_eq(wait_child(pid) % 77, 0);
        for (int i = 0; i < 100; i++)
                ctx_unref(ctx[i]);
        ctx_client_unref(client);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {law_42_a_cancel_that_interrupts_malloc,
                        law_42_a_cancel_that_interrupts_the_library,
                        law_42_a_cancel_while_the_daemon_is_stopped, law_42_a_cancel_while_the_daemon_is_gone,
                        law_42_a_cancel_over_a_bus, law_42_err_of_another_users_context, NULL};

        return run_tests_with_daemon("shared-handler", tests);
}
