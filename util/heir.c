/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "util/capability.h"
#include "util/heir.h"

#define STACK 16384
#define TABLE 65535 /* takes 0.5 MB of the kernel's memory; with one more it would be twice as much */

/* This may neither open nor close anything. */
static int wait_for_end(void *userdata)
{
        const pid_t *daemon = userdata;
        sigset_t all;

        sigfillset(&all);
        (void) sigprocmask(SIG_SETMASK, &all, NULL);
        (void) prctl(PR_SET_NAME, "ctxd-heir");
        (void) capability_drop(0, 0);
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (getppid() == *daemon)
                pause();
        _exit(0); /* it has ended before that */
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
