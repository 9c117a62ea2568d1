/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/proc.h"
#include "ctl/run-command.h"

/* Job control. ^Z is the command's, as ^C is: we do not stop by it ourselves. But if the command stops, by ^Z
 * or by itself, we stop as well, so that the shell that waits for us has its terminal back. Who continues us
 * continues the command. */

bool run_stop(void)
{
        sigset_t stop, go;

        sigemptyset(&stop);
        sigaddset(&stop, SIGTSTP);
        sigemptyset(&go);
        sigaddset(&go, SIGCONT);
        while (sigtimedwait(&go, NULL, &(struct timespec){}) > 0)
                ; /* from before */
        /* Both are blocked. A ^Z that has come to us as well is the same stop. */
        raise(SIGTSTP);
        sigprocmask(SIG_UNBLOCK, &stop, NULL);
        sigprocmask(SIG_BLOCK, &stop, NULL);
        /* The kernel stops nobody whom no shell could continue. */
        return sigtimedwait(&go, NULL, &(struct timespec){}) > 0;
}

void run_stop_with(pid_t command, int signal)
{
        _cleanup_close_ int terminal = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
        pid_t own = getpgrp(), group = getpgid(command);
        struct proc_stat stat;
        pid_t foreground = terminal < 0 ? -1 : tcgetpgrp(terminal);

        /* Elsewhere no shell waits for us, but somebody may cancel. */
        if (foreground < 0 || (foreground != own && foreground != group))
                return;
        if (!run_stop() && signal != SIGTSTP)
                return;
        if (foreground != own && tcgetpgrp(terminal) == own)
                (void) tcsetpgrp(terminal, foreground);
        /* A shell has continued all of our group; somebody else may have continued us alone. */
        if (group != own)
                kill(-group, SIGCONT);
        else if (proc_stat_read(command, &stat) == 0 && stat.state == 'T')
                kill(command, SIGCONT);
}
