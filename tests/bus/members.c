/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Members: Attach, and which members are shown. Without a probe, so that the daemon knows only the attached
 * process and what it has seen below it. Membership in the kernel has tests of its own. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "harness.h"

static unsigned n_processes(const char *path, bool recursive, uint32_t limit, pid_t wanted, bool *ret_found)
{
        _cleanup_message_ sd_bus_message *m = CALL(bus, "Processes", "sbu", path, recursive, limit);
        const char *comm;
        uint32_t pid, uid;
        uint64_t start;
        unsigned n = 0;

        *ret_found = false;
        ck_assert_int_eq(sd_bus_message_enter_container(m, 'a', "(utus)"), 1);
        while (sd_bus_message_read(m, "(utus)", &pid, &start, &uid, &comm) > 0) {
                n++;
                ck_assert_uint_eq(uid, getuid());
                ck_assert_uint_gt(start, 0);
                ck_assert_uint_le(start, now_boottime_usec() + 10000); /* in ticks of the kernel's clock */
                ck_assert_str_ne(comm, "");
                *ret_found |= pid == (uint32_t) wanted;
        }
        return n;
}

START_TEST(members_are_shown)
{
        int pidfd, status;
        bool found;
        pid_t pid = sleeper(&pidfd);

        OK(bus, "Create", "sa{sv}", "m/n", 1, "parents", "b", 1);
        OK(bus, "Attach", "sha{sv}", "m/n", pidfd, 0);
        ck_assert_uint_eq(n_processes("m/n", false, 0, pid, &found), 1);
        ck_assert(found);
        ck_assert_uint_eq(n_processes("m", false, 0, pid, &found), 0);
        ck_assert_uint_eq(n_processes("m", true, 0, pid, &found), 1);
        ck_assert(found);

        _cleanup_message_ sd_bus_message *m = CALL(bus, "Members", "su", "m/n", 0);
        const char *kind, *comm;
        uint32_t p, t;
        uint64_t since;
        int truncated;
        ck_assert_int_eq(sd_bus_message_enter_container(m, 'a', "(uusst)"), 1);
        READ(m, "(uusst)", &p, &t, &comm, &kind, &since);
        ck_assert_int_eq((pid_t) p, pid);
        ck_assert_int_eq((pid_t) t, pid);
        ck_assert_str_eq(kind, "process");
        ck_assert_int_eq(sd_bus_message_at_end(m, false), 1);
        ck_assert_int_ge(sd_bus_message_exit_container(m), 0);
        READ(m, "b", &truncated);
        ck_assert(!truncated);

        /* It stays a member while the context drains, and is none once it has exited. */
        cancel(bus, "m", "");
        ck_assert_uint_eq(n_processes("m/n", false, 0, pid, &found), 1);
        kill(pid, SIGKILL);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_happens(n_processes("m/n", false, 0, pid, &found) == 0);
        close(pidfd);
}
END_TEST

START_TEST(lists_are_cut_at_the_limit)
{
        pid_t pids[5];
        bool found;
        int truncated;

        create(bus, "m");
        for (size_t i = 0; i < ELEMENTSOF(pids); i++) {
                int pidfd;

                pids[i] = sleeper(&pidfd);
                OK(bus, "Attach", "sha{sv}", "m", pidfd, 0);
                close(pidfd);
        }
        ck_assert_uint_eq(n_processes("m", true, 0, pids[0], &found), 5);
        ck_assert_uint_eq(n_processes("m", true, 3, pids[0], &found), 3);
        _cleanup_message_ sd_bus_message *p = CALL(bus, "Processes", "sbu", "m", 0, 3);
        ck_assert_int_ge(sd_bus_message_skip(p, "a(utus)"), 0);
        READ(p, "b", &truncated);
        ck_assert(truncated);
        _cleanup_message_ sd_bus_message *exact = CALL(bus, "Members", "su", "m", 5);
        ck_assert_int_ge(sd_bus_message_skip(exact, "a(uusst)"), 0);
        READ(exact, "b", &truncated);
        ck_assert(!truncated);
        _cleanup_message_ sd_bus_message *cut = CALL(bus, "Members", "su", "m", 4);
        ck_assert_int_ge(sd_bus_message_skip(cut, "a(uusst)"), 0);
        READ(cut, "b", &truncated);
        ck_assert(truncated);
        for (size_t i = 0; i < ELEMENTSOF(pids); i++)
                end_process(pids[i]);
}
END_TEST

START_TEST(preview_tells_and_does_nothing)
{
        _cleanup_message_ sd_bus_message *m = NULL, *all = NULL;
        uint32_t contexts, members, pid, tid;
        int pidfd, truncated;
        pid_t child = sleeper(&pidfd);

        OK(bus, "Create", "sa{sv}", "m/n/o", 1, "parents", "b", 1);
        create(bus, "m/done");
        cancel(bus, "m/done", "");
        create(bus, "m/done/too");
        OK(bus, "Attach", "sha{sv}", "m/n/o", pidfd, 0);
        _cleanup_free_ char *before = snapshot(bus);
        m = CALL(bus, "Preview", "su", "m", 0);
        READ(m, "uu", &contexts, &members);
        ck_assert_uint_eq(contexts, 3);
        ck_assert_uint_eq(members, 1);
        READ(m, "a(uusst)b", 1, &pid, &tid, NULL, NULL, NULL, &truncated);
        ck_assert_int_eq((pid_t) pid, child);
        ck_assert(!truncated);
        all = CALL(bus, "Preview", "su", "/", 0);
        READ(all, "uu", &contexts, &members);
        ck_assert_uint_eq(contexts, 3);
        _cleanup_free_ char *after = snapshot(bus);
        ck_assert_str_eq(before, after);
        end_process(child);
        close(pidfd);
}
END_TEST

static pid_t pid_of_pidfd(int fd)
{
        char path[48], line[128];
        pid_t pid = -1;
        FILE *f;

        snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
        f = fopen(path, "re");
        ck_assert_ptr_nonnull(f);
        while (fgets(line, sizeof line, f))
                sscanf(line, "Pid: %d", &pid);
        fclose(f);
        return pid;
}

START_TEST(process_gives_a_pidfd_of_a_member)
{
        _cleanup_message_ sd_bus_message *m = NULL, *above = NULL;
        int pidfd, fd;
        pid_t pid = sleeper(&pidfd), stranger = sleeper(NULL);

        OK(bus, "Create", "sa{sv}", "m/n", 1, "parents", "b", 1);
        OK(bus, "Attach", "sha{sv}", "m/n", pidfd, 0);
        m = CALL(bus, "Process", "su", "m/n", pid);
        READ(m, "h", &fd);
        ck_assert_int_eq(pid_of_pidfd(fd), pid);
        above = CALL(bus, "Process", "su", "m", pid);
        READ(above, "h", &fd);
        ck_assert_int_eq(pid_of_pidfd(fd), pid);
        REFUSED(bus, CTXD_ERROR_NO_SUCH_PROCESS, "Process", "su", "m/n", stranger);
        REFUSED(bus, CTXD_ERROR_NO_SUCH_PROCESS, "Process", "su", "m/n", 0);
        REFUSED(bus, CTXD_ERROR_NO_SUCH_PROCESS, "Process", "su", "m/n", 1);
        REFUSED(bus, CTXD_ERROR_NO_SUCH_PROCESS, "Process", "su", "m/n", UINT32_MAX);
        end_process(pid);
        end_process(stranger);
        close(pidfd);
}
END_TEST

static void ask_current(void *userdata)
{
        const int *pipes = userdata;
        _cleanup_bus_ sd_bus *b = NULL;
        char expected[64] = {};

        for (int i = 0; i < 2; i++) {
                _cleanup_message_ sd_bus_message *m = NULL;
                const char *path;

                ck_assert_int_gt(read(pipes[0], expected, sizeof expected), 0);
                if (!b)
                        b = connect_bus();
                m = CALL(b, "Current", NULL);
                READ(m, "s", &path);
                ck_assert_str_eq(path, expected);
                ck_assert_int_eq(write(pipes[3], "", 1), 1);
        }
}

START_TEST(current_is_where_the_caller_is_a_member)
{
        int to[2], from[2], pidfd;
        char text[64] = "/", byte;
        uint64_t id;
        pid_t pid;

        ck_assert(pipe(to) == 0 && pipe(from) == 0);
        pid = spawn(ask_current, (int[]){to[0], to[1], from[0], from[1]});
        ck_assert_int_eq(write(to[1], text, sizeof text), sizeof text);
        ck_assert_int_eq(read(from[0], &byte, 1), 1);
        create(bus, "m");
        id = create(bus, "m/n");
        pidfd = open_pidfd(pid);
        OK(bus, "Attach", "sha{sv}", "m/n", pidfd, 0);
        snprintf(text, sizeof text, "m/n#%ju", (uintmax_t) id);
        ck_assert_int_eq(write(to[1], text, sizeof text), sizeof text);
        ck_assert_int_eq(read(from[0], &byte, 1), 1);
        wait_for(pid);
        close(pidfd);
        for (int i = 0; i < 2; i++) {
                close(to[i]);
                close(from[i]);
        }
}
END_TEST

START_TEST(law30_attach_again_moves_it)
{
        int pidfd;
        bool found;
        pid_t pid = sleeper(&pidfd);

        OK(bus, "Create", "sa{sv}", "m/down", 1, "parents", "b", 1);
        create(bus, "elsewhere");
        OK(bus, "Attach", "sha{sv}", "m", pidfd, 0);
        OK(bus, "Attach", "sha{sv}", "m/down", pidfd, 0);
        ck_assert_uint_eq(n_processes("m", false, 0, pid, &found), 0);
        ck_assert_uint_eq(n_processes("m/down", false, 0, pid, &found), 1);
        _cleanup_free_ char *object = object_of("elsewhere");
        OK_ON(bus, object, "Attach", "ha{sv}", pidfd, 0); /* by somebody who may write the one it is in */
        ck_assert_uint_eq(n_processes("m", true, 0, pid, &found), 0);
        ck_assert_uint_eq(n_processes("elsewhere", false, 0, pid, &found), 1);
        end_process(pid);
        close(pidfd);
}
END_TEST

static void ignore_sigterm(void *userdata)
{
        const int *ready = userdata;

        signal(SIGTERM, SIG_IGN);
        ck_assert_int_eq(write(*ready, "", 1), 1);
        for (;;)
                pause();
}

START_TEST(law32_the_signal_then_the_kill)
{
        int pidfd, status, ready[2];
        char byte;
        pid_t polite = sleeper(&pidfd), stubborn;

        create(bus, "polite");
        OK(bus, "Attach", "sha{sv}", "polite", pidfd, 1, "signal", "i", SIGUSR1);
        cancel(bus, "polite", "");
        ck_assert_int_eq(waitpid(polite, &status, 0), polite);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
        close(pidfd);

        ck_assert_int_eq(pipe(ready), 0);
        stubborn = spawn(ignore_sigterm, &ready[1]);
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);
        pidfd = open_pidfd(stubborn);
        create(bus, "stubborn");
        OK(bus, "Attach", "sha{sv}", "stubborn", pidfd, 2, "signal", "i", SIGTERM, "kill-after-usec", "t",
                        UINT64_C(300000));
        uint64_t before = now_boottime_usec();
        cancel(bus, "stubborn", "");
        ck_assert_int_eq(waitpid(stubborn, &status, 0), stubborn);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        ck_assert_uint_ge(now_boottime_usec(), before + 300000);
        close(pidfd);
        close(ready[0]);
        close(ready[1]);
}
END_TEST

START_TEST(law34_one_with_members_is_listed_and_found)
{
        char old[64];
        uint64_t id;
        bool found;
        int pidfd;
        pid_t pid = sleeper(&pidfd);

        create(bus, "p");
        id = create(bus, "p/l");
        snprintf(old, sizeof old, "p/l#%ju", (uintmax_t) id);
        create(bus, "p/l/idle");
        OK(bus, "Attach", "sha{sv}", "p/l", pidfd, 0);
        OK(bus, "Release", "s", "p/l");
        ck_assert_uint_eq(count_listed(bus, "p"), 2); /* not the idle one */
        ck_assert_uint_eq(property_u64(bus, "p/l", "Id"), id);
        ck_assert_int_eq(code_of(bus, "p/l"), ECANCELED);
        ck_assert_uint_eq(n_processes("p/l", true, 0, pid, &found), 1);
        OK(bus, "Release", "s", "p/l");
        FAILS(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Create", "sa{sv}", "p/l/x", 0);

        /* Its name is free, also for one that only opens. */
        OK(bus, "Create", "sa{sv}", "p/l", 1, "open", "b", 1);
        ck_assert_int_eq(code_of(bus, "p/l"), 0);
        ck_assert_int_eq(code_of(bus, old), ECANCELED);
        ck_assert_uint_eq(n_processes(old, true, 0, pid, &found), 1);
        ck_assert_uint_eq(count_listed(bus, "p"), 3);
        OK(bus, "Release", "s", "p/l");
        ck_assert_uint_eq(count_listed(bus, "p"), 2);
        ck_assert_uint_eq(property_u64(bus, "p/l", "Id"), id);

        end_process(pid);
        close(pidfd);
        ck_assert_happens(count_listed(bus, "p") == 1);
        FAILS(bus, CTXD_ERROR_NO_SUCH_CONTEXT, "Err", "s", "p/l");
        ck_assert_int_eq(code_of(bus, old), ECANCELED);
}
END_TEST

START_TEST(law32_no_signal_where_none_was_asked_for)
{
        int member_fd, status;
        pid_t member = sleeper(&member_fd), stranger = sleeper(NULL);

        create(bus, "m");
        OK(bus, "Attach", "sha{sv}", "m", member_fd, 0);
        cancel(bus, "m", "");
        usleep(300000);
        ck_assert_int_eq(waitpid(member, &status, WNOHANG), 0);
        ck_assert_int_eq(waitpid(stranger, &status, WNOHANG), 0);
        ck_assert_uint_eq(property_u64(bus, "m", "QuiesceUSec"), UINT64_MAX);
        end_process(member);
        end_process(stranger);
        ck_assert_happens(property_u64(bus, "m", "QuiesceUSec") != UINT64_MAX);
        ck_assert_uint_ge(property_u64(bus, "m", "QuiesceUSec"), 300000);
        close(member_fd);
}
END_TEST

#define KIN 200
#define TRIES 20

static void have_kin(void *userdata)
{
        char byte = 'r';

        for (int i = 0; i < KIN; i++)
                if (fork_tied() == 0)
                        for (;;)
                                pause();
        (void) !write(*(int *) userdata, &byte, 1);
        for (;;)
                pause();
}

static int on_kin(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        *(bool *) userdata = true;
        return 0;
}

/* How many calls are answered between that one and its answer. */
static unsigned answered_meanwhile(sd_bus *b, const char *member, const char *types, const char *path)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        bool is_over = false;
        unsigned n = 0;

        ck_assert_int_ge(sd_bus_message_new_method_call(
                                         b, &m, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, member),
                        0);
        ck_assert_int_ge(types[1] == 'u' ? sd_bus_message_append(m, types, path, 0)
                                         : sd_bus_message_append(m, types, path, ""),
                        0);
        ck_assert_int_ge(sd_bus_call_async(b, NULL, m, on_kin, &is_over, UINT64_MAX), 0);
        ck_assert_int_ge(sd_bus_flush(b), 0);
        for (;; n++) {
                while (sd_bus_process(b, NULL) > 0) {
                }
                if (is_over)
                        return n;
                (void) code_of(bus, "kin");
        }
}

/* Each of them is read from /proc, a few in a turn. It is counted, not timed. On a busy machine the test
 * itself may be late; and over a bus its calls take longer than the turns between which they are answered. */
START_TEST(law48_others_are_answered_while_members_are_looked_at)
{
        static const char *const calls[][2] = {
                        {"Members", "su"}, {"Preview", "su"}, {"Cancel", "ss"}, {NULL, NULL}};
        _cleanup_bus_ sd_bus *b = connect_bus();
        int ready[2], pidfd;
        pid_t pid;
        char byte;

        ck_assert_int_eq(pipe(ready), 0);
        pid = spawn(have_kin, &ready[1]);
        pidfd = open_pidfd(pid);
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);
        OK(bus, "Create", "sa{sv}", "kin", 0);
        for (size_t i = 0; calls[i][0]; i++) {
                unsigned most = 0;

                for (unsigned n = 0, k = 0; k < TRIES && most < KIN / 20; k++) {
                        char path[32];

                        snprintf(path, sizeof path, "crowd/%zu-%u", i, k);
                        OK(bus, "Create", "sa{sv}", path, 2, "parents", "b", 1, "attach", "h", pidfd);
                        n = answered_meanwhile(b, calls[i][0], calls[i][1], path);
                        most = n > most ? n : most;
                }
                ck_assert_msg(most >= KIN / 20, "%s: %u calls were answered meanwhile", calls[i][0], most);
        }
        close(ready[0]);
        close(ready[1]);
        close(pidfd);
        end_process(pid);
}
END_TEST

#define CROWD 2000
#define CROWDS 5

static void have_crowd_when_told(void *userdata)
{
        const int *pipes = userdata;
        char byte;

        if (read(pipes[0], &byte, 1) != 1)
                abort();
        for (int i = 0; i < CROWD; i++)
                if (fork_tied() == 0)
                        for (;;)
                                pause();
        (void) !write(pipes[3], &byte, 1);
        for (;;)
                pause();
}

static unsigned answered_while_a_crowd_is_signalled(sd_bus *b, const char *path)
{
        int to[2], from[2], pidfd;
        unsigned n;
        pid_t pid;
        char byte;

        ck_assert(pipe(to) == 0 && pipe(from) == 0);
        pid = spawn(have_crowd_when_told, (int[]){to[0], to[1], from[0], from[1]});
        pidfd = open_pidfd(pid);
        OK(bus, "Create", "sa{sv}", path, 3, "parents", "b", 1, "attach", "h", pidfd, "signal", "i", SIGURG);
        ck_assert_int_eq(write(to[1], "", 1), 1);
        ck_assert_int_eq(read(from[0], &byte, 1), 1);
        n = answered_meanwhile(b, "Cancel", "ss", path);
        end_process(pid);
        close(pidfd);
        for (int i = 0; i < 2; i++) {
                close(to[i]);
                close(from[i]);
        }
        return n;
}

/* The kernel knows them, but each is signalled by itself: one that minds none. */
START_TEST(law48_others_are_answered_while_a_crowd_is_signalled)
{
        _cleanup_bus_ sd_bus *b = connect_bus();
        unsigned n, most = 0;
        char path[32];

        create(bus, "kin");
        for (int i = 0; i < CROWDS && most < CROWD / 20; i++) {
                snprintf(path, sizeof path, "crowd/%d", i);
                n = answered_while_a_crowd_is_signalled(b, path);
                most = n > most ? n : most;
        }
        ck_assert_msg(most >= CROWD / 20, "%u calls were answered meanwhile", most);
}
END_TEST

/* Its child is left behind before anybody has looked. */
static pid_t fork_relay(int gate[2])
{
        pid_t pid;
        char byte;

        ck_assert_int_eq(pipe2(gate, O_CLOEXEC), 0);
        pid = fork();
        if (pid != 0)
                return pid;
        close(gate[1]);
        if (read(gate[0], &byte, 1) == 1 && fork() == 0) {
                (void) alarm(120);
                for (;;)
                        pause();
        }
        _exit(0);
}

START_TEST(law45_orphans_of_the_caller)
{
        int gate[2], pidfd, self = open_pidfd(getpid()), status;
        bool found;
        pid_t pid;

        ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
        OK(bus, "Create", "sa{sv}", "m", 0);
        FAILS(bus, SD_BUS_ERROR_INVALID_ARGS, "Attach", "sha{sv}", "m", self, 1, "subreaper", "b", 1);
        FAILS(bus, SD_BUS_ERROR_INVALID_ARGS, "Create", "sa{sv}", "n", 1, "subreaper", "b", 1);
        for (int i = 0; i < 2; i++) {
                pid = fork_relay(gate);
                pidfd = open_pidfd(pid);
                if (i == 0)
                        OK(bus, "Attach", "sha{sv}", "m", pidfd, 2, "subreaper", "b", 1, "signal", "i",
                                        SIGKILL);
                else
                        OK(bus, "Create", "sa{sv}", "n", 3, "attach", "h", pidfd, "subreaper", "b", 1,
                                        "signal", "i", SIGKILL);
                ck_assert_int_eq(write(gate[1], "g", 1), 1);
                ck_assert_int_eq(waitpid(pid, &status, 0), pid);
                ck_assert_uint_eq(n_processes(i ? "n" : "m", false, 0, 0, &found), 1);
                cancel(bus, i ? "n" : "m", "");
                ck_assert_int_gt(waitpid(-1, &status, 0), 0);
                ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
                /* Until then the caller's next child would be a member as well. */
                ck_assert_happens(property_u64(bus, i ? "n" : "m", "QuiesceUSec") != UINT64_MAX);
                close(gate[0]);
                close(gate[1]);
                close(pidfd);
        }
        close(self);
}
END_TEST

static void start_with_probe(void)
{
        world_start("RetainSec=10min\nProbe=bpf\n", getenv("CTXD_PROBE"));
}

Suite *suite_members_of_probe(void)
{
        Suite *s = suite_create("members of the probe");

        ADD_TESTS(s, "crowd", start_with_probe, law48_others_are_answered_while_a_crowd_is_signalled);
        return s;
}

Suite *suite_members(void)
{
        Suite *s = suite_create("members");

        ADD_TESTS(s, "members", start_retaining, members_are_shown, lists_are_cut_at_the_limit,
                        preview_tells_and_does_nothing, process_gives_a_pidfd_of_a_member,
                        current_is_where_the_caller_is_a_member, law30_attach_again_moves_it,
                        law34_one_with_members_is_listed_and_found, law32_the_signal_then_the_kill,
                        law32_no_signal_where_none_was_asked_for, law45_orphans_of_the_caller);
        if (world.transport == TRANSPORT_DIRECT)
                ADD_TESTS(s, "looks", start_retaining, law48_others_are_answered_while_members_are_looked_at);
        return s;
}
