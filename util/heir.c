/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/capability.h"
#include "util/heir.h"
#include "util/proc.h"

#define STACK 16384
#define TABLE 65535 /* takes 0.5 MB of the kernel's memory; with one more it would be twice as much */

/* Whether it may be a file that clients were given, and may have in an epoll set: an eventfd, a pidfd, or the
 * end of a pipe that hears of the other end, as a lifeline does. */
static bool may_be_given(int fd)
{
        char path[64], name[32] = "";
        int flags = fcntl(fd, F_GETFL);

        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (readlink(path, name, sizeof name - 1) < 0)
                return false;
        return strcmp(name, "anon_inode:[eventfd]") == 0 || proc_fd_is_pidfd(fd) ||
               (strncmp(name, "pipe:", 5) == 0 && flags >= 0 && (flags & O_ACCMODE) == O_RDONLY);
}

/* Where the table is full the first ones that are not kept make room. */
static DIR *open_fds(void)
{
        DIR *fds = opendir("/proc/self/fd");

        for (int fd = 0; !fds && fd < TABLE; fd++)
                if (!may_be_given(fd) && close(fd) == 0)
                        fds = opendir("/proc/self/fd");
        return fds;
}

/* Keeps those, and stops. Nothing of this is a last close, since the heir has all of it, too. */
static _Noreturn void keep_given(void)
{
        struct dirent *entry;
        DIR *fds;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        fds = open_fds();
        while (fds && (entry = readdir(fds))) {
                int fd = atoi(entry->d_name);

                if (entry->d_name[0] != '.' && fd != dirfd(fds) && !may_be_given(fd))
                        close(fd);
        }
        for (;;)
                (void) raise(SIGSTOP);
}

/* The daemon has gone. This needs no descriptor, because the table may be full. */
static void let_another_keep_given(void)
{
        pid_t pid = fork();

        if (pid == 0)
                keep_given();
        while (pid > 0 && waitpid(pid, NULL, WUNTRACED) < 0 && errno == EINTR)
                ;
}

/* This may neither open nor close anything while the daemon is there. */
static int wait_for_end(void *userdata)
{
        const pid_t *daemon = userdata;
        sigset_t all;

        sigfillset(&all);
        (void) sigprocmask(SIG_SETMASK, &all, NULL);
        (void) prctl(PR_SET_NAME, "ctxd-heir");
        (void) capability_drop(0, 0);
        (void) prctl(PR_SET_PDEATHSIG, SIGTERM);
        while (getppid() == *daemon)
                (void) sigwaitinfo(&all, NULL);
        let_another_keep_given();
        _exit(0);
}

/* Each time that a shared table grows the kernel waits for all CPUs: some 20 ms, for which all clients would
 * wait. It does not become smaller again. */
static void grow_table(void)
{
        struct rlimit limit;
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), last;

        if (fd < 0)
                return;
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > 0) {
                last = fcntl(fd, F_DUPFD_CLOEXEC,
                                (int) (limit.rlim_cur < TABLE ? limit.rlim_cur : TABLE) - 1);
                if (last >= 0)
                        close(last);
        }
        close(fd);
}

int heir_start(void)
{
        alignas(max_align_t) char stack[STACK]; /* the process has a copy of it */
        pid_t self = getpid();

        grow_table();
        return clone(wait_for_end, stack + sizeof stack, CLONE_FILES | SIGCHLD, &self) < 0 ? -errno : 0;
}
