/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "lib/remote/watch.h"
#include "tests/lib/shared/daemon.h"
#include "tests/lib/shared/keeping-daemon.h"

/* The library's thread, and the descriptor that says that a daemon is gone, as the client comes to another
 * daemon. */

static bool is_slow;

/* The thread that watches is woken in between. */
int __real_dup3(int from, int to, int flags);
int __wrap_dup3(int from, int to, int flags);
int __wrap_dup3(int from, int to, int flags)
{
        if (is_slow) {
                watch_kick();
                usleep(300000);
        }
        return __real_dup3(from, to, flags);
}

static int sleep_in_child(void *unused)
{
        for (;;)
                pause();
        return 0;
}

/* How many entries of the set have that number. */
static int n_entries(int fd)
{
        char path[64], line[256];
        int n = 0, target;
        FILE *f;

        snprintf(path, sizeof path, "/proc/self/fdinfo/%d", watch_epoll_fd);
        f = fopen(path, "re");
        ck_assert_ptr_nonnull(f);
        while (fgets(line, sizeof line, f))
                n += sscanf(line, "tfd: %d", &target) == 1 && target == fd;
        fclose(f);
        return n;
}

static void ignore(void *unused) {}

/* A child of a fork has the old file, too: so it does not leave the set by being closed here. */
START_TEST(the_file_of_an_earlier_daemon_leaves_the_set)
{
        struct kept kept = {};
        pid_t first, second, child;
        struct ctx_client *client;
        struct ctx_after *after;
        struct ctx *ctx;

        kept_init(&kept);
        first = keeping_daemon_start(&kept, 1, true);
        client = ctx_client_new(kept.address);
        ck_assert_ptr_nonnull(client);
        ctx = ctx_create(client, "kept", NULL);
        after = ctx_after_func(ctx, ignore, NULL);
        ck_assert_ptr_nonnull(after);
        ck_assert_happens(n_entries(watch_alive_fd(client)) == 1);
        child = run_child(sleep_in_child, NULL);
        kill(first, SIGSTOP);
        ck_assert_happens(task_state(first, first) == 'T');
        second = keeping_daemon_start(&kept, 2, true);
        ck_assert_int_eq(shutdown(sd_bus_get_fd(client->bus), SHUT_RDWR), 0);
        is_slow = true;
        ctx_unref(ctx_open(client, "kept"));
        is_slow = false;
        ck_assert_happens(n_entries(watch_alive_fd(client)) > 0);
        usleep(100000);
        ck_assert_int_eq(n_entries(watch_alive_fd(client)), 1);
        ctx_after_stop_wait(after);
        ctx_after_unref(after);
        ctx_unref(ctx);
        ctx_client_unref(client);
        keeping_daemon_kill(first);
        keeping_daemon_kill(second);
        keeping_daemon_kill(child);
        kept_deinit(&kept);
}
END_TEST

static bool visit(struct remote_context *remote, void *visits)
{
        ((unsigned *) visits)[remote->id % 8]++;
        return true;
}

static _Atomic bool has_enough;

static void *go_through_all(void *client)
{
        while (!has_enough)
                (void) client_tell_done(client);
        return NULL;
}

/* Whether a new daemon knows them is asked by one thread, while another one looks which are done. */
START_TEST(each_is_visited_whoever_else_goes_through_them)
{
        struct ctx *contexts[4];
        struct ctx_client *client;
        struct daemon daemon = {};
        pthread_t thread;

        daemon_start(&daemon, NULL);
        client = new_client();
        for (size_t i = 0; i < 4; i++)
                contexts[i] = make(client, fresh_path());
        ck_assert_int_eq(pthread_create(&thread, NULL, go_through_all, client), 0);
        for (int round = 0; round < 50000; round++) {
                unsigned visits[8] = {}, n = 0;

                ck_assert_uint_eq(client_count_each(client, visit, visits), 4);
                for (size_t i = 0; i < 8; i++)
                        n += visits[i] == 1;
                ck_assert_uint_eq(n, 4);
        }
        has_enough = true;
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        for (size_t i = 0; i < 4; i++)
                ctx_unref(contexts[i]);
        ctx_client_unref(client);
        daemon_stop(&daemon);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {the_file_of_an_earlier_daemon_leaves_the_set,
                        each_is_visited_whoever_else_goes_through_them, NULL};

        return run_tests("shared-watch", tests);
}
