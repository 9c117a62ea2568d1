/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The processes that look at descriptors of clients, and those that close them: how many there are, for whom,
 * and when they run. */

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "foreign.h"
#include "harness.h"
#include "raw.h"
#include "tests/harness/fuse.h"
#include "tests/world/group.h"

pid_t closer_of_daemon(void)
{
        return child_with_name(world.daemon.pid, "ctxd-closer");
}

unsigned hands_for_all(pid_t closer, pid_t *ret_pids)
{
        unsigned n;

        ck_assert_happens((n = children_of(closer, ret_pids)) <= 2);
        return n;
}

/* The processes that look at descriptors are started again. */
START_TEST(the_one_who_looks_is_killed)
{
        pid_t pid = closer_of_daemon(), again;

        ck_assert_int_gt(pid, 0);
        nap(1100000); /* who ends sooner is not started again at once */
        run_as(BOB, attach_self, NULL);
        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        ck_assert_happens((again = closer_of_daemon()) > 0 && again != pid);
        run_as(BOB, attach_self, NULL);
        work(bus, 5);
}
END_TEST

/* Also where they end as soon as they were started. */
START_TEST(the_one_who_looks_is_killed_again_and_again)
{
        pid_t pid = closer_of_daemon(), again;

        for (int i = 0; i < 3; i++, pid = again) {
                ck_assert_int_eq(kill(pid, SIGKILL), 0);
                if (i == 1)
                        run_as(BOB, attach_self, NULL); /* waits until there is one who looks */
                ck_assert_happens((again = closer_of_daemon()) > 0 && again != pid);
        }
        run_as(BOB, attach_self, NULL);
        work(bus, 5);
}
END_TEST

/* And where that fails at first, here for want of descriptors. */
START_TEST(the_one_who_looks_cannot_be_started)
{
        struct rlimit before, none;

        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, NULL, &before), 0);
        none = (struct rlimit){4, before.rlim_max};
        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, &none, NULL), 0);
        ck_assert_int_eq(kill(closer_of_daemon(), SIGKILL), 0);
        ck_assert_happens(closer_of_daemon() == 0);
        nap(2500000);
        ck_assert_int_eq(closer_of_daemon(), 0);
        ck_assert_int_eq(prlimit(world.daemon.pid, RLIMIT_NOFILE, &before, NULL), 0);
        run_as(BOB, attach_self, NULL);
        work(bus, 5);
}
END_TEST

static unsigned table_size(pid_t pid)
{
        char path[64], line[128];
        unsigned size = 0;
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/status", pid);
        f = fopen(path, "re");
        ck_assert_ptr_nonnull(f);
        while (fgets(line, sizeof line, f) && sscanf(line, "FDSize: %u", &size) != 1)
                ;
        fclose(f);
        return size;
}

/* The daemon would wait for all CPUs each time, since it shares the table. */
START_TEST(the_table_does_not_grow)
{
        unsigned before = table_size(world.daemon.pid);
        int fds[300];

        for (unsigned i = 0; i < ELEMENTSOF(fds); i++)
                ck_assert_int_ge(fds[i] = raw_connect(), 0);
        ck_assert_uint_gt(count_fds(world.daemon.pid), ELEMENTSOF(fds));
        ck_assert_uint_eq(table_size(world.daemon.pid), before);
        for (unsigned i = 0; i < ELEMENTSOF(fds); i++)
                close(fds[i]);
}
END_TEST

unsigned new_closers(pid_t closer)
{
        static pid_t known[CHILDREN_MAX];
        static unsigned n_known;
        pid_t pids[CHILDREN_MAX];
        unsigned n = children_of(closer, pids), fresh = 0;

        for (unsigned i = 0; i < n; i++) {
                unsigned k;

                for (k = 0; k < n_known && known[k] != pids[i]; k++)
                        ;
                fresh += k == n_known;
        }
        memcpy(known, pids, n * sizeof *pids);
        n_known = n;
        return fresh;
}

/* How many of the processes that look at descriptors run when nobody else wants to, or all others. */
static unsigned closers_that_step_back(pid_t closer, bool which)
{
        pid_t pids[CHILDREN_MAX];
        unsigned n = children_of(closer, pids), found = 0;

        for (unsigned i = 0; i < n; i++) {
                int policy = sched_getscheduler(pids[i]);

                found += policy >= 0 && (policy == SCHED_IDLE) == which;
        }
        return found;
}

#define FILES 50
#define AT_MOST (FILES / 5) /* processes */

static void attach_files(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        pid_t closer = *(pid_t *) userdata;
        unsigned fresh = 0;
        int ends[2];

        ck_assert_int_eq(pipe(ends), 0);
        (void) new_closers(closer);
        for (unsigned i = 0; i < FILES; i++) {
                FAILS(b, SD_BUS_ERROR_INVALID_ARGS, "Attach", "sha{sv}", "hers", ends[0], 0);
                fresh += new_closers(closer);
        }
        /* A few for her, until she had as many as a user may have. */
        ck_assert_msg(fresh <= AT_MOST, "%u processes", fresh);
        ck_assert_int_gt(closers_that_step_back(closer, true), 0);
        ck_assert_int_eq(closers_that_step_back(closer, false), 2);
}

/* To start a process takes longer than all the rest. */
START_TEST(who_closes_for_a_user_goes_on)
{
        pid_t closer = closer_of_daemon(), hands[CHILDREN_MAX];

        OK(bus, "Create", "sa{sv}", "hers", 1, "mode", "u", 0777);
        (void) hands_for_all(closer, hands);
        run_as(ALICE, attach_files, &closer);
}
END_TEST

/* A write that sleeps makes her one for whom another process writes. */
static void make_a_write_sleep(sd_bus *b)
{
        int handle;

        create(b, "~/sleeps");
        handle = done_handle(b, "~/sleeps");
        ck_assert_int_eq(eventfd_write(handle, UINT64_MAX - 1), 0);
        ck_assert_int_ge(fcntl(handle, F_SETFL, 0), 0);
        ck_assert(cancel(b, "~/sleeps", ""));
        close(handle);
}

static void have_handles_written(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        pid_t closer = *(pid_t *) userdata;
        unsigned fresh = 0;

        make_a_write_sleep(b);
        (void) new_closers(closer);
        for (unsigned i = 0; i < FILES; i++) {
                int handle;

                OK(b, "Create", "sa{sv}", "~/written", 0);
                handle = done_handle(b, "~/written");
                ck_assert(cancel(b, "~/written", ""));
                ck_assert(becomes_readable(handle));
                OK(b, "Release", "s", "~/written");
                close(handle);
                fresh += new_closers(closer);
        }
        ck_assert_int_gt(fresh, 0); /* else the daemon has written itself */
        ck_assert_msg(fresh <= AT_MOST, "%u processes", fresh);
        /* Somebody waits for these. */
        ck_assert_int_eq(closers_that_step_back(closer, true), 0);
}

START_TEST(who_writes_for_a_user_goes_on)
{
        pid_t closer = closer_of_daemon(), hands[CHILDREN_MAX];

        (void) hands_for_all(closer, hands);
        run_as(ALICE, have_handles_written, &closer);
}
END_TEST

/* Whether there are three, one of which has written, and all wait for what comes next. */
static bool has_written_and_waits(pid_t closer, pid_t ret_pids[CHILDREN_MAX])
{
        unsigned n = children_of(closer, ret_pids);
        bool all_wait = n == 3;

        for (unsigned i = 0; i < n; i++)
                all_wait = all_wait && process_sleeps(ret_pids[i], 0);
        return all_wait && process_sleeps(closer, 0) && process_sleeps(world.daemon.pid, 0);
}

/* The one that should have written is killed. */
START_TEST(a_write_is_not_lost)
{
        pid_t closer = closer_of_daemon(), pids[CHILDREN_MAX];
        int first, second;

        make_a_write_sleep(bus);
        create(bus, "first");
        create(bus, "second");
        first = done_handle(bus, "first");
        second = done_handle(bus, "second");
        ck_assert(cancel(bus, "first", ""));
        ck_assert(becomes_readable(first));
        /* Who has written that stays for a while, and gets the next. */
        ck_assert_happens(has_written_and_waits(closer, pids));
        for (unsigned i = 0; i < 3; i++)
                ck_assert_int_eq(kill(pids[i], SIGSTOP), 0);
        ck_assert(cancel(bus, "second", ""));
        (void) settled_fds();
        ck_assert(!is_readable(second));
        for (unsigned i = 0; i < 3; i++)
                ck_assert_int_eq(kill(pids[i], SIGKILL), 0);
        ck_assert(becomes_readable(second));
        close(first);
        close(second);
}
END_TEST

/* Subordinate uids are one party. */
#define SUBORDINATE 200000
#define SUBORDINATES 12

static void attach_file(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        int ends[2];

        ck_assert_int_eq(pipe(ends), 0);
        FAILS(b, SD_BUS_ERROR_INVALID_ARGS, "Attach", "sha{sv}", "hers", ends[0], 0);
}

START_TEST(subordinate_uids_share_who_closes)
{
        pid_t closer = closer_of_daemon(), pids[CHILDREN_MAX];

        OK(bus, "Create", "sa{sv}", "hers", 1, "mode", "u", 0777);
        (void) hands_for_all(closer, pids);
        for (unsigned i = 0; i < SUBORDINATES; i++) {
                run_as(SUBORDINATE + i, attach_file, NULL);
                ck_assert_int_le(children_of(closer, pids), 2 + 4);
        }
}
END_TEST

/* So many users send files whose close hangs that all processes hang which there may be. */
#define CONSPIRATORS 50
#define CONSPIRATOR 3000
#define HANG_IN_ALL 128

/* The end of each of these processes closes its copy of the file, so it is not waited for. */
static void send_as_all(int fd, void *userdata)
{
        int sent[2];
        char byte;

        ck_assert_int_eq(pipe(sent), 0);
        for (unsigned i = 0; i < CONSPIRATORS; i++) {
                if (fork() == 0) {
                        become_user(CONSPIRATOR + i);
                        send_file_of_crowd(fd, userdata);
                        (void) !write(sent[1], "", 1);
                        _exit(0);
                }
                ck_assert_int_eq(read(sent[0], &byte, 1), 1);
        }
}

START_TEST(files_of_many_users_whose_close_hangs)
{
        pid_t closer = closer_of_daemon(), pids[CHILDREN_MAX];
        unsigned answers = 0;
        struct hung_file h = {};

        OK(bus, "Create", "sa{sv}", "hers", 1, "mode", "u", 0777);
        if (!hung_file_start(&h, 0, send_as_all, &answers))
                return;
        ck_assert_happens(children_of(closer, pids) >= HANG_IN_ALL);
        for (int i = 0; i < 5; i++)
                run_as(BOB, attach_self, NULL);
        run_as(ALICE, attach_file, NULL);
        hung_file_end(&h);
        ck_assert_happens(children_of(closer, pids) < 2 + HANG_IN_ALL / 2);
        run_as(BOB, attach_self, NULL);
}
END_TEST

/* And no process more can be started. Who sends no descriptor is served, others wait for one. */
START_TEST(files_whose_close_hangs_where_a_fork_fails)
{
        const char *group = group_controlled("pids");
        pid_t closer = closer_of_daemon(), pid;
        struct hung_file h = {};
        unsigned answers = 0;

        if (!group) {
                fprintf(stderr, "SKIP: no control group for pids\n");
                return;
        }
        group_enter(group, closer);
        ck_assert(group_write(group, "pids.max", "1"));
        OK(bus, "Create", "sa{sv}", "hers", 1, "mode", "u", 0777);
        if (hung_file_start(&h, ALICE, send_file_of_crowd, &answers)) {
                for (int i = 0; i < 2; i++)
                        ck_assert(hung_file_is_being_closed(&h));
                pid = spawn_as(BOB, attach_self, NULL);
                work(bus, 20);
                ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
                ck_assert(group_write(group, "pids.max", "max"));
                wait_for(pid);
                hung_file_end(&h);
        }
        group_write(group, "pids.max", "max");
        kill(closer, SIGKILL);
        ck_assert_happens(closer_of_daemon() != closer);
        ck_assert_happens(kill(closer, 0) < 0);
        group_remove_all();
}
END_TEST

void add_closers(Suite *s)
{
        ADD_TESTS(s, "closers", start_retaining, the_one_who_looks_is_killed,
                        the_one_who_looks_is_killed_again_and_again, the_one_who_looks_cannot_be_started,
                        the_table_does_not_grow, who_closes_for_a_user_goes_on, who_writes_for_a_user_goes_on,
                        a_write_is_not_lost, subordinate_uids_share_who_closes,
                        files_of_many_users_whose_close_hangs);
        ADD_TESTS(s, "closers-fork", start_retaining, files_whose_close_hangs_where_a_fork_fails);
}
