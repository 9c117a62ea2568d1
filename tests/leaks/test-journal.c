/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the journal is told, read from a socket in the journal's place, in a mount namespace of the test's
 * own; and the numbers that a probe in a pid namespace tells. */

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "proto/message-ids.h"
#include "tests/leaks/harness.h"
#include "tests/leaks/journal.h"

#define GRACE_USEC UINT64_C(300000)

static int silent[2];

static void read_silence(void *arg)
{
        char byte;

        for (;;)
                (void) !read(silent[0], &byte, 1);
}

START_TEST(entries)
{
        struct harness h;
        uint32_t slot;
        char *entry, message[128];
        pid_t pid;
        int fd;

        fd = journal_listen();
        ck_assert_int_eq(pipe(silent), 0);
        harness_start(&h, PROBE_BACKEND_BPF, NULL, NULL);
        slot = harness_context(&h);
        pid = spawn(read_silence, NULL);
        wait_for_state(pid, pid, "S");
        ck_assert(harness_attach(&h, pid, slot));
        harness_cancel(&h, slot, GRACE_USEC);

        entry = journal_next(fd, CTXD_MESSAGE_LEAK_FOUND);
        has_line(entry, "\nMESSAGE_ID=" CTXD_MESSAGE_LEAK_FOUND "\n");
        has_line(entry, "\nPRIORITY=4\n");
        has_line(entry, "\nOBJECT_PID=%d\n", pid);
        has_line(entry, "\nOBJECT_SYSTEMD_UNIT=ctxd.service\n");
        has_line(entry, "\nCTXD_CONTEXT=test/context-%u\n", slot);
        has_line(entry, "\nCTXD_CONTEXT_ID=%llu\n", (unsigned long long) CONTEXT_OF(slot));
        has_line(entry, "\nCTXD_ERR=context canceled\n");
        has_line(entry, "\nCTXD_CAUSE=client went away\n");
        has_line(entry, "\nCTXD_LEAK=blocked\n");
        has_line(entry, "\nCTXD_TID=%d\n", pid);
        has_line(entry, "\nCTXD_BLOCKED_USEC=");
        has_line(entry, "\nCTXD_SINCE_DONE_USEC=");
        has_line(entry, "\nCTXD_SYSCALL=read(%d)\n", silent[0]);
        has_line(entry, "\nCTXD_WAITS_ON=pipe:[");
        has_line(entry, "\nCTXD_KERNEL_STACK\n");
        has_line(entry, "pipe_read");
        has_line(entry, "\nCTXD_COUNT=1\n");
        has_line(entry, "\nCTXD_BACKEND=bpf\n");
        snprintf(message, sizeof message, "\nMESSAGE=test-journal[%d/%d] is still blocked ", pid, pid);
        has_line(entry, "%s", message);
        has_line(entry, " after context test/context-%u was canceled (client went away): read(%d) on pipe:[",
                        slot, silent[0]);

        /* It is said again while it lasts. */
        entry = journal_next(fd, CTXD_MESSAGE_LEAK_FOUND);
        has_line(entry, "\nOBJECT_PID=%d\n", pid);
        reap(pid);
        entry = journal_next(fd, CTXD_MESSAGE_LEAK_RESOLVED);
        has_line(entry, "\nPRIORITY=5\n");
        has_line(entry, "\nOBJECT_PID=%d\n", pid);
        has_line(entry, "\nCTXD_CONTEXT=test/context-%u\n", slot);
        has_line(entry, "leak resolved after ");
        harness_stop(&h);
}
END_TEST

/* What is told of a member: all, or that it is there. */
static const struct {
        uid_t attached_by, ruid, euid;
        int dumpable;
        bool is_told;
} members[] = {
                {1000, 1000, 1000, 1, true},
                {1000, 1000, 1000, 0, false},
                {1000, 1000, 0, 1, false}, /* a setuid program */
                {1000, 0, 0, 1, false},
                {1000, 1001, 1001, 1, false},
                {0, 1000, 1000, 1, true}, /* root may attach, and look at, everybody's */
                {0, 1000, 1000, 0, false},
                {0, 1000, 0, 1, false},
};

static void become_member(size_t i)
{
        (void) signal(SIGTERM, SIG_IGN);
        if (setresuid(members[i].ruid, members[i].euid, members[i].euid) < 0 ||
                        prctl(PR_SET_DUMPABLE, members[i].dumpable) < 0)
                abort();
}

static void become_and_read(void *arg)
{
        become_member(*(size_t *) arg);
        read_silence(NULL);
}

static void become_and_run(void *arg)
{
        become_member(*(size_t *) arg);
        for (;;)
                __asm__ volatile("");
}

static const char *const told_fields[] = {
                "\nCTXD_SYSCALL", "\nCTXD_WAITS_ON", "\nCTXD_WHY", "\nCTXD_KERNEL_STACK", "\nCTXD_STACK"};

static void check_told(size_t i, enum probe_backend backend, bool reads)
{
        const struct probe_leak *leak;
        struct harness h;
        char *entry;
        pid_t pid;
        int fd;

        fd = journal_listen();
        ck_assert_int_eq(pipe(silent), 0);
        harness_start(&h, backend, NULL, NULL);
        h.attached_by = members[i].attached_by;
        pid = spawn(reads ? become_and_read : become_and_run, &i);
        if (reads)
                wait_for_state(pid, pid, "S");
        else
                sleep_usec(100000);
        if (backend == PROBE_BACKEND_BPF) {
                uint32_t slot = harness_context(&h);

                ck_assert(harness_attach(&h, pid, slot));
                harness_cancel(&h, slot, GRACE_USEC);
        } else
                harness_cancel_pids(&h, 1, GRACE_USEC, &pid, 1);

        entry = journal_next(fd, CTXD_MESSAGE_LEAK_FOUND);
        has_line(entry, "\nOBJECT_PID=%d\n", pid);
        has_line(entry, "\nCTXD_LEAK=%s\n", reads ? "blocked" : "ignoring");
        leak = harness_leak(&h, pid, PATIENCE_USEC);
        ck_assert_ptr_nonnull(leak);
        if (members[i].is_told) {
                /* Its user, who sees as much in /proc, but for the kernel's stack. */
                ck_assert_uint_eq(leak->reader, members[i].euid);
                if (strchr(leak->kernel_stack, '\n'))
                        ck_assert_uint_eq(leak->kernel_reader, PROBE_NOBODY);
                has_line(entry, "\nCTXD_WHY=SIGTERM is ignored\n");
                ck_assert_str_eq(leak->why, "SIGTERM is ignored");
                if (reads) {
                        has_line(entry, "\nCTXD_SYSCALL=read(%d)\n", silent[0]);
                        has_line(entry, "\nCTXD_WAITS_ON=pipe:[");
                        has_line(entry, "\nCTXD_KERNEL_STACK");
                        has_line(entry, "): read(%d) on pipe:[", silent[0]);
                        ck_assert(leak->syscall_text[0] && leak->waits_on[0] && leak->kernel_stack[0]);
                }
        } else {
                for (size_t k = 0; k < ELEMENTSOF(told_fields); k++)
                        ck_assert_msg(strstr(entry, told_fields[k]) == NULL, "%s in:%s", told_fields[k],
                                        entry);
                ck_assert_ptr_null(strstr(entry, "read("));
                ck_assert_uint_eq(leak->reader, PROBE_NOBODY);
                ck_assert_uint_eq(leak->kernel_reader, PROBE_NOBODY);
                ck_assert_str_eq(leak->syscall_text, "");
                ck_assert_str_eq(leak->waits_on, "");
                ck_assert_str_eq(leak->why, "");
                ck_assert_str_eq(leak->kernel_stack, "");
                ck_assert_str_eq(leak->stack, "");
        }
        reap(pid);
        entry = journal_next(fd, CTXD_MESSAGE_LEAK_RESOLVED);
        ck_assert(members[i].is_told || !strstr(entry, "CTXD_SYSCALL"));
        harness_stop(&h);
}

START_TEST(law49_of_a_blocked_one)
{
        check_told((size_t) _i, PROBE_BACKEND_BPF, true);
}
END_TEST

START_TEST(law49_of_an_ignoring_one)
{
        check_told((size_t) _i, PROBE_BACKEND_BPF, false);
}
END_TEST

START_TEST(law49_without_bpf)
{
        check_told((size_t) _i, PROBE_BACKEND_PROC, true);
}
END_TEST

#define CTXD 4711

/* A file of the daemon's, as its thread pages are. */
static void map_and_read(void *arg)
{
        int fd;

        if (setresuid(-1, CTXD, -1) < 0)
                abort();
        fd = memfd_create("page", MFD_CLOEXEC);
        if (fd < 0 || ftruncate(fd, 4096) < 0 || setresuid(-1, 0, -1) < 0 ||
                        mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
                abort();
        prctl(PR_SET_DUMPABLE, 1);
        read_silence(NULL);
}

/* The daemon has fewer rights than the probe. journald would add the unit of OBJECT_PID to the entry, and
 * show it in that unit's log. So the number is that of a process which the probe itself knows to take part,
 * and not of any that the daemon names. And the words of a user are not the probe's. */
static const struct {
        enum probe_backend backend;
        void (*run)(void *arg);
        bool attached, is_object;
} named[] = {
                {PROBE_BACKEND_BPF, read_silence, true, true}, /* it is a member */
                {PROBE_BACKEND_BPF, read_silence, false, false},
                {PROBE_BACKEND_BPF, map_and_read, false, true},
                {PROBE_BACKEND_PROC, read_silence, false, false},
};

START_TEST(whom_the_daemon_names)
{
        enum probe_backend backend = named[_i].backend;
        struct harness h;
        char *entry;
        pid_t pid;
        int fd;

        fd = journal_listen();
        ck_assert_int_eq(pipe(silent), 0);
        harness_uid = CTXD;
        harness_start(&h, backend, NULL, NULL);
        h.cause_uid = 1001;
        pid = spawn(named[_i].run, NULL);
        wait_for_state(pid, pid, "S");
        if (backend == PROBE_BACKEND_BPF) {
                uint32_t slot = harness_context(&h);

                ck_assert(!named[_i].attached || harness_attach(&h, pid, slot));
                harness_cancel(&h, slot, GRACE_USEC);
                if (!named[_i].attached)
                        harness_enter(&h, slot, pid, pid);
        } else
                harness_cancel_pids(&h, 1, GRACE_USEC, &pid, 1);
        entry = journal_next(fd, CTXD_MESSAGE_LEAK_FOUND);
        has_line(entry, named[_i].is_object ? "\nOBJECT_PID=%d\n" : "\nCTXD_PID=%d\n", pid);
        ck_assert_int_eq(strstr(entry, "OBJECT_PID=") != NULL, named[_i].is_object);
        has_line(entry, "\nCTXD_CAUSE=client went away\n");
        has_line(entry, "\nCTXD_CAUSE_UID=1001\n");
        has_line(entry, " was canceled (user 1001: client went away)");
        reap(pid);
        entry = journal_next(fd, CTXD_MESSAGE_LEAK_RESOLVED);
        has_line(entry, named[_i].is_object ? "\nOBJECT_PID=%d\n" : "\nCTXD_PID=%d\n", pid);
        has_line(entry, " was canceled (user 1001: client went away)");
        harness_stop(&h);
}
END_TEST

static char reason[256];

START_TEST(unavailable)
{
        struct harness h;
        char *entry;
        int fd;

        fd = journal_listen();
        ck_assert_int_eq(mount("tmpfs", "/sys/kernel/btf", "tmpfs", 0, NULL), 0);
        harness_start(&h, PROBE_BACKEND_BPF, NULL, NULL);
        ck_assert_uint_eq(h.hello.backend, PROBE_BACKEND_PROC);
        entry = journal_next(fd, CTXD_MESSAGE_PROBE_UNAVAILABLE);
        has_line(entry, "\nPRIORITY=4\n");
        snprintf(reason, sizeof reason, "%s", h.hello.reason);
        has_line(entry, "%s", reason);
        ck_assert_msg(strstr(reason, "/sys/kernel/btf/vmlinux") != NULL, "reason: %s", reason);
        harness_stop(&h);
}
END_TEST

/* In a pid namespace of its own, with its own /proc: all numbers are that namespace's. */
static int in_namespace(void)
{
        const struct probe_leak *leak;
        struct harness h;
        uint32_t slot;
        pid_t pid;

        ck_assert_int_eq(getpid(), 1);
        ck_assert_int_eq(mount("proc", "/proc", "proc", 0, NULL), 0);
        ck_assert_int_eq(pipe(silent), 0);
        harness_start(&h, PROBE_BACKEND_BPF, NULL, NULL);
        slot = harness_context(&h);
        pid = spawn(read_silence, NULL);
        ck_assert_int_lt(pid, 100);
        wait_for_state(pid, pid, "S");
        ck_assert(harness_attach(&h, pid, slot));
        ck_assert(harness_is_member(&h, pid, slot));
        harness_cancel(&h, slot, GRACE_USEC);
        leak = harness_leak(&h, pid, PATIENCE_USEC);
        ck_assert_ptr_nonnull(leak);
        ck_assert_uint_eq(leak->tid, (uint32_t) pid);
        ck_assert_msg(strncmp(leak->waits_on, "pipe:[", 6) == 0, "waits on: %s", leak->waits_on);
        reap(pid);
        ck_assert(harness_drained(&h, slot, PATIENCE_USEC));
        harness_stop(&h);
        return 0;
}

/* A process between, since one that has unshared its pid namespace can fork, but do little else. */
static int enter_namespace(void)
{
        int status;
        pid_t pid;

        ck_assert(journal_leave(CLONE_NEWPID));
        pid = fork();
        if (pid == 0)
                _exit(in_namespace());
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        return status != 0;
}

START_TEST(pid_namespace)
{
        int status;
        pid_t pid = fork();

        if (pid == 0)
                _exit(enter_namespace());
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
}
END_TEST

int main(int argc, char **argv)
{
        const TTest *const tests[] = {
                        entries,
                        unavailable,
                        pid_namespace,
                        NULL,
        };
        Suite *suite = suite_create("journal");
        TCase *loops = tcase_create("loops");

        if (!journal_can_listen()) {
                printf("1..0 # SKIP no mount namespace, in which it could be the journal\n");
                return EXIT_SUCCESS;
        }
        add_case(suite, "journal", tests);
        tcase_set_timeout(loops, 60);
        tcase_add_loop_test(loops, law49_of_a_blocked_one, 0, ELEMENTSOF(members));
        tcase_add_loop_test(loops, law49_of_an_ignoring_one, 0, ELEMENTSOF(members));
        tcase_add_loop_test(loops, law49_without_bpf, 0, ELEMENTSOF(members));
        tcase_add_loop_test(loops, whom_the_daemon_names, 0, ELEMENTSOF(named));
        suite_add_tcase(suite, loops);
        return harness_main(argc, argv, true, suite);
}
