/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>

#include "tests/lib/shared/daemon.h"

/* What becomes of shared contexts when their daemon is killed, is stopped, comes back without them, or does
 * not come back. Whoever waits is told, however it waits, and nobody is told too early. (A daemon that comes
 * back with them is in test-recovery.c.) */

#define STOPPED "ctxd was stopped"

static void is_lost(struct ctx *ctx)
{
        const char *message;
        int error;

        ck_assert_int_eq(ctx_err(ctx), -ECANCELED);
        ck_assert_int_eq(ctx_cause(ctx, &error, &message), 1);
        ck_assert_int_eq(error, ECANCELED);
        ck_assert_str_eq(message, STOPPED);
}

/* -- Ways to wait. Each is the business of one thread, or of the library's.
 * -------------------------------------- */

struct waiter {
        struct ctx *ctx;
        int r;
        pthread_t thread;
};

static struct ctx_mutex locked = {1};

static void *in_wait(void *userdata)
{
        struct waiter *w = userdata;

        w->r = ctx_wait(w->ctx, UINT64_MAX);
        return NULL;
}

static void *in_poll(void *userdata)
{
        struct waiter *w = userdata;
        int fds[2];

        ck_assert_int_eq(pipe(fds), 0);
        w->r = ctx_poll(w->ctx, &(struct pollfd){.fd = fds[0], .events = POLLIN}, 1, UINT64_MAX);
        close(fds[0]);
        close(fds[1]);
        return NULL;
}

static void *in_read(void *userdata)
{
        struct waiter *w = userdata;
        int fds[2];
        char byte;

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        w->r = (int) ctx_read(w->ctx, fds[0], &byte, 1);
        close(fds[0]);
        close(fds[1]);
        return NULL;
}

static void *in_lock(void *userdata)
{
        struct waiter *w = userdata;

        w->r = ctx_mutex_lock(w->ctx, &locked);
        return NULL;
}

static void *(*const ways[])(void *) = {in_wait, in_poll, in_read, in_lock};
#define N_WAYS (sizeof ways / sizeof *ways)

static void start_waiting(struct waiter *waiters, struct ctx *ctx)
{
        for (size_t i = 0; i < N_WAYS; i++) {
                waiters[i] = (struct waiter){.ctx = ctx};
                ck_assert_int_eq(pthread_create(&waiters[i].thread, NULL, ways[i], waiters + i), 0);
        }
}

static void have_waited(struct waiter *waiters)
{
        for (size_t i = 0; i < N_WAYS; i++) {
                ck_assert_int_eq(pthread_join(waiters[i].thread, NULL), 0);
                ck_assert_msg(waiters[i].r == -ECANCELED, "way %zu: %d", i, waiters[i].r);
        }
}

static void count(void *userdata)
{
        atomic_fetch_add((_Atomic int *) userdata, 1);
}

/* Everything that waits, in one process, for one context and one below it. */
struct company {
        struct ctx *ctx, *local, *merge;
        struct waiter own[N_WAYS], below[N_WAYS], merged[N_WAYS];
        struct ctx_after *after;
        _Atomic int called;
        int done_fd, local_fd, drained_fd;
};

static void gather(struct company *c, struct ctx *ctx, struct ctx *other)
{
        *c = (struct company){.ctx = ctx};
        c->local = ctx_with_cancel(ctx);
        c->merge = ctx_merge(ctx_background(), (struct ctx *[]){ctx, other}, 2);
        c->done_fd = ctx_done_fd(ctx);
        c->local_fd = ctx_done_fd(c->local);
        c->drained_fd = ctx_drained_fd(ctx);
        ck_assert_int_ge(c->done_fd, 0);
        ck_assert_int_ge(c->local_fd, 0);
        ck_assert_int_ge(c->drained_fd, 0);
        c->after = ctx_after_func(c->local, count, &c->called);
        ck_assert_ptr_nonnull(c->after);
        start_waiting(c->own, ctx);
        start_waiting(c->below, c->local);
        start_waiting(c->merged, c->merge);
}

/* Since then the daemon is gone, or will be. A machine that was too slow has nothing to show. */
static void nobody_was_told(struct company *c, uint64_t since_usec)
{
        bool told = is_readable(c->done_fd) || is_readable(c->local_fd) || is_readable(c->drained_fd) ||
                    c->called || ctx_err(c->ctx) || ctx_err(c->local);

        ck_assert(!told || boottime_usec() - since_usec > CTX_DAEMON_GRACE_USEC * 9 / 10);
}

static void all_were_told(struct company *c)
{
        have_waited(c->own);
        have_waited(c->below);
        have_waited(c->merged);
        ck_assert(becomes_readable(c->done_fd));
        ck_assert(becomes_readable(c->local_fd));
        ck_assert(becomes_readable(c->drained_fd));
        while (c->called == 0)
                usleep(1000);
        ck_assert_int_eq(ctx_after_stop_wait(c->after), 0);
        ck_assert_int_eq(c->called, 1);
        is_lost(c->ctx);
        is_lost(c->local);
        is_lost(c->merge);
        ctx_after_unref(c->after);
        ctx_unref(c->merge);
        ctx_unref(c->local);
        ctx_unref(c->ctx);
}

/* The library looks for the daemon by itself: nothing is called meanwhile. */
START_TEST(a_daemon_that_comes_back_without_them)
{
        struct ctx_client *client;
        struct ctx *other, *new;
        struct company company;
        struct daemon daemon = {};
        uint64_t killed;

        daemon_start(&daemon, NULL);
        client = new_client();
        other = make(client, "b");
        gather(&company, make(client, "a"), other);
        killed = boottime_usec();
        daemon_kill(&daemon);
        usleep(200000);
        nobody_was_told(&company, killed);
        daemon_again(&daemon);
        all_were_told(&company);

        /* It counts from the start again: who has the number of a lost one has nothing else of it. */
        new = make(client, "a");
        ck_assert_int_eq(ctx_err(new), 0);
        ck_assert(!is_readable(ctx_done_fd(new)));
        ck_assert(!is_readable(ctx_drained_fd(new)));
        ck_assert_int_eq(ctx_cancel(other), 0);
        is_lost(other);
        ck_assert_int_eq(ctx_err(new), 0);
        ck_assert_int_eq(ctx_cancel(new), 1);
        ctx_unref(other);
        ctx_unref(new);
        ctx_client_unref(client);
        daemon_stop(&daemon);
}
END_TEST

START_TEST(a_call_finds_the_new_daemon)
{
        struct ctx_client *client;
        struct daemon daemon = {};
        struct ctx *ctx, *same, *new;

        daemon_start(&daemon, NULL);
        client = new_client();
        ctx = make(client, "a");
        same = ctx_open(client, ctx_path(ctx));
        ck_assert_int_eq(ctx_enter(ctx), 0);
        daemon_restart(&daemon);
        ck_assert_uint_eq(count_threads(), 1);
        new = make(client, "a");
        is_lost(ctx);
        is_lost(same);
        ck_assert(is_readable(ctx_done_fd(same)));
        ck_assert_int_eq(ctx_cancel(same), 0);
        ck_assert_int_eq(ctx_cancel_wait(same, 0), -ENOENT);
        ck_assert_int_eq(ctx_extend(same, boottime_usec() + 1000000), -ENOENT);
        ck_assert_int_eq(ctx_release(same), -ENOENT);
        ck_assert_int_eq(ctx_lifeline_fd(same), -ENOENT);
        ck_assert_int_eq(ctx_drained_fd(same), -ENOENT);
        ck_assert_int_eq(ctx_attach(same, 0, NULL), -ENOENT);
        ck_assert_ptr_null(ctx_value_string(same, "org.example.key"));
        ck_assert_int_eq(errno, ENOENT);
        ck_assert_str_ne(ctx_client_error(client), "");
        ck_assert_int_eq(ctx_err(new), 0); /* which has its path and its number */
        ck_assert_int_eq(ctx_wait(ctx, UINT64_MAX), -ECANCELED);
        ctx_leave(ctx);
        ck_assert_int_eq(ctx_enter(new), 0); /* in a page of the new daemon */
        ck_assert_int_eq(ctx_cancel_wait(new, 1000), -ETIMEDOUT);
        ctx_leave(new);
        ck_assert_int_eq(ctx_cancel_wait(new, 30000000), 0);
        ctx_unref(new);
        ctx_unref(same);
        ctx_unref(ctx);
        ctx_client_unref(client);
        daemon_stop(&daemon);
}
END_TEST

/* -- Nobody comes back. Those who wait do it side by side, since it takes as long as it takes.
 * -------------------- */

struct stage {
        struct daemon daemon;
        struct ctx *inherited;
        int ready[2], go[2];
};

/* When it began to wait, which was before the daemon was killed. */
static uint64_t wait_for_go(struct stage *s)
{
        uint64_t since = boottime_usec();
        char byte;

        if (write(s->ready[1], "r", 1) != 1)
                _exit(100);
        (void) !read(s->go[0], &byte, 1); /* the end of file is for all */
        return since;
}

/* Nothing but loads: no thread, no descriptor, no call. */
static int who_only_looks(void *userdata)
{
        struct stage *s = userdata;
        struct ctx_client *client;
        uint64_t since;
        struct ctx *ctx;

        close(s->go[1]);
        client = new_client();
        ctx = make(client, "looks");
        since = wait_for_go(s);
        while (ctx_err(ctx) == 0)
                usleep(5000);
        ck_assert_uint_ge(boottime_usec() - since, CTX_DAEMON_GRACE_USEC * 9 / 10);
        ck_assert_uint_eq(count_threads(), 1);
        is_lost(ctx);
        ck_assert(is_readable(ctx_done_fd(ctx)));
        return 0;
}

static int who_inherited(void *userdata)
{
        struct stage *s = userdata;
        uint64_t since;

        close(s->go[1]);
        since = wait_for_go(s);
        ck_assert_int_eq(ctx_wait(s->inherited, UINT64_MAX), -ECANCELED);
        ck_assert_uint_ge(boottime_usec() - since, CTX_DAEMON_GRACE_USEC * 9 / 10);
        is_lost(s->inherited);
        ck_assert_int_eq(ctx_cancel(s->inherited), -ECHILD);
        return 0;
}

static int who_waits(void *userdata)
{
        struct stage *s = userdata;
        struct ctx_client *client;
        struct company company;
        struct ctx *other;

        close(s->go[1]);
        client = new_client();
        other = make(client, "not-it");
        gather(&company, make(client, "waits"), other);
        nobody_was_told(&company, wait_for_go(s));
        all_were_told(&company);
        ck_assert_ptr_null(ctx_create(client, "c", NULL));
        ck_assert_str_ne(ctx_client_error(client), "");
        return 0;
}

/* It cannot even look for the daemon. */
static int who_has_no_descriptor_left(void *userdata)
{
        struct stage *s = userdata;
        struct ctx_client *client;
        struct ctx *ctx;

        close(s->go[1]);
        client = new_client();
        ctx = make(client, "full");
        ck_assert_int_ge(ctx_done_fd(ctx), 0);
        while (fcntl(0, F_DUPFD_CLOEXEC, 3) >= 0)
                ;
        wait_for_go(s);
        ck_assert_int_eq(ctx_wait(ctx, UINT64_MAX), -ECANCELED);
        is_lost(ctx);
        ck_assert(becomes_readable(ctx_done_fd(ctx)));
        return 0;
}

static int another_user(void *userdata)
{
        struct stage *s = userdata;
        struct ctx_client *client;
        struct company company;
        struct ctx *other, *ctx;

        close(s->go[1]);
        if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
                return 1;
        client = new_client();
        other = make(client, "~/x");
        ctx = ctx_open(client, "shown");
        ck_assert_msg(ctx, "%s", ctx_client_error(client));
        gather(&company, ctx, other);
        nobody_was_told(&company, wait_for_go(s));
        all_were_told(&company);
        return 0;
}

static struct ctx *show(struct ctx_client *client)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx *ctx;

        options.mode = 0755;
        ctx = ctx_create(client, "shown", &options);
        ck_assert_msg(ctx, "%s", ctx_client_error(client));
        return ctx;
}

START_TEST(nobody_comes_back)
{
        int (*const children[])(void *) = {
                        who_only_looks, who_inherited, who_waits, who_has_no_descriptor_left, another_user};
        size_t n = sizeof children / sizeof *children - (getuid() != 0);
        struct ctx_client *client;
        struct stage s = {};
        struct ctx *shown;
        pid_t pids[5];
        char byte;

        daemon_start(&s.daemon, NULL);
        ck_assert_int_eq(chmod(s.daemon.directory, 0711), 0);
        client = new_client();
        s.inherited = make(client, "inherited");
        shown = show(client);
        ck_assert_int_ge(ctx_done_fd(s.inherited), 0);
        ck_assert_int_eq(pipe2(s.ready, O_CLOEXEC), 0);
        ck_assert_int_eq(pipe2(s.go, O_CLOEXEC), 0);
        for (size_t i = 0; i < n; i++)
                pids[i] = run_child(children[i], &s);
        close(s.ready[1]);
        for (size_t i = 0; i < n; i++)
                ck_assert_int_eq(read(s.ready[0], &byte, 1), 1);
        daemon_kill(&s.daemon);
        close(s.go[1]);
        for (size_t i = 0; i < n; i++)
                ck_assert_msg(wait_child(pids[i]) == 0, "child %zu", i);
        daemon_again(&s.daemon);
        ctx_unref(shown);
        ctx_unref(s.inherited);
        ctx_client_unref(client);
        daemon_stop(&s.daemon);
}
END_TEST

/* Another user's context has no page: whether a new daemon knows it is asked. */
static int another_users_loss(void *userdata)
{
        struct stage *s = userdata;
        struct ctx_client *client;
        struct company company;
        struct ctx *other;

        close(s->go[1]);
        if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
                return 1;
        client = new_client();
        other = make(client, "~/x");
        gather(&company, ctx_open(client, "shown"), other);
        wait_for_go(s);
        all_were_told(&company);
        return 0;
}

START_TEST(a_context_of_another_user_is_lost)
{
        struct ctx_client *client;
        struct stage s = {};
        struct ctx *shown;
        pid_t pid;
        char byte;

        if (getuid() != 0)
                return;
        daemon_start(&s.daemon, NULL);
        ck_assert_int_eq(chmod(s.daemon.directory, 0711), 0);
        client = new_client();
        shown = show(client);
        ck_assert_int_eq(pipe2(s.ready, O_CLOEXEC), 0);
        ck_assert_int_eq(pipe2(s.go, O_CLOEXEC), 0);
        pid = run_child(another_users_loss, &s);
        close(s.ready[1]);
        ck_assert_int_eq(read(s.ready[0], &byte, 1), 1);
        daemon_restart(&s.daemon);
        close(s.go[1]);
        ck_assert_int_eq(wait_child(pid), 0);
        ctx_unref(shown);
        ctx_client_unref(client);
        daemon_stop(&s.daemon);
}
END_TEST

/* -- A stop in good order
 * ---------------------------------------------------------------------------------------- */

START_TEST(a_daemon_that_is_stopped_says_so)
{
        struct ctx *other, *before, *asked;
        struct ctx_client *client;
        struct company company;
        struct daemon daemon = {};
        const char *message;

        daemon_start(&daemon, NULL);
        client = new_client();
        other = make(client, "b");
        before = make(client, "before");
        asked = make(client, "asked");
        gather(&company, make(client, "a"), other);
        ck_assert_int_eq(ctx_cancel_cause(before, EPIPE, "nobody asks in time"), 1);
        ck_assert_int_eq(ctx_cancel_cause(asked, EPIPE, "went away"), 1);
        ck_assert_int_eq(ctx_cause(asked, NULL, &message), 1);
        daemon_stop(&daemon);
        is_lost(company.ctx); /* at once */
        all_were_told(&company);
        is_lost(other);
        ck_assert_int_eq(ctx_cause(asked, NULL, &message), 1);
        ck_assert_str_eq(message, "went away");
        ck_assert_int_eq(ctx_cause(before, NULL, &message), 1);
        ck_assert_str_eq(message, "context canceled");
        ctx_unref(asked);
        ctx_unref(before);
        ctx_unref(other);
        ctx_client_unref(client);
}
END_TEST

/* A deadline passes although nobody is there who watches it. */
START_TEST(a_deadline_while_nobody_is_there)
{
        struct ctx_create_options options = CTX_CREATE_OPTIONS;
        struct ctx_client *client;
        struct daemon daemon = {};
        struct waiter waiters[N_WAYS];
        struct ctx *ctx;
        int fd;

        daemon_start(&daemon, NULL);
        client = new_client();
        options.timeout_usec = 3000000;
        ctx = ctx_create(client, "a", &options);
        ck_assert_ptr_nonnull(ctx);
        fd = ctx_done_fd(ctx);
        start_waiting(waiters, ctx);
        daemon_kill(&daemon);
        for (size_t i = 0; i < N_WAYS; i++) {
                ck_assert_int_eq(pthread_join(waiters[i].thread, NULL), 0);
                ck_assert_int_eq(waiters[i].r, -ETIMEDOUT);
        }
        ck_assert(becomes_readable(fd));
        ck_assert_int_eq(ctx_err(ctx), -ETIMEDOUT);
        daemon_again(&daemon);
        ctx_unref(ctx);
        ctx_client_unref(client);
        daemon_stop(&daemon);
}
END_TEST

/* -- In the program's own loop: no thread, and still no call but those of the loop
 * -------------------------------- */

START_TEST(in_a_loop_of_the_programs_own)
{
        struct ctx_client *client;
        struct daemon daemon = {};
        struct ctx *ctx, *local;
        _Atomic int called = 0;
        int fd, local_fd;
        bool killed = false, again = false;

        daemon_start(&daemon, NULL);
        client = new_client();
        ctx = make(client, "a");
        ck_assert_int_ge(ctx_done_fd(ctx), 0); /* the library's thread gives way */
        ck_assert_uint_eq(count_threads(), 2);
        fd = ctx_client_get_fd(client);
        ck_assert_int_ge(fd, 0);
        ck_assert_uint_eq(count_threads(), 1);
        local = ctx_with_cancel(ctx);
        local_fd = ctx_done_fd(local);
        ctx_after_unref(ctx_after_func(local, count, &called));
        while (called == 0) {
                uint64_t usec = UINT64_MAX, now;
                struct timespec ts;
                int timeout = -1;

                ck_assert_int_ge(ctx_client_get_timeout(client, &usec), 0);
                clock_gettime(CLOCK_MONOTONIC, &ts);
                now = (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
                if (usec != UINT64_MAX)
                        timeout = usec > now ? (int) ((usec - now) / 1000 + 1) : 0;
                if (!killed) {
                        daemon_kill(&daemon);
                        killed = true;
                } else if (!again && timeout > 0) { /* it knows that the daemon is gone, and looks for it */
                        daemon_again(&daemon);
                        again = true;
                }
                poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, timeout);
                ck_assert_int_ge(ctx_client_process(client), 0);
        }
        ck_assert(again);
        ck_assert(is_readable(local_fd));
        is_lost(local);
        ck_assert_uint_eq(count_threads(), 1);
        while (ctx_client_process(client) > 0)
                ;
        ck_assert_int_eq(ctx_client_get_timeout(client, NULL), 0);
        ck_assert(!is_readable(fd));
        ctx_unref(local);
        ctx_unref(ctx);
        ctx_client_unref(client);
        daemon_stop(&daemon);
}
END_TEST

START_TEST(in_an_sd_event_loop)
{
        struct ctx_client *client;
        sd_event *event = NULL;
        struct daemon daemon = {};
        _Atomic int called = 0;
        struct ctx *ctx;

        daemon_start(&daemon, NULL);
        client = new_client();
        ctx = make(client, "a");
        ck_assert_int_ge(sd_event_new(&event), 0);
        ck_assert_int_eq(ctx_client_attach_event(client, event, 0), 0);
        ctx_after_unref(ctx_after_func(ctx, count, &called));
        daemon_restart(&daemon);
        while (called == 0)
                ck_assert_int_ge(sd_event_run(event, UINT64_MAX), 0);
        is_lost(ctx);
        ck_assert_uint_eq(count_threads(), 1);
        ck_assert_int_eq(ctx_client_detach_event(client), 1);
        sd_event_unref(event);
        ctx_unref(ctx);
        ctx_client_unref(client);
        daemon_stop(&daemon);
}
END_TEST

/* -- A socket that is there while the daemon is not, as systemd keeps it
 * ------------------------------------------- */

static int listen_at(const char *directory)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        snprintf(address.sun_path, sizeof address.sun_path, "%s/bus", directory);
        unlink(address.sun_path);
        ck_assert_int_eq(bind(fd, (struct sockaddr *) &address, sizeof address), 0);
        ck_assert_int_eq(listen(fd, 64), 0);
        return fd;
}

static void *create_later(void *userdata)
{
        struct ctx_client *client = userdata;
        struct ctx *ctx = make(client, "later");

        ck_assert_int_eq(ctx_cancel(ctx), 1);
        return ctx_unref(ctx);
}

START_TEST(who_calls_meanwhile_waits)
{
        struct ctx_client *client, *asleep;
        struct daemon daemon = {};
        struct company company;
        struct ctx *other;
        pthread_t thread;
        struct stat st;
        uint64_t killed;
        int fd;

        daemon_start(&daemon, NULL);
        daemon_kill(&daemon);
        fd = daemon.given = listen_at(daemon.directory);
        daemon_again(&daemon);
        client = new_client();
        asleep = new_client();
        other = make(asleep, "b");
        gather(&company, make(asleep, "a"), other);
        killed = boottime_usec();
        daemon_kill(&daemon);
        ck_assert_int_eq(pthread_create(&thread, NULL, create_later, client), 0);
        usleep(200000);
        ck_assert_int_eq(pthread_tryjoin_np(thread, NULL), EBUSY);
        nobody_was_told(&company, killed);
        daemon_again(&daemon);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        all_were_told(&company);
        ctx_unref(other);
        ctx_client_unref(asleep);
        ctx_client_unref(client);
        /* The name of the socket is not the daemon's. */
        kill(daemon.pid, SIGTERM);
        ck_assert_int_eq(waitpid(daemon.pid, NULL, 0), daemon.pid);
        ck_assert_int_eq(stat(daemon.address + strlen("unix:path="), &st), 0);
        close(fd);
        daemon.given = 0;
        daemon_again(&daemon);
        daemon_stop(&daemon);
}
END_TEST

/* -- No busy loop, no descriptor and no thread that stays
 * ---------------------------------------------------------- */

START_TEST(looking_for_it_costs_little)
{
        struct timespec before, after;
        struct ctx_client *client;
        struct daemon daemon = {};
        struct company company;
        struct ctx *other;
        unsigned fds;

        daemon_start(&daemon, NULL);
        client = new_client();
        other = make(client, "b");
        gather(&company, make(client, "a"), other);
        fds = count_fds(getpid());
        daemon_kill(&daemon);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
        usleep(3000000);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
        /* A busy thread would have used as much as there was. */
        ck_assert_int_lt((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000,
                        1000);
        daemon_again(&daemon);
        all_were_told(&company);
        for (int i = 0; i < 5; i++) {
                struct ctx *ctx = make(client, "c");

                daemon_restart(&daemon);
                ck_assert_int_eq(ctx_wait(ctx, UINT64_MAX), -ECANCELED);
                ctx_unref(ctx);
        }
        /* The last socket goes once the daemon has closed its side. */
        ck_assert_happens(count_fds(getpid()) <= fds);
        ctx_unref(other);
        ctx_client_unref(client);
        daemon_stop(&daemon);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        a_daemon_that_comes_back_without_them,
                        a_call_finds_the_new_daemon,
                        nobody_comes_back,
                        a_context_of_another_user_is_lost,
                        a_daemon_that_is_stopped_says_so,
                        a_deadline_while_nobody_is_there,
                        in_a_loop_of_the_programs_own,
                        in_an_sd_event_loop,
                        who_calls_meanwhile_waits,
                        looking_for_it_costs_little,
                        NULL,
        };

        return run_tests_with_daemon("shared-restart", tests);
}
