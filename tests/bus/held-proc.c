/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Processes whose files in /proc keep everybody waiting who reads them: they are in the middle of execve(),
 * and close a file of a file system that does not answer. Newer kernels lock /proc/PID/stat meanwhile. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "foreign.h"
#include "harness.h"

#define EXECUTERS 40

/* Processes of a user, children of one, which execute something when they are told to. */
struct executers {
        uid_t uid; /* another one in each test: who has used up what a user may take is refused for a while */
        struct hung_file file;
        unsigned n;
        int said[2], go[2];
        pid_t parent, pids[EXECUTERS];
};

static void execute_later(int fd, void *userdata)
{
        struct executers *e = userdata;
        pid_t pid;
        char byte;

        pid = getpid();
        ck_assert_int_eq(write(e->said[1], &pid, sizeof pid), sizeof pid);
        for (unsigned i = 0; i < e->n; i++) {
                pid = fork(); /* it outlives its parent */
                if (pid == 0) {
                        if (read(e->go[0], &byte, 1) != 1 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
                                _exit(1);
                        execl("/bin/sleep", "sleep", "300", NULL);
                        _exit(1);
                }
                ck_assert_int_eq(write(e->said[1], &pid, sizeof pid), sizeof pid);
        }
}

static bool executers_start(struct executers *e, uid_t uid, unsigned n)
{
        *e = (struct executers){.uid = uid, .n = n};
        ck_assert_int_eq(pipe2(e->said, O_CLOEXEC), 0);
        ck_assert_int_eq(pipe2(e->go, O_CLOEXEC), 0);
        if (!hung_file_start(&e->file, uid, execute_later, e))
                return false;
        ck_assert_int_eq(read(e->said[0], &e->parent, sizeof e->parent), sizeof e->parent);
        for (unsigned i = 0; i < n; i++)
                ck_assert_int_eq(read(e->said[0], &e->pids[i], sizeof(pid_t)), sizeof(pid_t));
        return true;
}

static void executers_hang(struct executers *e)
{
        for (unsigned i = 0; i < e->n; i++)
                ck_assert_int_eq(write(e->go[1], "", 1), 1);
        for (unsigned i = 0; i < e->n; i++)
                ck_assert(hung_file_is_being_closed(&e->file));
}

static void executers_end(struct executers *e)
{
        hung_file_end(&e->file);
        for (unsigned i = 0; i < e->n; i++)
                (void) kill(e->pids[i], SIGKILL); /* or it has gone */
        for (int i = 0; i < 2; i++) {
                close(e->said[i]);
                close(e->go[i]);
        }
}

static void others_are_served(void)
{
        ck_assert_int_ne(task_state(world.daemon.pid, world.daemon.pid), 'D');
        work(bus, 5);
        for (int i = 0; i < 5; i++)
                run_as(BOB, attach_self, NULL);
        ck_assert_int_ne(task_state(world.daemon.pid, world.daemon.pid), 'D');
}

static bool stat_hangs(pid_t pid)
{
        char path[64], text[8];
        pid_t reader = fork();
        bool hangs;

        if (reader == 0) {
                int fd;

                snprintf(path, sizeof path, "/proc/%d/stat", pid);
                fd = open(path, O_RDONLY);
                _exit(read(fd, text, sizeof text) <= 0);
        }
        nap(50000);
        hangs = task_state(reader, reader) == 'D';
        end_process(reader);
        if (!hangs)
                fprintf(stderr, "# this kernel lets everybody read\n");
        return hangs;
}

/* Either it succeeds, or that process alone cannot be looked at. */
static bool is_busy(sd_bus_message *reply, const sd_bus_error *error)
{
        ck_assert_msg(reply || strcmp(error->name, "System.Error.EBUSY") == 0, "%s: %s", error->name,
                        error->message);
        return !reply;
}

static bool attach_is_busy(sd_bus *b, const char *path, pid_t pid)
{
        _cleanup_close_ int pidfd = open_pidfd(pid);
        _cleanup_(sd_bus_error_free) sd_bus_error error = {};
        _cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;

        ck_assert_int_ge(sd_bus_message_new_method_call(
                                         b, &m, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, "Attach"),
                        0);
        ck_assert_int_ge(sd_bus_message_append(m, "sha{sv}", path, pidfd, 2, "signal", "i", SIGTERM,
                                         "kill-after-usec", "t", UINT64_MAX),
                        0);
        reply = send_call(b, m, &error);
        return is_busy(reply, &error);
}

static bool process_is_busy(sd_bus *b, const char *path, pid_t pid)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = {};
        _cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;

        ck_assert_int_ge(sd_bus_message_new_method_call(b, &m, CTXD_BUS_NAME, CTXD_OBJECT,
                                         CTXD_MANAGER_INTERFACE, "Process"),
                        0);
        ck_assert_int_ge(sd_bus_message_append(m, "su", path, (uint32_t) pid), 0);
        reply = send_call(b, m, &error);
        return is_busy(reply, &error);
}

static unsigned n_members(sd_bus *b, const char *path)
{
        _cleanup_message_ sd_bus_message *m = CALL(b, "Members", "su", path, 0);

        return length_of(m, "(uusst)");
}

static void attach_all(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        struct executers *e = userdata;
        bool hangs = stat_hangs(e->pids[0]);

        OK(b, "Create", "sa{sv}", "~/hers", 1, "open", "b", 1);
        for (unsigned i = 0; i < e->n; i++)
                ck_assert(attach_is_busy(b, "~/hers", e->pids[i]) || !hangs);
}

START_TEST(attach_while_it_executes)
{
        struct executers e;

        if (!executers_start(&e, ALICE, 1))
                return;
        executers_hang(&e);
        run_as(e.uid, attach_all, &e);
        others_are_served();
        /* Nobody waits for it once more. */
        run_as(e.uid, attach_all, &e);
        others_are_served();
        executers_end(&e);
        others_are_served();
}
END_TEST

/* It can be attached as soon as it goes on. */
START_TEST(attach_after_it_has_executed)
{
        struct executers e;
        bool hangs;
        int pidfd;

        if (!executers_start(&e, DAEMON, 1))
                return;
        executers_hang(&e);
        create(bus, "c");
        hangs = stat_hangs(e.pids[0]);
        ck_assert_int_eq(attach_is_busy(bus, "c", e.pids[0]), hangs);
        hung_file_answers(&e.file);
        ck_assert_happens(!attach_is_busy(bus, "c", e.pids[0]));
        ck_assert_uint_eq(n_members(bus, "c"), 1);
        pidfd = open_pidfd(e.pids[0]);
        ck_assert(cancel(bus, "c", ""));
        ck_assert(becomes_readable(pidfd));
        close(pidfd);
        executers_end(&e);
        others_are_served();
}
END_TEST

/* It is a member, is shown, and gets its signal though it cannot be read: it is attached itself, or descends
 * from one that is. */
static void member_executes(uid_t uid, bool is_descendant)
{
        struct executers e;
        unsigned n = is_descendant ? 2 : 1;
        bool hangs;
        int pidfd;

        if (!executers_start(&e, uid, 1))
                return;
        create(bus, "c");
        ck_assert(!attach_is_busy(bus, "c", is_descendant ? e.parent : e.pids[0]));
        ck_assert_uint_eq(n_members(bus, "c"), n);
        executers_hang(&e);
        hangs = stat_hangs(e.pids[0]);
        ck_assert_uint_eq(n_members(bus, "c"), n);
        ck_assert(process_is_busy(bus, "c", e.pids[0]) <= hangs);
        others_are_served();
        ck_assert_uint_eq(n_members(bus, "c"), n);
        ck_assert(cancel(bus, "c", ""));
        others_are_served();
        pidfd = open_pidfd(e.pids[0]);
        hung_file_answers(&e.file);
        ck_assert(becomes_readable(pidfd));
        close(pidfd);
        executers_end(&e);
        others_are_served();
}

START_TEST(a_member_executes)
{
        member_executes(DAVE, false);
}
END_TEST

START_TEST(a_descendant_executes)
{
        member_executes(ERIN, true);
}
END_TEST

static uint64_t cpu_usec(pid_t pid)
{
        clockid_t clock;

        ck_assert_int_eq(clock_getcpuclockid(pid, &clock), 0);
        return clock_usec(clock);
}

/* Nobody has seen it before. Its parent ends by the cancel. */
START_TEST(a_child_executes_that_was_not_seen)
{
        struct executers e;
        uint64_t used;
        int pidfd;

        if (!executers_start(&e, CAROL, 1))
                return;
        pidfd = open_pidfd(e.pids[0]);
        create(bus, "c");
        executers_hang(&e);
        ck_assert(!attach_is_busy(bus, "c", e.parent));
        ck_assert_uint_eq(n_members(bus, "c"), 2);
        ck_assert(process_is_busy(bus, "c", e.pids[0]) <= stat_hangs(e.pids[0]));
        ck_assert(cancel(bus, "c", ""));
        others_are_served();
        /* ctxd does not look for it all the time. */
        used = cpu_usec(world.daemon.pid);
        nap(1000000);
        ck_assert_uint_lt(cpu_usec(world.daemon.pid) - used, 200000);
        hung_file_answers(&e.file);
        ck_assert(becomes_readable(pidfd));
        close(pidfd);
        executers_end(&e);
        others_are_served();
}
END_TEST

/* One user keeps ctxd waiting for a part of a second, however many of the processes hang. */
START_TEST(many_execute)
{
        struct executers e;
        uint64_t start;

        if (!executers_start(&e, FRANK, EXECUTERS))
                return;
        executers_hang(&e);
        start = now_boottime_usec();
        run_as(e.uid, attach_all, &e);
        /* One after the other they would take 50 ms each. */
        ck_assert_uint_lt(now_boottime_usec() - start, EXECUTERS * 50000 / 2);
        others_are_served();
        executers_end(&e);
        others_are_served();
}
END_TEST

/* -- Who reads is ended, or stopped, by somebody else. */

static pid_t chief(void)
{
        return child_with_name(world.daemon.pid, "ctxd-reader");
}

static pid_t reader(void)
{
        pid_t pid = chief();

        return pid > 0 ? child_with_name(pid, "ctxd-read") : 0;
}

static void without_reader(pid_t (*which)(void), int signal_number)
{
        pid_t pid;

        for (int i = 0; i < 3; i++) {
                ck_assert_int_gt(pid = which(), 0);
                ck_assert_int_eq(kill(pid, signal_number), 0);
                others_are_served();
        }
        ck_assert_int_ne(reader(), 0);
}

START_TEST(the_reader_is_killed)
{
        without_reader(reader, SIGKILL);
}
END_TEST

START_TEST(the_reader_is_stopped)
{
        without_reader(reader, SIGSTOP);
}
END_TEST

START_TEST(the_chief_of_readers_is_killed)
{
        without_reader(chief, SIGKILL);
}
END_TEST

/* It is needed only for another reader. */
START_TEST(the_chief_of_readers_is_stopped)
{
        pid_t pid = chief();

        ck_assert_int_gt(pid, 0);
        ck_assert_int_eq(kill(pid, SIGSTOP), 0);
        others_are_served();
        ck_assert_int_eq(kill(reader(), SIGKILL), 0);
        others_are_served();
        ck_assert_int_ne(chief(), pid);
}
END_TEST

static void be_busy(void *userdata)
{
        for (;;)
                ;
}

static void execute_often(void *userdata)
{
        for (;;) {
                pid_t pid = fork();

                if (pid == 0) {
                        execl("/bin/true", "true", NULL);
                        _exit(1);
                }
                waitpid(pid, NULL, 0);
        }
}

/* Who waits for the processor does not hang. */
START_TEST(a_busy_machine)
{
        pid_t pids[10];

        for (unsigned i = 0; i < ELEMENTSOF(pids); i++)
                pids[i] = spawn(i % 5 == 0 ? execute_often : be_busy, NULL);
        create(bus, "c");
        for (int i = 0; i < 300; i++)
                ck_assert(!attach_is_busy(bus, "c", pids[i % (int) ELEMENTSOF(pids)]));
        for (unsigned i = 0; i < ELEMENTSOF(pids); i++)
                end_process(pids[i]);
        _cleanup_free_ char *log = daemon_log();
        ck_assert_msg(!strstr(log, "makes who reads it in /proc wait"), "%s", log);
}
END_TEST

void add_held_proc(Suite *s)
{
        ADD_TESTS(s, "held-proc", start_plain, a_busy_machine, attach_while_it_executes,
                        attach_after_it_has_executed, a_member_executes, a_descendant_executes,
                        a_child_executes_that_was_not_seen, many_execute, the_reader_is_killed,
                        the_reader_is_stopped, the_chief_of_readers_is_killed,
                        the_chief_of_readers_is_stopped);
}
