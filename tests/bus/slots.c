/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Members and contexts with members, of two users. The same without a probe and with the real one
 * ($CTXD_PROBE). */

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

#define SLOTS 10000
#define FEW 3

#define LIMITED_TO_FEW "MaxMembersPerUser=3\nRetainSec=10min\n"
#define LIMITED_TO_MANY "MaxMembersPerUser=10003\nRetainSec=10min\n"
#define BPF "Probe=bpf\n", getenv("CTXD_PROBE")

static void start_few(void)
{
        world_start(LIMITED_TO_FEW, NULL);
}

static void start_many(void)
{
        world_start(LIMITED_TO_MANY, NULL);
}

static void start_few_bpf(void)
{
        world_start(LIMITED_TO_FEW BPF);
}

static void start_few_proc(void)
{
        world_start(LIMITED_TO_FEW, getenv("CTXD_PROBE"));
}

static void start_many_bpf(void)
{
        world_start(LIMITED_TO_MANY BPF);
}

static void expect_full(sd_bus *b, const char *path, int pidfd)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

        ck_assert_int_lt(sd_bus_call_method(b, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Attach",
                                         &error, NULL, "sha{sv}", path, pidfd, 0),
                        0);
        ck_assert_str_eq(error.name, CTXD_ERROR_LIMITS_EXCEEDED);
        ck_assert_ptr_nonnull(strstr(error.message, "on members is reached: 3 of 3 in use"));
        ck_assert_ptr_nonnull(strstr(error.message, "MaxMembersPerUser"));
}

/* Ten processes, all in one context, then each in one of its own. */
static void attach_ten(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        int pidfds[10];
        pid_t pids[10];
        char path[16];

        for (int i = 0; i < 10; i++) {
                snprintf(path, sizeof path, "~/%d", i);
                create(b, path);
                pids[i] = sleeper(&pidfds[i]);
        }
        for (int own = 0; own < 2; own++) {
                for (int i = 0; i < 10; i++) {
                        snprintf(path, sizeof path, "~/%d", own ? i : 0);
                        if (i < FEW)
                                OK(b, "Attach", "sha{sv}", path, pidfds[i], 0);
                        else
                                expect_full(b, path, pidfds[i]);
                }
        }
        /* The place of one that has gone is free. */
        end_process(pids[0]);
        ck_assert_happens(sd_bus_call_method(b, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Attach",
                                          NULL, NULL, "sha{sv}", "~/9", pidfds[9], 0) >= 0);
        expect_full(b, "~/8", pidfds[8]);
        for (int i = 0; i < 10; i++) {
                if (i > 0)
                        end_process(pids[i]);
                close(pidfds[i]);
        }
}

START_TEST(members_are_counted)
{
        run_as(ALICE, attach_ten, NULL);
        run_as(BOB, attach_ten, NULL);
}
END_TEST

/* One process through more contexts than its user may have members. */
static void hop(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        int self = open_pidfd(getpid());
        char path[16];

        for (int i = 0; i < 500; i++) {
                snprintf(path, sizeof path, "~/%d", i);
                OK(b, "Create", "sa{sv}", path, 1, "attach", "h", self);
        }
        close(self);
}

START_TEST(a_process_through_many_contexts)
{
        run_as(ALICE, hop, NULL);
}
END_TEST

/* Alice may enter 10,000 contexts with her threads, and so all of them have a slot. */
static void take_slots(void *userdata)
{
        const int *pipes = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();
        char path[24], byte;
        int self = open_pidfd(getpid());

        OK(b, "Create", "sa{sv}", "~/own", 1, "attach", "h", self);
        for (int i = 0; i < SLOTS; i++) {
                snprintf(path, sizeof path, "~/%d", i);
                create(b, path);
                OK(b, "Threads", "s", path);
        }
        ck_assert_int_eq(write(pipes[1], "", 1), 1);
        ck_assert_int_eq(read(pipes[2], &byte, 1), 1);
        close(self);
}

static void be_alice(void *userdata)
{
        run_as(ALICE, take_slots, userdata);
}

/* The shortest of some cancels that signal a process. */
static void cancel_some(void *userdata)
{
        uint64_t least = UINT64_MAX;
        _cleanup_bus_ sd_bus *b = connect_bus();
        char path[24];

        for (int i = 0; i < 15; i++) {
                uint64_t begin;
                int pidfd;
                pid_t pid = sleeper(&pidfd);

                snprintf(path, sizeof path, "~/%d-", (int) getpid());
                _cleanup_message_ sd_bus_message *m = CALL(b, "Create", "sa{sv}", strcat(path, "/"), 2,
                                "attach", "h", pidfd, "parents", "b", 1);
                const char *made;

                READ(m, "s", &made);
                OK(b, "Attach", "sha{sv}", made, pidfd, 1, "signal", "i", SIGKILL);
                begin = now_boottime_usec();
                ck_assert(cancel(b, made, ""));
                begin = now_boottime_usec() - begin;
                least = begin < least ? begin : least;
                ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
                close(pidfd);
        }
        ck_assert_int_eq(write(*(int *) userdata, &least, sizeof least), sizeof least);
}

static uint64_t bobs_usec(void)
{
        uint64_t usec;
        int ends[2];

        ck_assert_int_eq(pipe(ends), 0);
        run_as(BOB, cancel_some, &ends[1]);
        ck_assert_int_eq(read(ends[0], &usec, sizeof usec), sizeof usec);
        close(ends[0]);
        close(ends[1]);
        return usec;
}

START_TEST(slots_of_another_user)
{
        uint64_t alone = bobs_usec(), beside;
        int pipes[4];
        pid_t alice;
        char byte;

        ck_assert(pipe(pipes) == 0 && pipe(pipes + 2) == 0);
        alice = spawn(be_alice, pipes);
        ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
        beside = bobs_usec();
        printf("# a cancel takes %ju us, and %ju us beside %d slots of another user\n", (uintmax_t) alone,
                        (uintmax_t) beside, SLOTS);
        ck_assert_uint_lt(beside, 10 * alone);
        ck_assert_int_eq(write(pipes[3], "", 1), 1);
        wait_for(alice);
        /* What she had is free for the next. */
        release_all();
        ck_assert_int_eq(write(pipes[3], "", 1), 1);
        run_as(ALICE, take_slots, pipes);
        for (int i = 0; i < 4; i++)
                close(pipes[i]);
}
END_TEST

/* A control group in which no process may fork. Returns false, and says so, where there can be none. */
static bool make_full_group(char directory[64])
{
        static const char *const hierarchies[] = {"/sys/fs/cgroup/pids", "/sys/fs/cgroup"};
        char path[96];
        FILE *f = NULL;

        for (size_t i = 0; !f && i < ELEMENTSOF(hierarchies); i++) {
                snprintf(directory, 64, "%s/ctxd-slots-%d", hierarchies[i], (int) getpid());
                snprintf(path, sizeof path, "%s/pids.max", directory);
                if (mkdir(directory, 0755) < 0)
                        continue;
                f = fopen(path, "we");
                if (!f)
                        rmdir(directory);
        }
        if (!f) {
                puts("# skipped: no control group with a limit on pids");
                return false;
        }
        fputs("1\n", f);
        ck_assert_int_eq(fclose(f), 0);
        return true;
}

static void put_into_group(const char *directory, pid_t pid)
{
        char path[96];
        FILE *f;

        snprintf(path, sizeof path, "%s/cgroup.procs", directory);
        f = fopen(path, "we");
        ck_assert_ptr_nonnull(f);
        fprintf(f, "%d\n", (int) pid);
        ck_assert_int_eq(fclose(f), 0);
}

/* Somebody has taken all pids that there are, or all that the daemon's unit may have: it can start nothing.
 * Contexts end all the same, and their members with them. */
START_TEST(no_pid_is_left)
{
        char directory[64];

        if (!make_full_group(directory))
                return;
        put_into_group(directory, world.daemon.pid);
        (void) bobs_usec();
        run_as(ALICE, attach_ten, NULL);
        put_into_group(dirname(strdupa(directory)), world.daemon.pid);
        ck_assert_int_eq(rmdir(directory), 0);
}
END_TEST

Suite *suite_slots(void)
{
        Suite *s = suite_create("slots");

        ADD_TESTS(s, "few", start_few, members_are_counted, a_process_through_many_contexts, no_pid_is_left);
        ADD_TESTS(s, "many", start_many, slots_of_another_user);
        return s;
}

Suite *suite_slots_of_probe(void)
{
        Suite *s = suite_create("slots-of-probe");

        ADD_TESTS(s, "few-bpf", start_few_bpf, members_are_counted, a_process_through_many_contexts,
                        no_pid_is_left);
        ADD_TESTS(s, "few-proc", start_few_proc, members_are_counted, a_process_through_many_contexts);
        ADD_TESTS(s, "many-bpf", start_many_bpf, slots_of_another_user);
        return s;
}
