/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Laws 30 to 32 with the real daemon and the real probe ($CTXD_PROBE): who becomes a member, when the last
 * member has left, and who is signalled. Where BPF is refused these tests are skipped. What is known
 * without BPF has tests of its own. */

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "puppet.h"

static void start_bpf(void)
{
        world_start("RetainSec=10min\nProbe=bpf\n", getenv("CTXD_PROBE"));
}

static bool has_bpf(void)
{
        _cleanup_free_ char *backend = NULL, *reason = NULL;

        ck_assert_int_ge(sd_bus_get_property_string(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                         "MembershipBackend", NULL, &backend),
                        0);
        if (strcmp(backend, "bpf") == 0)
                return true;
        ck_assert_int_ge(sd_bus_get_property_string(bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                                         "ProbeReason", NULL, &reason),
                        0);
        printf("# skipped: %s\n", reason);
        return false;
}

static bool is_member(const char *path, pid_t wanted)
{
        _cleanup_message_ sd_bus_message *m = CALL(bus, "Members", "su", path, 0);
        uint32_t pid, tid;
        bool found = false;

        ck_assert_int_eq(sd_bus_message_enter_container(m, 'a', "(uusst)"), 1);
        while (sd_bus_message_read(m, "(uusst)", &pid, &tid, NULL, NULL, NULL) > 0)
                found |= tid == (uint32_t) wanted;
        return found;
}

static unsigned n_members(const char *path)
{
        _cleanup_message_ sd_bus_message *m = CALL(bus, "Members", "su", path, 0);

        return length_of(m, "(uusst)");
}

static int drained_handle(const char *path)
{
        _cleanup_message_ sd_bus_message *m = CALL(bus, "Drained", "s", path);
        int fd, copy;

        READ(m, "h", &fd);
        copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        ck_assert_int_ge(copy, 0);
        return copy;
}

static char *const sleep_argv[] = {(char *) "sleep", (char *) "1000", NULL};

static void say_pid(int out, pid_t pid)
{
        if (write(out, &pid, sizeof pid) != sizeof pid)
                _exit(1);
}

static pid_t said_pid(const struct puppet *p)
{
        pid_t pid;

        ck_assert(puppet_read(p, &pid, sizeof pid));
        return pid;
}

static void *thread_pause(void *userdata)
{
        if (userdata)
                say_pid(*(int *) userdata, (pid_t) syscall(SYS_gettid));
        puppet_pause(-1, -1);
        return NULL;
}

static pid_t clone_with(uint64_t flags)
{
        struct clone_args args = {.flags = flags, .exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD};

        return (pid_t) syscall(SYS_clone3, &args, sizeof args);
}

/* It says its pid. The process that started it is gone when this returns. */
static void leave_daemon(int out)
{
        pid_t pid = fork();

        if (pid == 0) {
                setsid();
                pid = fork();
                if (pid == 0)
                        puppet_pause(-1, -1);
                say_pid(out, pid);
                _exit(0);
        }
        waitpid(pid, NULL, 0);
}

static const char *const ways[] = {"fork", "vfork and exec", "clone(CLONE_PARENT)", "double fork and setsid",
                "a thread", "its child"};

static void make_kin(int in, int out)
{
        pthread_t thread;
        pid_t pid;

        for (int i = 0; i < 2; i++)
                if (pthread_create(&thread, NULL, thread_pause, NULL) != 0)
                        _exit(1);
        puppet_say(out, '!');
        (void) puppet_told(in);
        pid = fork();
        if (pid == 0)
                puppet_pause(-1, -1);
        say_pid(out, pid);
        pid = vfork();
        if (pid == 0) {
                execvp("sleep", sleep_argv);
                _exit(127);
        }
        say_pid(out, pid);
        pid = clone_with(CLONE_PARENT);
        if (pid == 0)
                puppet_pause(-1, -1);
        say_pid(out, pid);
        leave_daemon(out);
        if (pthread_create(&thread, NULL, thread_pause, &out) != 0)
                _exit(1);
        (void) puppet_told(in);
        pid = fork();
        if (pid == 0) {
                say_pid(out, getpid());
                if (fork() == 0)
                        puppet_pause(-1, -1);
                puppet_pause(-1, -1);
        }
        puppet_pause(-1, -1);
}

START_TEST(law30_all_its_kin)
{
        pid_t kin[ELEMENTSOF(ways)];
        struct puppet p;
        int drained, status;

        if (!has_bpf())
                return;
        p = puppet_start(make_kin);
        ck_assert_int_eq(puppet_said(&p), '!');
        create(bus, "a");
        OK(bus, "Attach", "sha{sv}", "a", p.pidfd, 1, "signal", "i", SIGKILL);
        ck_assert_uint_eq(n_members("a"), 3); /* with its threads */
        puppet_tell(&p, 'g');
        for (size_t i = 0; i < ELEMENTSOF(ways); i++) {
                if (i == ELEMENTSOF(ways) - 1)
                        puppet_tell(&p, 'g'); /* the thread has said its number */
                kin[i] = said_pid(&p);
        }
        for (size_t i = 0; i < ELEMENTSOF(ways); i++)
                ck_assert_msg(is_member("a", kin[i]), "%s: no member", ways[i]);
        /* The death of their parent changes nothing. */
        kill(p.pid, SIGKILL);
        ck_assert_int_eq(waitpid(p.pid, &status, 0), p.pid);
        p.pid = 0;
        for (size_t i = 0; i < ELEMENTSOF(ways); i++)
                if (strcmp(ways[i], "a thread") != 0)
                        ck_assert_msg(is_member("a", kin[i]), "%s: no member once its parent is gone",
                                        ways[i]);
        drained = drained_handle("a");
        ck_assert(!is_readable(drained));
        cancel(bus, "a", "");
        ck_assert(becomes_readable(drained));
        for (size_t i = 0; i < ELEMENTSOF(ways); i++)
                if (strcmp(ways[i], "clone(CLONE_PARENT)") == 0)
                        waitpid(kin[i], NULL, __WALL); /* ours */
        close(drained);
        puppet_end(&p);
}
END_TEST

static int exec_pipes[2];

static void *exec_in_thread(void *userdata)
{
        static char *const argv[] = {(char *) "cat", NULL};

        (void) puppet_told(exec_pipes[0]);
        if (dup2(exec_pipes[0], 0) < 0 || dup2(exec_pipes[1], 1) < 0)
                _exit(1);
        execvp(argv[0], argv);
        _exit(127);
}

static void exec_by_thread(int in, int out)
{
        pthread_t thread;

        exec_pipes[0] = in;
        exec_pipes[1] = out;
        if (pthread_create(&thread, NULL, exec_in_thread, NULL) != 0)
                _exit(1);
        puppet_say(out, '!');
        puppet_pause(in, out);
}

START_TEST(law30_an_exec_by_another_thread)
{
        struct puppet p;

        if (!has_bpf())
                return;
        p = puppet_start(exec_by_thread);
        ck_assert_int_eq(puppet_said(&p), '!');
        create(bus, "a");
        OK(bus, "Attach", "sha{sv}", "a", p.pidfd, 0);
        ck_assert_uint_eq(n_members("a"), 2);
        puppet_tell(&p, 'x');
        puppet_tell(&p, 'y');
        ck_assert_int_eq(puppet_said(&p), 'y');
        ck_assert_uint_eq(n_members("a"), 1);
        ck_assert(is_member("a", p.pid));
        puppet_end(&p);
}
END_TEST

static void leave_one_behind(int in, int out)
{
        (void) puppet_told(in);
        leave_daemon(out);
        puppet_pause(-1, -1);
}

START_TEST(law31_exactly_with_the_last_one)
{
        int status, drained, above;
        struct puppet p;
        pid_t last;

        if (!has_bpf())
                return;
        OK(bus, "Create", "sa{sv}", "a/b", 1, "parents", "b", 1);
        p = puppet_start(leave_one_behind);
        OK(bus, "Attach", "sha{sv}", "a/b", p.pidfd, 0);
        puppet_tell(&p, 'g');
        last = said_pid(&p);
        drained = drained_handle("a/b");
        above = drained_handle("a");
        ck_assert(is_member("a/b", last));
        cancel(bus, "a", "");
        ck_assert(!is_readable(drained) && !is_readable(above));
        kill(p.pid, SIGKILL);
        ck_assert_int_eq(waitpid(p.pid, &status, 0), p.pid);
        p.pid = 0;
        ck_assert_uint_eq(n_members("a/b"), 1); /* and the daemon has had its turn */
        ck_assert(!is_readable(drained) && !is_readable(above));
        ck_assert_uint_eq(property_u64(bus, "a", "QuiesceUSec"), UINT64_MAX);
        kill(last, SIGKILL);
        ck_assert(becomes_readable(drained) && becomes_readable(above));
        ck_assert_uint_eq(n_members("a/b"), 0);
        ck_assert_uint_ne(property_u64(bus, "a", "QuiesceUSec"), UINT64_MAX);
        close(drained);
        close(above);
        puppet_end(&p);
}
END_TEST

static void hand_over(int in, int out)
{
        uint64_t end = now_boottime_usec() + 60000000;

        (void) signal(SIGTERM, SIG_IGN);
        (void) signal(SIGCHLD, SIG_IGN);
        (void) puppet_told(in);
        for (int i = 0; i < 3; i++)
                if (fork() == 0) {
                        while (now_boottime_usec() < end)
                                if (fork() > 0) {
                                        usleep(300);
                                        _exit(0);
                                }
                        _exit(0);
                }
        puppet_say(out, '!');
        puppet_pause(in, out);
}

/* None of these processes lives long. While the daemon kills them it serves another client. */
START_TEST(law31_drained_under_kills)
{
        struct puppet p;
        int drained;

        if (!has_bpf())
                return;
        p = puppet_start(hand_over);
        create(bus, "a");
        OK(bus, "Attach", "sha{sv}", "a", p.pidfd, 2, "signal", "i", SIGTERM, "kill-after-usec", "t",
                        UINT64_C(50000));
        puppet_tell(&p, 'g');
        ck_assert_int_eq(puppet_said(&p), '!');
        drained = drained_handle("a");
        cancel(bus, "a", "");
        work(bus, 20);
        ck_assert(becomes_readable(drained));
        ck_assert_uint_eq(n_members("a"), 0);
        close(drained);
        puppet_end(&p);
}
END_TEST

static int count_out;

static void count(int signal_number)
{
        puppet_say(count_out, signal_number == SIGTERM ? 'T' : 'U');
}

static void count_signals(int in, int out)
{
        struct sigaction action = {.sa_handler = count};

        count_out = out;
        /* One at a time, so that they are listed in the order in which they came. */
        sigfillset(&action.sa_mask);
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGUSR1, &action, NULL);
        puppet_say(out, '!');
        puppet_pause(in, out);
}

START_TEST(law32_one_signal_however_often_it_is_cancelled)
{
        struct puppet p;

        if (!has_bpf())
                return;
        OK(bus, "Create", "sa{sv}", "a/b", 1, "parents", "b", 1);
        p = puppet_start(count_signals);
        ck_assert_int_eq(puppet_said(&p), '!');
        OK(bus, "Attach", "sha{sv}", "a/b", p.pidfd, 2, "signal", "i", SIGTERM, "kill-after-usec", "t",
                        UINT64_MAX);
        ck_assert(cancel(bus, "a/b", ""));
        ck_assert_int_eq(puppet_said(&p), 'T');
        cancel(bus, "a/b", "");
        cancel(bus, "a", "");
        OK(bus, "Release", "s", "a/b");
        kill(p.pid, SIGUSR1);
        ck_assert_int_eq(puppet_said(&p), 'U'); /* no other SIGTERM before it */
        puppet_end(&p);
}
END_TEST

/* A copy of sleep that is setuid root. */
static char program[128];

static void become_alice(void)
{
        if (setresgid(ALICE, ALICE, ALICE) < 0 || setresuid(ALICE, ALICE, ALICE) < 0)
                _exit(1);
}

static void run_setuid(int in, int out)
{
        char *const argv[] = {program, (char *) "100", NULL}; /* nobody takes it along */

        become_alice();
        puppet_say(out, '!');
        (void) puppet_told(in);
        execv(program, argv);
        _exit(127);
}

static void ignore_sigterm(int in, int out)
{
        (void) signal(SIGTERM, SIG_IGN);
        become_alice();
        puppet_say(out, '!');
        puppet_pause(in, out);
}

struct pidfds {
        int setuid, witness;
};

static void alice_attaches(void *userdata)
{
        const struct pidfds *fds = userdata;
        _cleanup_bus_ sd_bus *b = connect_bus();

        OK(b, "Create", "sa{sv}", "~/job", 0);
        OK(b, "Attach", "sha{sv}", "~/job", fds->setuid, 2, "signal", "i", SIGTERM, "kill-after-usec", "t",
                        UINT64_C(100000));
        OK(b, "Attach", "sha{sv}", "~/job", fds->witness, 2, "signal", "i", SIGTERM, "kill-after-usec", "t",
                        UINT64_C(100000));
}

static void alice_cancels(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        ck_assert(cancel(b, "~/job", ""));
}

static bool copy_setuid(void)
{
        struct statvfs fs;
        char command[256];

        snprintf(program, sizeof program, "%s/sleep-setuid", world.daemon.directory);
        snprintf(command, sizeof command, "cp -L \"$(command -v sleep)\" %s", program);
        if (statvfs(world.daemon.directory, &fs) < 0 || (fs.f_flag & ST_NOSUID) || system(command) != 0)
                return false;
        return chmod(program, 04755) == 0;
}

static uid_t euid_of(pid_t pid)
{
        char path[48], line[128];
        unsigned uid = 0;
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/status", (int) pid);
        f = fopen(path, "re");
        ck_assert_ptr_nonnull(f);
        while (fgets(line, sizeof line, f))
                if (sscanf(line, "Uid: %*u %u", &uid) == 1)
                        break;
        fclose(f);
        return uid;
}

START_TEST(law32_a_setuid_program_is_never_signalled)
{
        struct puppet changed, witness;
        int status;

        if (getuid() != 0 || !has_bpf())
                return;
        if (!copy_setuid()) {
                printf("# skipped: no setuid program can be made in %s\n", world.daemon.directory);
                return;
        }
        changed = puppet_start(run_setuid);
        witness = puppet_start(ignore_sigterm);
        ck_assert_int_eq(puppet_said(&changed), '!');
        ck_assert_int_eq(puppet_said(&witness), '!');
        run_as(ALICE, alice_attaches, &(struct pidfds){changed.pidfd, witness.pidfd});
        puppet_tell(&changed, 'x');
        ck_assert_int_eq(puppet_said(&changed), 0); /* its pipes are closed by the exec */
        ck_assert_uint_eq(euid_of(changed.pid), 0);
        run_as(ALICE, alice_cancels, NULL);
        ck_assert_int_eq(waitpid(witness.pid, &status, 0), witness.pid);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* the kill has come for both */
        witness.pid = 0;
        ck_assert_uint_eq(n_members("user-1001/job"), 1); /* and the daemon is done with it */
        ck_assert_int_eq(waitpid(changed.pid, &status, WNOHANG), 0);
        puppet_end(&changed);
        puppet_end(&witness);
        unlink(program);
}
END_TEST

static int self_pidfd;

static void alice_tries_to_leave(void *userdata)
{
        _cleanup_bus_ sd_bus *b = connect_bus();

        OK(b, "Create", "sa{sv}", "~/mine", 0);
        FAILS(b, CTXD_ERROR_ACCESS_DENIED, "Attach", "sha{sv}", "~/mine", self_pidfd, 0);
        OK(b, "Attach", "sha{sv}", "job/sub", self_pidfd, 0); /* below: but not with less */
}

static void alice_counts(int in, int out)
{
        become_alice();
        count_signals(in, out);
}

/* Root has attached it. Alice may write below that context, and attaches it there without a signal. */
START_TEST(law30_nothing_leaves_by_attaching_itself_with_less)
{
        struct puppet p;

        if (getuid() != 0 || !has_bpf())
                return;
        OK(bus, "Create", "sa{sv}", "job", 1, "mode", "u", 0755);
        OK(bus, "Create", "sa{sv}", "job/sub", 1, "mode", "u", 0777);
        p = puppet_start(alice_counts);
        ck_assert_int_eq(puppet_said(&p), '!');
        self_pidfd = p.pidfd;
        OK(bus, "Attach", "sha{sv}", "job", p.pidfd, 2, "signal", "i", SIGTERM, "kill-after-usec", "t",
                        UINT64_C(200000));
        run_as(ALICE, alice_tries_to_leave, NULL);
        ck_assert(is_member("job/sub", p.pid));
        ck_assert(!is_member("job", p.pid));
        cancel(bus, "job", "");
        ck_assert_int_eq(puppet_said(&p), 'T');
        ck_assert_int_eq(puppet_said(&p), 0); /* killed */
        puppet_end(&p);
}
END_TEST

Suite *suite_kin(void)
{
        Suite *s = suite_create("kin");

        ADD_TESTS(s, "kin", start_bpf, law30_all_its_kin, law30_an_exec_by_another_thread,
                        law30_nothing_leaves_by_attaching_itself_with_less, law31_exactly_with_the_last_one,
                        law31_drained_under_kills, law32_one_signal_however_often_it_is_cancelled,
                        law32_a_setuid_program_is_never_signalled);
        return s;
}
