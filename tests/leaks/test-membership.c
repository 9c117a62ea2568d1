/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who is a member, and how many there are: law 30, and the counts that law 31 rests on. */

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/leaks/harness.h"

static struct harness h;

static void setup(void)
{
        harness_start(&h, PROBE_BACKEND_BPF, NULL, NULL);
}

static void teardown(void)
{
        harness_stop(&h);
}

static void pause_for_ever(void *arg)
{
        for (;;)
                pause();
}

static void *pause_thread(void *arg)
{
        pause_for_ever(NULL);
        return NULL;
}

static int to_test[2], to_child[2];

/* In a child: tells a pid or tid to the test. */
static void tell(pid_t pid)
{
        ck_assert_int_eq(write(to_test[1], &pid, sizeof pid), sizeof pid);
}

/* In a child: waits for the test. */
static void await_go(void)
{
        char byte;

        if (read(to_child[0], &byte, 1) != 1)
                _exit(1);
}

static pid_t told(void)
{
        pid_t pid;

        ck_assert_int_eq(read(to_test[0], &pid, sizeof pid), sizeof pid);
        return pid;
}

static void go(void)
{
        ck_assert_int_eq(write(to_child[1], "g", 1), 1);
}

static void pipes(void)
{
        ck_assert_int_eq(pipe2(to_test, O_CLOEXEC), 0);
        ck_assert_int_eq(pipe2(to_child, O_CLOEXEC), 0);
}

static pid_t clone_with(uint64_t flags)
{
        struct clone_args args = {.flags = flags, .exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD};

        return (pid_t) syscall(SYS_clone3, &args, sizeof args);
}

static sem_t has_told;

static void *tell_thread(void *arg)
{
        tell((pid_t) syscall(SYS_gettid));
        sem_post(&has_told);
        return pause_thread(arg);
}

static char *const sleep_argv[] = {(char *) "sleep", (char *) "1000", NULL};

enum way { WAY_FORK, WAY_VFORK, WAY_SPAWN, WAY_PARENT, WAY_DOUBLE, WAY_THREAD, WAY_PIDNS, WAYS };

static const char *const way_names[WAYS] = {"fork", "vfork and exec", "posix_spawn", "clone(CLONE_PARENT)",
                "double fork and setsid", "thread", "new pid namespace"};

static void make_all_ways(void *arg)
{
        pthread_t thread;
        pid_t pid;

        await_go();
        pid = fork();
        if (pid == 0)
                pause_for_ever(NULL);
        tell(pid);
        pid = vfork();
        if (pid == 0) {
                execvp("sleep", sleep_argv);
                _exit(127);
        }
        tell(pid);
        posix_spawnp(&pid, "sleep", NULL, NULL, sleep_argv, environ);
        tell(pid);
        pid = clone_with(CLONE_PARENT);
        if (pid == 0)
                pause_for_ever(NULL);
        tell(pid);
        pid = fork();
        if (pid == 0) {
                setsid();
                pid = fork();
                if (pid == 0)
                        pause_for_ever(NULL);
                tell(pid);
                _exit(0);
        }
        waitpid(pid, NULL, 0);
        sem_init(&has_told, 0, 0);
        pthread_create(&thread, NULL, tell_thread, NULL);
        while (sem_wait(&has_told) < 0) /* it tells its own number, which has to come before the next */
                ;
        pid = clone_with(CLONE_NEWPID);
        if (pid == 0)
                pause_for_ever(NULL);
        tell(pid);
        pause_for_ever(NULL);
}

START_TEST(inherits)
{
        uint32_t slot = harness_context(&h);
        pid_t pid, made[WAYS];

        pipes();
        pid = spawn(make_all_ways, NULL);
        ck_assert(harness_attach(&h, pid, slot));
        ck_assert_int_eq(harness_live(&h, slot), 1);
        go();
        for (int i = 0; i < WAYS; i++)
                made[i] = told();
        for (int i = 0; i < WAYS; i++)
                ck_assert_msg(harness_is_member(&h, made[i], slot), "%s: no member", way_names[i]);
        ck_assert(harness_is_member(&h, pid, slot));
        ck_assert_int_eq(harness_live(&h, slot), WAYS + 1);
        ck_assert_int_eq(harness_listed(&h, slot), WAYS + 1);

        harness_cancel(&h, slot, UINT64_MAX);
        for (int i = 0; i < WAYS; i++)
                if (i != WAY_THREAD)
                        kill(made[i], SIGKILL);
        ck_assert(harness_is_member(&h, pid, slot));
        reap(pid);
        ck_assert_msg(harness_drained(&h, slot, PATIENCE_USEC), "live is %d", harness_live(&h, slot));
        waitpid(made[WAY_PARENT], NULL, __WALL);
}
END_TEST

static void *exec_thread(void *arg)
{
        tell((pid_t) syscall(SYS_gettid));
        await_go();
        execvp("sleep", sleep_argv);
        _exit(127);
}

static void exec_from_thread(void *arg)
{
        pthread_t thread;

        pthread_create(&thread, NULL, exec_thread, NULL);
        pause_for_ever(NULL);
}

/* The thread was there before the attach, and takes the leader's place by its exec. */
START_TEST(exec_by_thread)
{
        uint32_t slot = harness_context(&h);
        pid_t pid, tid;

        pipes();
        pid = spawn(exec_from_thread, NULL);
        tid = told();
        ck_assert(harness_attach(&h, pid, slot));
        ck_assert(harness_is_member(&h, tid, slot));
        ck_assert_int_eq(harness_live(&h, slot), 2);
        go();
        wait_for_live(&h, slot, 1);
        /* The old leader has gone by then, but its number is only handed over after that. */
        for (int i = 0; i < 6000 && !harness_is_member(&h, pid, slot); i++)
                sleep_usec(10000);
        ck_assert(harness_is_member(&h, pid, slot));
        ck_assert_int_eq(harness_live(&h, slot), 1);
        harness_cancel(&h, slot, UINT64_MAX);
        reap(pid);
        ck_assert(harness_drained(&h, slot, PATIENCE_USEC));
}
END_TEST

static void have_threads_and_children(void *arg)
{
        pthread_t thread;
        pid_t pid;

        for (int i = 0; i < 5; i++)
                pthread_create(&thread, NULL, pause_thread, NULL);
        pid = fork();
        if (pid == 0)
                pause_for_ever(NULL);
        tell(pid);
        await_go();
        pid = fork();
        if (pid == 0)
                pause_for_ever(NULL);
        tell(pid);
        pause_for_ever(NULL);
}

/* All threads, and the children to come, but no older child: nor when a later sweep looks again. */
START_TEST(attach_takes_threads)
{
        uint32_t slot = harness_context(&h);
        pid_t pid, older, younger;

        pipes();
        pid = spawn(have_threads_and_children, NULL);
        older = told();
        ck_assert(harness_attach(&h, pid, slot));
        ck_assert_int_eq(harness_live(&h, slot), 6);
        ck_assert_int_eq(harness_listed(&h, slot), 6);
        ck_assert(!harness_is_member(&h, older, slot));
        go();
        younger = told();
        ck_assert(harness_is_member(&h, younger, slot));
        harness_adopt(&h);
        ck_assert(!harness_is_member(&h, older, slot));
        ck_assert_int_eq(harness_live(&h, slot), 7);
        kill(older, SIGKILL);
        kill(younger, SIGKILL);
        harness_cancel(&h, slot, UINT64_MAX);
        reap(pid);
        ck_assert(harness_drained(&h, slot, PATIENCE_USEC));
}
END_TEST

/* A member that reaps orphans is not the parent of members for that. */
static void adopt_orphans(void *arg)
{
        pid_t pid;

        prctl(PR_SET_CHILD_SUBREAPER, 1);
        pid = fork();
        if (pid == 0) {
                await_go();
                pid = fork();
                if (pid == 0)
                        pause_for_ever(NULL);
                tell(pid);
                _exit(0);
        }
        tell(pid);
        waitpid(pid, NULL, 0);
        pause_for_ever(NULL);
}

START_TEST(orphans_stay_out)
{
        uint32_t slot = harness_context(&h);
        pid_t pid, orphan;

        pipes();
        pid = spawn(adopt_orphans, NULL);
        told();
        ck_assert(harness_attach(&h, pid, slot));
        go();
        orphan = told();
        for (int i = 0; i < 500; i++) { /* until it has been handed over */
                harness_adopt(&h);
                sleep_usec(1000);
        }
        ck_assert(!harness_is_member(&h, orphan, slot));
        ck_assert_int_eq(harness_live(&h, slot), 1);
        kill(orphan, SIGKILL);
        reap(pid);
}
END_TEST

static void exit_leader(void *arg)
{
        pthread_t thread;

        pthread_create(&thread, NULL, pause_thread, NULL);
        tell(getpid());
        await_go();
        syscall(SYS_exit, 0);
}

START_TEST(zombies_do_not_count)
{
        uint32_t slot = harness_context(&h), other = harness_context(&h);
        pid_t pid;

        pipes();
        pid = spawn(exit_leader, NULL);
        told();
        ck_assert(harness_attach(&h, pid, slot));
        ck_assert_int_eq(harness_live(&h, slot), 2);
        go();
        wait_for_state(pid, pid, "Z");
        harness_adopt(&h);
        ck_assert_int_eq(harness_live(&h, slot), 1);
        ck_assert_int_eq(harness_listed(&h, slot), 1);
        ck_assert(!harness_is_member(&h, pid, slot));

        /* Its thread can be moved all the same; the leader itself never is a member again. */
        ck_assert(!harness_attach(&h, pid, other));
        ck_assert_int_eq(harness_live(&h, slot), 0);
        ck_assert_int_eq(harness_live(&h, other), 1);
        harness_cancel(&h, other, UINT64_MAX);
        reap(pid);
        ck_assert(harness_drained(&h, other, PATIENCE_USEC));
}
END_TEST

/* To another context, with all threads, and back; what was attached elsewhere by itself stays. */
START_TEST(moves)
{
        uint32_t a = harness_context(&h), b = harness_context(&h), c = harness_context(&h);
        pid_t pid, older, younger;

        pipes();
        pid = spawn(have_threads_and_children, NULL);
        older = told();
        ck_assert(harness_attach(&h, pid, a));
        go();
        younger = told();
        ck_assert_int_eq(harness_live(&h, a), 7);
        ck_assert(harness_attach(&h, younger, c));
        ck_assert_int_eq(harness_live(&h, a), 6);
        ck_assert_int_eq(harness_live(&h, c), 1);
        ck_assert(harness_attach(&h, pid, b));
        ck_assert_int_eq(harness_live(&h, a), 0);
        ck_assert_int_eq(harness_live(&h, b), 6);
        ck_assert_int_eq(harness_live(&h, c), 1);
        ck_assert(harness_is_member(&h, younger, c));
        ck_assert(harness_attach(&h, pid, a));
        ck_assert_int_eq(harness_live(&h, a), 6);
        ck_assert_int_eq(harness_live(&h, b), 0);
        kill(older, SIGKILL);
        kill(younger, SIGKILL);
        reap(pid);
        ck_assert_int_eq(harness_listed(&h, a), 0);
        ck_assert_int_eq(harness_live(&h, a), 0);
}
END_TEST

static void fork_when_told(void *arg)
{
        pid_t pid;

        await_go();
        pid = fork();
        if (pid == 0)
                pause_for_ever(NULL);
        tell(pid);
        pause_for_ever(NULL);
}

/* The fork hook heeds a request that no adopt has seen yet. */
START_TEST(requests_are_heeded)
{
        uint32_t slot = harness_context(&h);
        pid_t pid, child;

        pipes();
        pid = spawn(fork_when_told, NULL);
        harness_request(&h, pid, slot);
        go();
        child = told();
        ck_assert(harness_is_member(&h, child, slot));
        ck_assert_int_eq(harness_live(&h, slot), 1);
        harness_adopt(&h);
        ck_assert_int_eq(harness_live(&h, slot), 2);
        kill(child, SIGKILL);
        reap(pid);
}
END_TEST

/* ctxd is told once of what is born into a done context. */
START_TEST(births_after_done)
{
        uint32_t slot = harness_context(&h);
        pid_t pid, child;

        pipes();
        pid = spawn(fork_when_told, NULL);
        ck_assert(harness_attach(&h, pid, slot));
        harness_cancel(&h, slot, UINT64_MAX);
        harness_wait(&h, 0, NULL, NULL);
        ck_assert_uint_eq(h.born[slot], 0);
        go();
        child = told();
        harness_wait(&h, 0, NULL, NULL);
        ck_assert_uint_eq(h.born[slot], 1);
        ck_assert_uint_eq(__atomic_load_n(&h.slots[slot].done, __ATOMIC_SEQ_CST), SLOT_BORN);
        kill(child, SIGKILL);
        reap(pid);
        ck_assert(harness_drained(&h, slot, PATIENCE_USEC));
}
END_TEST

/* A slot that was given to another context has nothing to do with the members it had. */
START_TEST(slot_reuse)
{
        uint32_t slot = harness_context(&h);
        pid_t pid, child;

        pipes();
        pid = spawn(fork_when_told, NULL);
        ck_assert(harness_attach(&h, pid, slot));
        __atomic_store_n(&h.slots[slot].context_id, 77, __ATOMIC_SEQ_CST);
        go();
        child = told();
        ck_assert_int_eq(harness_listed(&h, slot), 0);
        ck_assert_int_eq(harness_live(&h, slot), 1); /* the parent's, which it will take with it */
        kill(child, SIGKILL);
        reap(pid);
        ck_assert_int_eq(harness_live(&h, slot), 0);
}
END_TEST

START_TEST(list_tells_who)
{
        uint32_t slot = harness_context(&h);
        struct membership_task *tasks;
        pid_t pid;
        size_t n;

        pid = spawn(pause_for_ever, NULL);
        ck_assert(harness_attach(&h, pid, slot));
        tasks = harness_list(&h, &n);
        ck_assert_uint_eq(n, 1);
        ck_assert_uint_eq(tasks[0].pid, (uint32_t) pid);
        ck_assert_uint_eq(tasks[0].tid, (uint32_t) pid);
        ck_assert_uint_eq(tasks[0].ppid, (uint32_t) getpid());
        ck_assert_uint_eq(tasks[0].uid, geteuid());
        ck_assert_uint_eq(tasks[0].start_nsec, tasks[0].leader_start_nsec);
        ck_assert_uint_gt(tasks[0].start_nsec, 0);
        ck_assert_uint_lt(tasks[0].start_nsec, h.since_nsec);
        ck_assert_str_eq(tasks[0].comm, "test-membership");
        free(tasks);
        reap(pid);
}
END_TEST

int main(int argc, char **argv)
{
        const TTest *const tests[] = {
                        inherits,
                        exec_by_thread,
                        attach_takes_threads,
                        orphans_stay_out,
                        zombies_do_not_count,
                        moves,
                        requests_are_heeded,
                        births_after_done,
                        slot_reuse,
                        list_tells_who,
                        NULL,
        };
        Suite *suite = suite_create("membership");

        tcase_add_checked_fixture(add_case(suite, "membership", tests), setup, teardown);
        return harness_main(argc, argv, true, suite);
}
