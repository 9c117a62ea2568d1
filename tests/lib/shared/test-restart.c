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

#include "tests/lib/shared/company.h"

/* What becomes of shared contexts when their daemon is killed, and comes back without them. (One that comes
 * back with them is in test-recovery.c, and one that does not come back in test-gone.c.) */

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
                        a_context_of_another_user_is_lost,
                        in_a_loop_of_the_programs_own,
                        in_an_sd_event_loop,
                        who_calls_meanwhile_waits,
                        looking_for_it_costs_little,
                        NULL,
        };

        return run_tests_with_daemon("shared-restart", tests);
}
