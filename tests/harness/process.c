/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <check.h>
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/base.h"
#include "tests/harness/process.h"

pid_t spawn(void (*fn)(void *userdata), void *userdata)
{
        sigset_t ends, before;
        pid_t pid;

        /* The handlers that check has installed for these signals end the whole group. The child must not
         * run them if it is signalled before it has removed them. */
        sigemptyset(&ends);
        sigaddset(&ends, SIGTERM);
        sigaddset(&ends, SIGINT);
        sigprocmask(SIG_BLOCK, &ends, &before);
        pid = fork_tied();
        if (pid == 0) {
                signal(SIGTERM, SIG_DFL);
                signal(SIGINT, SIG_DFL);
        }
        sigprocmask(SIG_SETMASK, &before, NULL);
        if (pid == 0) {
                fn(userdata);
                _exit(0);
        }
        return pid;
}

void wait_for(pid_t pid)
{
        int status;

        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                        "another process of the test failed: 0x%x", status);
}

struct other {
        uid_t uid;
        void (*fn)(void *userdata);
        void *userdata;
};

void become_user(uid_t uid)
{
        ck_assert_int_eq(setgroups(0, NULL), 0);
        ck_assert_int_eq(setresgid(uid, uid, uid), 0);
        ck_assert_int_eq(setresuid(uid, uid, uid), 0);
        prctl(PR_SET_DUMPABLE, 1);
}

static void run_as_other(void *userdata)
{
        const struct other *o = userdata;

        become_user(o->uid);
        o->fn(o->userdata);
}

pid_t spawn_as(uid_t uid, void (*fn)(void *userdata), void *userdata)
{
        struct other o = {uid, fn, userdata};

        return spawn(run_as_other, &o);
}

void run_as(uid_t uid, void (*fn)(void *userdata), void *userdata)
{
        wait_for(spawn_as(uid, fn, userdata));
}

static void sleep_for_ever(void *userdata)
{
        for (;;)
                pause();
}

pid_t sleeper(int *ret_pidfd)
{
        pid_t pid = spawn(sleep_for_ever, NULL);

        if (ret_pidfd)
                *ret_pidfd = open_pidfd(pid);
        return pid;
}

void end_process(pid_t pid)
{
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
}

int open_pidfd(pid_t pid)
{
        int fd = (int) syscall(SYS_pidfd_open, pid, 0);

        if (fd < 0)
                give_up("pidfd_open", errno); /* also called outside of tests */
        return fd;
}

unsigned children_of(pid_t pid, pid_t ret_children[CHILDREN_MAX])
{
        char path[64];
        unsigned n = 0;
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
        f = fopen(path, "re");
        if (!f)
                give_up(path, errno); /* also called outside of tests, where nothing may be asserted */
        while (n < CHILDREN_MAX && fscanf(f, "%d", &ret_children[n]) == 1)
                n++;
        fclose(f);
        return n;
}

bool process_has_name(pid_t pid, const char *name)
{
        char path[64], comm[32] = "";
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/comm", pid);
        f = fopen(path, "re");
        if (f && fscanf(f, "%31s", comm) != 1)
                comm[0] = '\0';
        if (f)
                fclose(f);
        return strcmp(comm, name) == 0;
}

pid_t child_with_name(pid_t pid, const char *name)
{
        pid_t pids[CHILDREN_MAX];
        unsigned n = children_of(pid, pids);

        for (unsigned i = 0; i < n; i++)
                if (process_has_name(pids[i], name))
                        return pids[i];
        return 0;
}
