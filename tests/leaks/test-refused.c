/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Where BPF is refused, the probe says why, once, and goes by /proc; where it is not wanted, it stays out of
 * the way. */

#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/leaks/harness.h"

#define GRACE_USEC UINT64_C(300000)

/* A program that is executed by root gets what the bounding set leaves. */
static void refuse_bpf(void)
{
        prctl(PR_CAPBSET_DROP, CAP_BPF, 0, 0, 0);
        prctl(PR_CAPBSET_DROP, CAP_PERFMON, 0, 0, 0);
        prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0);
}

static int handle;

static void read_handle(void *arg)
{
        uint64_t value;

        for (;;)
                (void) !read(handle, &value, sizeof value);
}

static void pause_for_ever(void *arg)
{
        for (;;)
                pause();
}

static void check_proc(enum probe_backend wanted, void (*before_exec)(void), const char *reason)
{
        const struct probe_leak *leak;
        char expected[64];
        struct harness h;
        pid_t pids[2];

        harness_start(&h, wanted, NULL, before_exec);
        ck_assert_uint_eq(h.hello.backend, PROBE_BACKEND_PROC);
        ck_assert_msg(strstr(h.hello.reason, reason) != NULL, "reason: %s", h.hello.reason);

        handle = eventfd(0, 0);
        pids[0] = spawn(read_handle, NULL);
        pids[1] = spawn(pause_for_ever, NULL);
        for (int i = 0; i < 2; i++)
                wait_for_state(pids[i], pids[i], "S");
        kill(pids[1], SIGSTOP);
        wait_for_state(pids[1], pids[1], "T");
        harness_cancel_pids(&h, 7, GRACE_USEC, pids, 2);
        leak = harness_leak(&h, pids[0], PATIENCE_USEC);
        ck_assert_ptr_nonnull(leak);
        ck_assert_uint_eq(leak->kind, PROBE_LEAK_BLOCKED);
        ck_assert_uint_eq(leak->backend, PROBE_BACKEND_PROC);
        ck_assert_uint_eq(leak->tid, (uint32_t) pids[0]);
        ck_assert_int_eq(strncmp(leak->syscall_text, "read(", 5), 0);
        snprintf(expected, sizeof expected, "read(%d)", handle);
        ck_assert_str_eq(leak->syscall_text, expected);
        ck_assert_str_eq(leak->waits_on, "anon_inode:[eventfd]");
        ck_assert_ptr_null(harness_leak(&h, pids[1], 3 * GRACE_USEC));
        reap(pids[0]);
        ck_assert_ptr_nonnull(harness_resolved(&h, leak->leak_id, PATIENCE_USEC));
        reap(pids[1]);
        harness_stop(&h);
}

START_TEST(refused)
{
        struct harness h;
        bool built;

        harness_start(&h, PROBE_BACKEND_BPF, NULL, refuse_bpf);
        built = strstr(h.hello.reason, "built without") == NULL;
        harness_stop(&h);
        check_proc(PROBE_BACKEND_BPF, refuse_bpf, built ? "does not permit" : "built without");
}
END_TEST

START_TEST(proc)
{
        check_proc(PROBE_BACKEND_PROC, NULL, "Probe=proc");
}
END_TEST

#define CROWD 1200 /* threads: they come in three parts */

static void *read_handle_in_thread(void *arg)
{
        read_handle(arg);
        return NULL;
}

static void many_threads(void *arg)
{
        pthread_attr_t attr;
        pthread_t thread;

        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, 16384);
        for (int i = 1; i < CROWD; i++)
                ck_assert_int_eq(pthread_create(&thread, &attr, read_handle_in_thread, NULL), 0);
        ck_assert_int_eq(write(*(int *) arg, "", 1), 1);
        read_handle(NULL);
}

static bool has_all(struct harness *h, const void *arg)
{
        for (size_t i = 0; i < h->n_records; i++)
                if (h->records[i].type == PROBE_LEAK && h->records[i].leak.count == CROWD)
                        return true;
        return false;
}

START_TEST(all_of_many_threads)
{
        struct harness h;
        int made[2];
        pid_t pid;
        char byte;

        harness_start(&h, PROBE_BACKEND_PROC, NULL, NULL);
        handle = eventfd(0, 0);
        ck_assert_int_eq(pipe(made), 0);
        pid = spawn(many_threads, &made[1]);
        ck_assert_int_eq(read(made[0], &byte, 1), 1);
        harness_cancel_pids(&h, 7, GRACE_USEC, &pid, 1);
        ck_assert(harness_wait(&h, PATIENCE_USEC, has_all, NULL));
        reap(pid);
        harness_stop(&h);
}
END_TEST

START_TEST(off)
{
        struct harness h;
        pid_t pid;

        harness_start(&h, PROBE_BACKEND_OFF, NULL, NULL);
        ck_assert_uint_eq(h.hello.backend, PROBE_BACKEND_OFF);
        pid = spawn(pause_for_ever, NULL);
        harness_cancel_pids(&h, 7, GRACE_USEC, &pid, 1);
        ck_assert_ptr_null(harness_leak(&h, pid, 3 * GRACE_USEC));
        reap(pid);
        harness_stop(&h);
}
END_TEST

int main(int argc, char **argv)
{
        const TTest *const tests[] = {
                        refused,
                        proc,
                        all_of_many_threads,
                        off,
                        NULL,
        };
        Suite *suite = suite_create("refused");

        if (geteuid() != 0) {
                puts("1..0 # SKIP the system calls of others are root's to see");
                return 0;
        }
        add_case(suite, "refused", tests);
        return harness_main(argc, argv, false, suite);
}
