/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "util/heir.h"

#define STACK 16384

/* This may neither open nor close anything. */
static int wait_for_end(void *userdata)
{
        const pid_t *daemon = userdata;
        sigset_t all;

        sigfillset(&all);
        (void) sigprocmask(SIG_SETMASK, &all, NULL);
        (void) prctl(PR_SET_NAME, "ctxd-heir");
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (getppid() == *daemon)
                pause();
        _exit(0); /* it has ended before that */
}

int heir_start(void)
{
        alignas(max_align_t) char stack[STACK]; /* the process has a copy of it */
        pid_t self = getpid();

        return clone(wait_for_end, stack + sizeof stack, CLONE_FILES | SIGCHLD, &self) < 0 ? -errno : 0;
}
