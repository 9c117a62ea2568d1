/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/model/user.h"
#include "daemon/world/given.h"
#include "util/foreign.h"
#include "tests/harness/base.h"
#include "tests/harness/process.h"
#include "tests/harness/suite.h"

/* What clients were given is closed by others, if ours is the last descriptor. */

static bool hidden; /* sd-bus closes by the C library's function */
static sd_event *event;
static struct foreign *foreign;
static struct users users;

static void setup(void)
{
        users.pools[POOL_DESCRIPTORS].limit = 65536;
        ck_assert_int_ge(sd_event_new(&event), 0);
        ck_assert_int_ge(foreign_new(&foreign, event), 0);
        ck_assert_int_ge(given_start(event, foreign, &users), 0);
}

static void teardown(void)
{
        given_stop();
        foreign_free(foreign);
        sd_event_unref(event);
}

static bool is_open(int fd)
{
        return fcntl(fd, F_GETFD) >= 0;
}

/* Both ends are of this process; the other one tells when the last descriptor of the first was closed. */
static void open_given(int ends[2])
{
        ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
        ck_assert_int_eq(given_mark(ends[1], 7), 0);
}

static bool has_hung_up(int end)
{
        return is_readable(end);
}

static void run_until_hung_up(int end)
{
        while (!has_hung_up(end))
                ck_assert_int_gt(sd_event_run(event, WIDE_SEC * UINT64_C(1000000)), 0);
}

static void run_until_closed(int fd)
{
        while (is_open(fd))
                ck_assert_int_gt(sd_event_run(event, WIDE_SEC * UINT64_C(1000000)), 0);
}

START_TEST(the_last_one_waits)
{
        int ends[2];

        open_given(ends);
        ck_assert_int_eq(close(ends[1]), 0);
        ck_assert(is_open(ends[1]));
        run_until_closed(ends[1]);
        run_until_hung_up(ends[0]);
        close(ends[0]);
}
END_TEST

START_TEST(others_of_the_file_do_not_wait)
{
        int ends[2], copy;

        open_given(ends);
        copy = fcntl(ends[1], F_DUPFD_CLOEXEC, 3);
        close(ends[1]);
        ck_assert(!is_open(ends[1]));
        close(copy);
        ck_assert(is_open(copy)); /* it is the last one now */
        run_until_closed(copy);
        run_until_hung_up(ends[0]);
        close(ends[0]);
}
END_TEST

START_TEST(what_was_not_sent_is_closed_at_once)
{
        int ends[2];

        open_given(ends);
        given_unmark(ends[1]);
        close(ends[1]);
        ck_assert(!is_open(ends[1]));
        close(ends[0]);
}
END_TEST

#define MANY 600 /* more than go together */

START_TEST(very_many)
{
        static int ends[MANY][2];

        for (int i = 0; i < MANY; i++)
                open_given(ends[i]);
        for (int i = 0; i < MANY; i++)
                close(ends[i][1]);
        for (int i = 0; i < MANY; i++) {
                run_until_hung_up(ends[i][0]);
                close(ends[i][0]);
        }
        ck_assert_uint_eq(users.n, 0);
}
END_TEST

/* The process that looks for others has a copy of the marks, and other descriptors. */
START_TEST(a_fork_closes_what_it_wants)
{
        int ends[2];
        pid_t pid;

        open_given(ends);
        pid = fork_tied();
        if (pid == 0) {
                close(ends[1]);
                _exit(is_open(ends[1]));
        }
        wait_for(pid);
        given_unmark(ends[1]);
        close(ends[1]);
        close(ends[0]);
}
END_TEST

START_TEST(given_says_whether_it_takes_effect)
{
        ck_assert(given_takes_effect() == !hidden);
}
END_TEST

int main(int argc, char *argv[])
{
        Suite *suite = suite_create("given");
        TCase *c;

        hidden = argc > 1;
        c = add_case(suite, "given",
                        (const TTest *const[]){the_last_one_waits, others_of_the_file_do_not_wait,
                                        what_was_not_sent_is_closed_at_once, very_many,
                                        a_fork_closes_what_it_wants, given_says_whether_it_takes_effect,
                                        NULL});
        tcase_add_checked_fixture(c, setup, teardown);
        return run_suite(suite);
}
