/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Those who connect and say nothing, or may not connect at all, cost the daemon next to nothing, and whoever
 * connects behind a crowd is let in soon (law 48). */

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "inside.h"

#define CROWD 200
#define LIMIT 5

static int ends[CROWD][2];

static int take(unsigned i)
{
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends[i]), 0);
        return connection_accept(&service, ends[i][1], getuid());
}

static bool has_ended(int fd)
{
        char byte;

        return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

/* All that is made for a connection comes after it has said something: a pidfd of its process, say. */
START_TEST(law_48_who_says_nothing_is_not_served)
{
        unsigned before = count_fds(getpid());

        for (unsigned i = 0; i < CROWD; i++)
                ck_assert_int_ge(take(i), 0);
        run_deaf();
        ck_assert_uint_eq(count_fds(getpid()), before + 2 * CROWD);
        ck_assert_uint_eq(service.n_connections, CROWD);
        for (unsigned i = 0; i < CROWD; i++)
                close(ends[i][0]);
        run_deaf();
        ck_assert_uint_eq(service.n_connections, 0);
        ck_assert_uint_eq(count_fds(getpid()), before);
}
END_TEST

/* Also when it was not looked at before it went, and when it goes in the middle of its first line. */
START_TEST(who_goes_at_once)
{
        for (unsigned i = 0; i < CROWD; i++) {
                ck_assert_int_ge(take(i), 0);
                if (i % 2)
                        ck_assert_int_eq(write(ends[i][0], "", 1), 1);
                close(ends[i][0]);
        }
        run_deaf();
        ck_assert_uint_eq(service.n_connections, 0);
}
END_TEST

START_TEST(who_speaks_late_is_served)
{
        static const char first[] = "\0AUTH EXTERNAL\r\nDATA\r\n";
        char answer[256] = "";

        ck_assert_int_ge(take(0), 0);
        run_deaf();
        ck_assert_int_eq(write(ends[0][0], first, sizeof first - 1), sizeof first - 1);
        run_deaf();
        ck_assert_int_gt(recv(ends[0][0], answer, sizeof answer - 1, MSG_DONTWAIT), 0);
        ck_assert_ptr_nonnull(strstr(answer, "OK "));
        close(ends[0][0]);
        run_deaf();
        ck_assert_uint_eq(service.n_connections, 0);
}
END_TEST

START_TEST(who_is_over_the_limit_is_closed_at_once)
{
        tree->users.limit[RESOURCE_CONNECTIONS] = LIMIT;
        for (unsigned i = 0; i < CROWD; i++)
                ck_assert_int_eq(take(i), i < LIMIT ? 0 : -EDQUOT);
        ck_assert_uint_eq(service.n_connections, LIMIT);
        for (unsigned i = LIMIT; i < CROWD; i++) {
                ck_assert(has_ended(ends[i][0]));
                close(ends[i][0]);
        }
        close(ends[0][0]);
        run_deaf();
        ck_assert_int_eq(take(0), 0);
        for (unsigned i = 0; i < LIMIT; i++)
                close(ends[i][0]);
        run_deaf();
        ck_assert_uint_eq(service.n_connections, 0);
}
END_TEST

static char directory[] = "/tmp/ctxd-test-connects-XXXXXX";
static struct sockaddr_un address = {.sun_family = AF_UNIX};

static void listen_there(void)
{
        const char *why;

        ck_assert_ptr_nonnull(mkdtemp(directory));
        snprintf(address.sun_path, sizeof address.sun_path, "%s/bus", directory);
        ck_assert_int_ge(service_listen(&service, address.sun_path, &why), 0);
}

static int connect_there(void)
{
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (connect(fd, (struct sockaddr *) &address, sizeof address) == 0)
                return fd;
        ck_assert_int_eq(errno, EAGAIN);
        close(fd);
        return -1;
}

/* As many as the kernel lets wait. */
static unsigned fill_queue(void)
{
        unsigned n = 0;

        while (n < CROWD && (ends[n][0] = connect_there()) >= 0)
                n++;
        return n;
}

static void hang_up(unsigned n)
{
        while (n > 0)
                close(ends[--n][0]);
        run_deaf();
        ck_assert_uint_eq(service.n_connections, 0);
        service_deinit(&service); /* it removes its socket */
        ck_assert_int_eq(rmdir(directory), 0);
        ck_assert_int_ge(service_init(&service, event, tree), 0);
}

/* Who connects last is behind the queue, which is short for that. */
START_TEST(law_48_the_queue_is_short)
{
        unsigned n;

        listen_there();
        n = fill_queue();
        ck_assert_uint_ge(n, 16);
        ck_assert_uint_le(n, 130);
        run_deaf();
        ck_assert_uint_eq(service.n_connections, n);
        hang_up(n);
}
END_TEST

#define CALLERS 100
#define CALLS 200

/* And others of that crowd do not come between: they have their turns when all have been let in. */
START_TEST(law_48_to_be_let_in_comes_before_the_turns_of_a_crowd)
{
        unsigned n;

        listen_there();
        for (unsigned i = 0; i < CALLERS; i++)
                client_new();
        run();
        for (unsigned i = 0; i < CALLERS; i++)
                for (unsigned k = 0; k < CALLS; k++)
                        SEND(&clients[i], "Err", "s", "/");
        n = fill_queue();
        while (service.n_connections < CALLERS + n)
                ck_assert_int_gt(sd_event_run(event, SECOND), 0);
        ck_assert_uint_lt(n_heard(), CALLERS * CALLS / 20);
        run();
        ck_assert_uint_eq(n_heard(), CALLERS * CALLS);
        while (n_clients > 0)
                sd_bus_close_unref(clients[--n_clients].bus);
        hang_up(n);
}
END_TEST

/* Not in the loop's epoll set: to watch one more socket would take a mutex that all users of the machine
 * share. */
START_TEST(law_48_the_set_of_sockets_is_not_nested)
{
        char path[64], line[256];
        FILE *f;
        int fd;

        snprintf(path, sizeof path, "/proc/self/fdinfo/%d", sd_event_get_fd(event));
        f = fopen(path, "re");
        ck_assert_ptr_nonnull(f);
        ck_assert_int_ne(service.turns.set.aio, 0);
        while (fgets(line, sizeof line, f))
                if (sscanf(line, "tfd: %d", &fd) == 1)
                        ck_assert_int_ne(fd, service.turns.set.fd);
        fclose(f);
}
END_TEST

int main(void)
{
        Suite *s = suite_create("connects");
        TCase *c = add_case(s, "connects",
                        (const TTest *const[]){law_48_who_says_nothing_is_not_served, who_goes_at_once,
                                        who_speaks_late_is_served, who_is_over_the_limit_is_closed_at_once,
                                        law_48_the_queue_is_short,
                                        law_48_to_be_let_in_comes_before_the_turns_of_a_crowd,
                                        law_48_the_set_of_sockets_is_not_nested, NULL});

        tcase_add_checked_fixture(c, inside_setup, inside_teardown);
        return run_suite(s);
}
