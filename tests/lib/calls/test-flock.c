/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/law/local.h"

/* What waits for a file lock in place of the caller: it is not seen by anybody else, and ends with the
 * process. */

static int mine, other; /* two open files of one file; this one has the lock */

static void nothing(void *userdata) {}

static void setup(void)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        char path[] = "/tmp/ctx-flock.XXXXXX";

        ctx_after_unref(ctx_after_func(ctx, nothing, NULL));
        mine = mkostemp(path, O_CLOEXEC);
        other = open(path, O_RDWR | O_CLOEXEC);
        unlink(path);
        ck_assert_int_ge(other, 0);
        ck_assert_int_eq(flock(mine, LOCK_EX), 0);
}

static void teardown(void)
{
        close(mine);
        close(other);
}

/* All threads and tasks of a process sleep: it waits for the lock. */
static bool waits(pid_t pid)
{
        char path[64], text[4096] = "";
        FILE *locks;
        bool found = false;

        if (!process_sleeps(pid, 0))
                return false;
        snprintf(path, sizeof path, "/proc/locks");
        locks = fopen(path, "re");
        while (locks && fgets(text, sizeof text, locks))
                found |= strstr(text, "-> FLOCK") != NULL;
        if (locks)
                fclose(locks);
        return found;
}

START_TEST(nothing_outlives_the_process)
{
        int fds[2], status;
        char byte;
        pid_t pid;

        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());

                close(mine);
                _exit(ctx_flock(ctx, other, LOCK_EX) != 0);
        }
        close(fds[1]);
        ck_assert_happens(waits(pid));
        kill(pid, SIGKILL);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        /* The end of the pipe: nobody has the process's descriptors any more. */
        ck_assert(becomes_readable(fds[0]));
        ck_assert_int_eq(read(fds[0], &byte, 1), 0);
        close(fds[0]);
}
END_TEST

static _Atomic int *runs;

static void count(int signal)
{
        atomic_fetch_add(runs, 1);
}

/* As the terminal does with ^C: to the whole process group. */
START_TEST(a_signal_is_for_the_program)
{
        int status;
        pid_t pid;

        runs = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ck_assert_ptr_ne(runs, MAP_FAILED);
        pid = fork();
        if (pid == 0) {
                CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
                struct sigaction action = {.sa_handler = count};

                close(mine);
                setpgid(0, 0);
                sigaction(SIGUSR1, &action, NULL);
                _exit(-ctx_flock(ctx, other, LOCK_EX));
        }
        ck_assert_happens(waits(pid));
        kill(-pid, SIGUSR1);
        ck_assert_happens(atomic_load(runs) > 0);
        ck_assert_happens(waits(pid));
        ck_assert_int_eq(flock(mine, LOCK_UN), 0);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
        ck_assert_int_eq(atomic_load(runs), 1);
        munmap(runs, 4096);
}
END_TEST

/* A child that the program waits for by any means is the program's own. */
START_TEST(no_child_is_seen)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_timeout(ctx_background(), 100000);
        siginfo_t info;
        pid_t pid;
        int status;

        pid = fork();
        if (pid == 0) {
                bool any = false;

                close(mine);
                while (ctx_flock(ctx, other, LOCK_EX) == 0)
                        ;
                any = waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0;
                _exit(any);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
}
END_TEST

static void *wait_for_lock(void *ctx)
{
        return (void *) (intptr_t) ctx_flock(ctx, other, LOCK_EX);
}

/* ctx_flock() is no cancellation point, as flock(2) is none. */
START_TEST(a_thread_is_cancelled)
{
        CTX_AUTO_CANCEL struct ctx *ctx = ctx_with_cancel(ctx_background());
        pthread_t thread;
        void *result;

        ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_lock, ctx), 0);
        ck_assert_happens(waits(getpid()) || process_sleeps(getpid(), getpid()));
        ck_assert_int_eq(pthread_cancel(thread), 0);
        ck_assert_int_eq(ctx_cancel(ctx), 1);
        ck_assert_int_eq(pthread_join(thread, &result), 0);
        ck_assert_int_eq((intptr_t) result, -ECANCELED);
        /* Nobody waits any more, who would get the lock now. */
        ck_assert_int_eq(flock(mine, LOCK_UN), 0);
        ck_assert_int_eq(flock(mine, LOCK_EX | LOCK_NB), 0);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        nothing_outlives_the_process,
                        a_signal_is_for_the_program,
                        no_child_is_seen,
                        a_thread_is_cancelled,
                        NULL,
        };
        Suite *suite = suite_create("waiting for a file lock");
        TCase *tcase = add_case(suite, "flock", tests);

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_checked_fixture(tcase, fds_before, fds_after);
        return run_suite(suite);
}
