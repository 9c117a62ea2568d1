/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/closer.h"
#include "util/foreign-jobs.h"
#include "tests/harness/base.h"
#include "tests/harness/process.h"
#include "tests/harness/suite.h"

static sd_event *event;
static struct foreign *foreign;

static void setup(void)
{
        ck_assert_int_ge(sd_event_new(&event), 0);
        ck_assert_int_ge(foreign_new(&foreign, event), 0);
}

static void teardown(void)
{
        foreign_free(foreign);
        sd_event_unref(event);
}

/* A table without room, for new descriptors. */
static void fill_table(struct rlimit *ret_before)
{
        struct rlimit none;

        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, ret_before), 0);
        none = (struct rlimit){3, ret_before->rlim_max};
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
}

/* Who has looked is told at a socket of its own that the daemon has closed. Where that cannot be received, it
 * does not wait: so what it has seen must not be closed by the daemon. */
START_TEST(no_room_for_who_keeps_what_is_foreign)
{
        struct look l = {.foreign = foreign, .party = 1, .uid = 1};
        const struct closer_job byte = {};
        struct rlimit before;
        int ends[2], file[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        ck_assert_int_eq(pipe(file), 0);
        ck_assert_int_eq(closer_send(ends[0], &byte, sizeof byte, file[0], 0), 0);
        ck_assert_int_eq(foreign_look(&l, ends[1], sizeof byte), 0);
        fill_table(&before);
        ck_assert_int_eq(foreign_wait(&l, WIDE_SEC * UINT64_C(1000000)), 0);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
        ck_assert(!l.only_pidfds);
        ck_assert_uint_eq(l.n_fds, CLOSER_NOT_ALL);
        ck_assert_ptr_null(l.hand);
        foreign_forget(&l);
        for (int i = 0; i < 2; i++) {
                close(ends[i]);
                close(file[i]);
        }
}
END_TEST

static void stop(pid_t pid)
{
        ck_assert_int_eq(kill(pid, SIGSTOP), 0);
        ck_assert_happens(task_state(pid, pid) == 'T');
}

static void note(void *owned)
{
        *(bool *) owned = true;
}

/* One of those who wait for jobs has died, and it may have been that one who had the job. */
START_TEST(who_leaves_counts_also_where_another_was_killed)
{
        pid_t hands[CHILDREN_MAX];
        bool is_released = false;
        int ends[2];

        ck_assert_happens(children_of(foreign->pid, hands) == 2);
        stop(foreign->pid);
        stop(hands[1]);
        ck_assert_int_eq(kill(hands[0], SIGKILL), 0);
        ck_assert_happens(task_state(hands[0], hands[0]) == 'Z');
        ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
        ck_assert_int_eq(foreign_close(foreign, 1, 1, &ends[1], 1, note, &is_released), 0);
        ck_assert_int_eq(kill(foreign->pid, SIGCONT), 0);
        while (!is_readable(ends[0]))
                ck_assert_int_ge(sd_event_run(event, 10000), 0);
        ck_assert(is_released);
        ck_assert_uint_eq(foreign->n_hands, 1);
        ck_assert_int_eq(kill(hands[1], SIGCONT), 0);
        close(ends[0]);
}
END_TEST

int main(void)
{
        Suite *suite = suite_create("foreign");
        TCase *c = add_case(suite, "foreign",
                        (const TTest *const[]){no_room_for_who_keeps_what_is_foreign,
                                        who_leaves_counts_also_where_another_was_killed, NULL});

        tcase_add_checked_fixture(c, fds_before, fds_after);
        tcase_add_checked_fixture(c, setup, teardown);
        return run_suite(suite);
}
