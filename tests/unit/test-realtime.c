/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/realtime.h"
#include "tests/harness/suite.h"

#define NOT_ALLOWED 77

/* In a child, whose exit status says what was wrong. */
static int in_child(int (*fn)(void))
{
        int status;
        pid_t pid = fork();

        ck_assert_int_ge(pid, 0);
        if (pid == 0)
                _exit(fn());
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static int policy(void)
{
        return sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;
}

static int say_policy(void)
{
        return policy();
}

static int there_and_back(void)
{
        struct sched_param param = {};
        struct realtime before, inner;
        int nice = getpriority(PRIO_PROCESS, 0) < 5 ? 5 : 19; /* never less than we were started with */

        if (setpriority(PRIO_PROCESS, 0, nice) < 0 || sched_setscheduler(0, SCHED_BATCH, &param) < 0)
                return 1;
        before = realtime_begin();
        if (before.policy < 0)
                return NOT_ALLOWED;
        if (policy() != SCHED_FIFO || sched_getparam(0, &param) < 0 || param.sched_priority != 1)
                return 2;
        if (in_child(say_policy) == SCHED_FIFO)
                return 3;
        inner = realtime_begin();
        realtime_end(inner);
        if (policy() != SCHED_FIFO)
                return 4;
        realtime_end(before);
        if (policy() != SCHED_BATCH || getpriority(PRIO_PROCESS, 0) != nice)
                return 5;
        before = realtime_begin(); /* and again: the flag is no hindrance */
        if (policy() != SCHED_FIFO)
                return 6;
        realtime_end(before);
        return policy() == SCHED_BATCH ? 0 : 7;
}

START_TEST(for_an_instant)
{
        int r = in_child(there_and_back);

        if (r == NOT_ALLOWED)
                printf("# no real-time priority on this machine: only how it does without is tested\n");
        else
                ck_assert_int_eq(r, 0);
}
END_TEST

static int without(void)
{
        struct rlimit none = {};
        int said[2];
        FILE *lines;
        char line[256];
        int n = 0;

        if (setrlimit(RLIMIT_RTPRIO, &none) < 0 || pipe(said) < 0 || dup2(said[1], STDERR_FILENO) < 0)
                return 1;
        if (getuid() == 0 && setresuid(65534, 65534, 65534) < 0)
                return 2;
        (void) setenv("CTXD_DEBUG", "1", 1);
        for (int i = 0; i < 3; i++) {
                struct realtime before = realtime_begin();

                if (before.policy >= 0 || policy() != SCHED_OTHER)
                        return 3;
                realtime_end(before);
        }
        close(said[1]);
        close(STDERR_FILENO);
        lines = fdopen(said[0], "r");
        while (lines && fgets(line, sizeof line, lines))
                n++;
        return n == 1 ? 0 : 4;
}

START_TEST(refused_is_no_error_and_said_once)
{
        ck_assert_int_eq(in_child(without), 0);
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {for_an_instant, refused_is_no_error_and_said_once, NULL};

        return run_tests("realtime", tests);
}
