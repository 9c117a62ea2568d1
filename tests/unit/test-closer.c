/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/closer.h"
#include "tests/harness/suite.h"

static struct closer closer;

static void setup(void)
{
        ck_assert_int_eq(closer_start(&closer), 0);
}

static void teardown(void)
{
        close(closer.jobs);
        close(closer.keeps);
        ck_assert_int_eq(waitpid(closer.pid, NULL, 0), closer.pid);
}

static bool is_closed(int peer, int msec)
{
        struct pollfd p = {.fd = peer, .events = POLLIN};

        return poll(&p, 1, msec) > 0 && p.revents & POLLHUP;
}

/* Expects that the peer of this socket is not closed before whoever has given it away is done with it: else
 * the last close could be here, and could hang here. Returns when it is closed. */
static void close_elsewhere(int jobs, uint64_t serial, int *own)
{
        const struct closer_job job = {.serial = serial, .kind = CLOSER_CLOSE};
        const struct closer_job drop = {.kind = CLOSER_DROP};
        struct closer_answer answer;
        int ends[2], fd;

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        ck_assert_int_eq(closer_send(jobs, &job, sizeof job, ends[0], 0), 0);
        close(ends[0]);
        ck_assert_int_eq(closer_receive(jobs, &answer, sizeof answer, &fd, 0), 1);
        ck_assert_uint_eq(answer.serial, serial);
        ck_assert(answer.foreign);
        if (*own < 0)
                *own = fd;
        ck_assert(!is_closed(ends[1], 50));
        ck_assert_int_eq(closer_send(*own, &drop, sizeof drop, -1, 0), 0);
        ck_assert(is_closed(ends[1], WIDE_SEC * 1000));
        ck_assert_int_eq(closer_receive(*own, &answer, sizeof answer, &fd, 0), 1);
        ck_assert_uint_eq(answer.serial, 0);
        close(ends[1]);
}

START_TEST(the_last_close_is_elsewhere)
{
        int own = -1;

        close_elsewhere(closer.jobs, 1, &own);
        ck_assert_int_ge(own, 0);
        close_elsewhere(own, 2, &own);
        close(own);
}
END_TEST

/* Sends a socket in which a descriptor waits. Returns who has found it, with a socket of its own. */
static pid_t look_at(int found, bool steps_back, int *ret_own)
{
        const struct closer_job job = {.serial = 1,
                                                .kind = CLOSER_LOOK,
                                                .size = 1,
                                                .steps_back_for_large = steps_back},
                                drop = {.kind = CLOSER_DROP};
        struct closer_answer answer;
        int ends[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        ck_assert_int_eq(closer_send(ends[0], "", 1, found, 0), 0);
        close(found);
        ck_assert_int_eq(closer_send(closer.jobs, &job, sizeof job, ends[1], 0), 0);
        ck_assert_int_eq(closer_receive(closer.jobs, &answer, sizeof answer, ret_own, 0), 1);
        ck_assert(answer.foreign && answer.leaves);
        close(ends[1]); /* with what is in it */
        close(ends[0]);
        ck_assert_int_eq(closer_send(*ret_own, &drop, sizeof drop, -1, 0), 0);
        return answer.pid;
}

/* Who looks for a sender must be quick. */
START_TEST(what_is_large_is_closed_by_one_that_ends)
{
        int file = memfd_create("large", MFD_CLOEXEC), own, none;
        struct closer_answer answer;
        pid_t pid;

        ck_assert_int_eq(fallocate(file, 0, 0, 16 << 20), 0);
        pid = look_at(file, true, &own);
        ck_assert_int_eq(closer_receive(own, &answer, sizeof answer, &none, 0), 0);
        ck_assert_int_eq(closer_receive(closer.jobs, &answer, sizeof answer, &none, 0), 1);
        ck_assert_uint_eq(answer.serial, 0);
        ck_assert_int_eq(answer.pid, pid);
        close(own);
}
END_TEST

START_TEST(what_is_small_is_closed_by_one_that_stays)
{
        struct closer_answer answer;
        int own, none;
        pid_t pid = look_at(memfd_create("small", MFD_CLOEXEC), true, &own);

        ck_assert_int_eq(closer_receive(own, &answer, sizeof answer, &none, 0), 1);
        ck_assert_uint_eq(answer.serial, 0);
        ck_assert_int_eq(answer.pid, pid);
        close(own);
}
END_TEST

int main(void)
{
        Suite *suite = suite_create("closer");
        TCase *c = add_case(suite, "closer",
                        (const TTest *const[]){the_last_close_is_elsewhere,
                                        what_is_large_is_closed_by_one_that_ends,
                                        what_is_small_is_closed_by_one_that_stays, NULL});

        tcase_add_checked_fixture(c, fds_before, fds_after);
        tcase_add_checked_fixture(c, setup, teardown);
        return run_suite(suite);
}
