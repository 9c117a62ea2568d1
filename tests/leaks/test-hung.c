/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A user lets whoever looks at his processes hang: what others leak is reported all the same. */

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/fuse.h"
#include "tests/leaks/harness.h"
#include "util/clock.h"

#define GRACE_USEC UINT64_C(300000)
#define ALICE 1001
#define BOB 1002
#define CROWD 20
#define LARGE_CROWD 128
/* A look waits so long once or twice, and is not taken for one that hangs. */
#define CLOSE_MSEC 110
/* The probe waits for a few of hers, for a quarter of a second each. */
#define SOON_USEC UINT64_C(20000000)

#define AGAIN "--again"

struct crowd {
        int n;
        bool again; /* each executes for ever, and not once */
};

static enum probe_backend backend;
static struct harness h;
static int go[2], made[2];

static void setup(void)
{
        ck_assert_int_eq(pipe(go), 0);
        ck_assert_int_eq(pipe(made), 0);
        harness_start(&h, backend, NULL, NULL);
}

static void teardown(void)
{
        harness_stop(&h);
}

static void sleep_as_bob(void *arg)
{
        struct pollfd none = {.fd = -1};

        become_user(BOB);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
                (void) poll(&none, 1, -1);
}

static uint64_t context(uint32_t *ret_slot)
{
        static uint64_t last = 7;

        *ret_slot = backend == PROBE_BACKEND_BPF ? harness_context(&h) : 0;
        return backend == PROBE_BACKEND_BPF ? CONTEXT_OF(*ret_slot) : last++;
}

static void attach_all(uint32_t slot, const pid_t *pids, size_t n)
{
        for (size_t i = 0; i < n && backend == PROBE_BACKEND_BPF; i++)
                ck_assert(harness_attach(&h, pids[i], slot));
}

static void cancel_all(uint32_t slot, uint64_t id, uid_t uid, const pid_t *pids, size_t n)
{
        h.attached_by = uid;
        if (backend == PROBE_BACKEND_BPF)
                harness_cancel(&h, slot, GRACE_USEC);
        else
                harness_cancel_pids(&h, id, GRACE_USEC, pids, n);
}

/* He has a leak of his own, which comes later. */
static void bobs_is_reported(void)
{
        pid_t bob = spawn(sleep_as_bob, NULL);
        uint64_t id, begin;
        uint32_t slot;

        wait_for_state(bob, bob, "S");
        id = context(&slot);
        attach_all(slot, &bob, 1);
        begin = now_boottime_usec();
        cancel_all(slot, id, BOB, &bob, 1);
        ck_assert_msg(harness_leak(&h, bob, SOON_USEC) != NULL, "the probe hangs");
        printf("# after %u ms\n", (unsigned) ((now_boottime_usec() - begin) / 1000));
        reap(bob);
}

/* Executes this program, for ever. */
static void execute_again(const char *fd)
{
        if (fcntl(atoi(fd), F_DUPFD_CLOEXEC, 0) >= 0)
                execl("/proc/self/exe", "test-hung", AGAIN, fd, NULL);
        abort();
}

/* Each executes a program, which closes the file first; what is told of it waits for that. */
static void crowd_that_executes(int fd, void *userdata)
{
        const struct crowd *crowd = userdata;
        char number[12];

        snprintf(number, sizeof number, "%d", fd);
        ck_assert_int_eq(fcntl(fd, F_SETFD, crowd->again ? 0 : FD_CLOEXEC), 0);
        for (int i = 0; i < crowd->n; i++) {
                pid_t pid = fork();
                char byte;

                if (pid == 0) {
                        signal(SIGTERM, SIG_IGN);
                        prctl(PR_SET_PDEATHSIG, SIGKILL);
                        if (read(go[0], &byte, 1) != 1)
                                _exit(1);
                        if (crowd->again)
                                execute_again(number);
                        else
                                execl("/bin/sleep", "sleep", "1000", NULL);
                        _exit(1);
                }
                if (write(made[1], &pid, sizeof pid) != sizeof pid)
                        abort();
        }
}

static void others_are_reported_beside(int n, bool again)
{
        struct hung_file file = {.close_msec = again ? CLOSE_MSEC : 0};
        struct crowd crowd = {n, again};
        pid_t pids[LARGE_CROWD];
        uint32_t slot;
        uint64_t id;

        if (!hung_file_start(&file, ALICE, crowd_that_executes, &crowd))
                return;
        for (int i = 0; i < n; i++)
                ck_assert_int_eq(read(made[0], pids + i, sizeof pids[i]), sizeof pids[i]);
        id = context(&slot);
        attach_all(slot, pids, (size_t) n);
        for (int i = 0; i < n; i++)
                ck_assert_int_eq(write(go[1], "", 1), 1);
        for (int i = 0; i < n; i++)
                ck_assert(hung_file_is_being_closed(&file));
        for (int i = 0; i < n; i += PROBE_PIDS_MAX) {
                size_t rest = (size_t) (n - i);

                cancel_all(slot, id, ALICE, pids + i, rest < PROBE_PIDS_MAX ? rest : PROBE_PIDS_MAX);
                if (rest > PROBE_PIDS_MAX)
                        id = context(&slot);
        }
        bobs_is_reported();
        if (backend == PROBE_BACKEND_BPF) /* there it is seen without /proc */
                ck_assert_ptr_nonnull(harness_leak(&h, pids[0], SOON_USEC));
        hung_file_end(&file);
}

START_TEST(a_process_in_an_execve_that_lasts)
{
        others_are_reported_beside(1, false);
}
END_TEST

START_TEST(many_in_an_execve_that_lasts)
{
        others_are_reported_beside(CROWD, false);
}
END_TEST

START_TEST(many_that_each_cost_less_than_one_that_hangs)
{
        if (backend == PROBE_BACKEND_PROC)
                others_are_reported_beside(LARGE_CROWD, true);
}
END_TEST

static void work_as_alice(void *arg)
{
        become_user(ALICE);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (volatile unsigned n = 0;; n++)
                ;
}

#define WORKS_USEC 800000
#define LEFT_OUT_USEC 2000000 /* then her processes are looked at no more */
#define LONG_GRACE_USEC UINT64_C(2000000)

/* When it was looked at it worked. Since then nobody has, so nobody can say that it still does. */
START_TEST(one_that_stops_while_it_is_left_out)
{
        struct hung_file file = {};
        struct crowd crowd = {CROWD / 4, false};
        pid_t pids[CROWD / 4], worker;

        if (backend != PROBE_BACKEND_PROC || !hung_file_start(&file, ALICE, crowd_that_executes, &crowd))
                return;
        for (int i = 0; i < crowd.n; i++)
                ck_assert_int_eq(read(made[0], pids + i, sizeof pids[i]), sizeof pids[i]);
        for (int i = 0; i < crowd.n; i++)
                ck_assert_int_eq(write(go[1], "", 1), 1);
        for (int i = 0; i < crowd.n; i++)
                ck_assert(hung_file_is_being_closed(&file));
        worker = spawn(work_as_alice, NULL);
        nap(100000);
        h.attached_by = ALICE;
        harness_cancel_pids(&h, 50, LONG_GRACE_USEC, &worker, 1);
        harness_wait(&h, WORKS_USEC, NULL, NULL);
        harness_cancel_pids(&h, 51, LONG_GRACE_USEC, pids, (size_t) crowd.n);
        harness_wait(&h, LEFT_OUT_USEC, NULL, NULL);
        ck_assert_int_eq(kill(worker, SIGSTOP), 0);
        ck_assert_ptr_null(harness_leak(&h, worker, UINT64_C(5) * LONG_GRACE_USEC));
        reap(worker);
        hung_file_end(&file);
}
END_TEST

static void *poll_in_page(void *page)
{
        for (;;)
                syscall(SYS_poll, page, 2, -1);
        return NULL;
}

/* What a thread polls is in a page of the file, which then is not in memory any more. */
static void poll_in_file(int fd, void *userdata)
{
        volatile struct pollfd *page;
        pthread_t thread;
        pid_t pid = fork();

        if (pid > 0)
                return;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_DUMPABLE, 1); /* as after an execve(): then what it polls is read */
        page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        /* It is all zeros, so nothing is waited for that a pipe could say. */
        if (page == MAP_FAILED || page[0].fd != 0 || dup2(go[0], 0) != 0 ||
                        pthread_create(&thread, NULL, poll_in_page, (void *) page) != 0)
                abort();
        nap(300000);
        if (madvise((void *) page, 4096, MADV_DONTNEED) < 0 ||
                        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
                abort();
        pid = getpid();
        if (write(made[1], &pid, sizeof pid) != sizeof pid)
                abort();
        for (;;)
                pause();
}

/* Only BPF programs read it, and no signal ends that. */
static void hang_in_memory(void (*then)(void))
{
        struct hung_file file = {.hangs_in_read = true};
        uint32_t slot;
        uint64_t id;
        pid_t pid;

        if (backend != PROBE_BACKEND_BPF || !hung_file_start(&file, ALICE, poll_in_file, NULL))
                return;
        ck_assert_int_eq(read(made[0], &pid, sizeof pid), sizeof pid);
        id = context(&slot);
        attach_all(slot, &pid, 1);
        cancel_all(slot, id, ALICE, &pid, 1);
        ck_assert(hung_file_is_being_closed(&file));
        then();
        if (h.probe > 0)
                ck_assert_ptr_nonnull(harness_leak(&h, pid, SOON_USEC));
        hung_file_end(&file);
}

START_TEST(memory_that_is_not_there)
{
        hang_in_memory(bobs_is_reported);
}
END_TEST

/* Its own process stays, and ctxd is to hear of the end all the same. */
static void probe_is_killed(void)
{
        static char bytes[65536];
        ssize_t n;

        bobs_is_reported();
        ck_assert_int_eq(kill(h.probe, SIGKILL), 0);
        ck_assert_int_eq(waitpid(h.probe, NULL, 0), h.probe);
        h.probe = 0;
        do {
                ck_assert(becomes_readable(h.socket));
                n = recv(h.socket, bytes, sizeof bytes, 0);
        } while (n > 0);
        ck_assert_int_eq(n, 0);
}

START_TEST(the_end_of_a_probe_of_which_one_hangs)
{
        hang_in_memory(probe_is_killed);
}
END_TEST

int main(int argc, char **argv)
{
        const TTest *const tests[] = {
                        a_process_in_an_execve_that_lasts,
                        many_in_an_execve_that_lasts,
                        many_that_each_cost_less_than_one_that_hangs,
                        one_that_stops_while_it_is_left_out,
                        memory_that_is_not_there,
                        the_end_of_a_probe_of_which_one_hangs,
                        NULL,
        };
        Suite *suite = suite_create("hung");

        if (argc == 3 && strcmp(argv[1], AGAIN) == 0)
                execute_again(argv[2]);
        if (geteuid() != 0) {
                puts("1..0 # SKIP only root mounts the file system, and is several users");
                return 0;
        }
        backend = argc > 2 && strcmp(argv[2], "proc") == 0 ? PROBE_BACKEND_PROC : PROBE_BACKEND_BPF;
        tcase_add_checked_fixture(add_case(suite, "hung", tests), setup, teardown);
        return harness_main(argc, argv, backend == PROBE_BACKEND_BPF, suite);
}
