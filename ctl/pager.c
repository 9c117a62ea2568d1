/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/pager.h"
#include "ctl/terminal.h"

static pid_t pager_pid;

/* $PAGER is a command line for the shell, as for other programs. */
static _Noreturn void run_pager(const char *command)
{
        static const char *const fallbacks[] = {"less", "more", "cat"};

        setenv("LESS", "FRSXMK", 0);
        setenv("LESSCHARSET", "utf-8", 0);
        signal(SIGINT, SIG_IGN); /* Ctrl-C must not end the pager */
        if (command)
                execl("/bin/sh", "sh", "-c", command, NULL);
        for (size_t i = 0; i < sizeof fallbacks / sizeof *fallbacks; i++)
                execlp(fallbacks[i], fallbacks[i], NULL);
        _exit(EXIT_FAILED);
}

void pager_open(struct ctl *ctl)
{
        const char *command = secure_getenv("SYSTEMD_PAGER");
        int fds[2];

        if (pager_pid > 0 || !ctl->pager || !isatty(STDOUT_FILENO) || !terminal_is_capable())
                return;
        if (!command)
                command = secure_getenv("PAGER");
        if (command && (!*command || strcmp(command, "cat") == 0))
                return;
        terminal_remember();
        if (pipe2(fds, O_CLOEXEC) < 0)
                return; /* we print without a pager */
        fflush(stdout);
        pager_pid = fork();
        if (pager_pid == 0) {
                if (dup2(fds[0], STDIN_FILENO) < 0)
                        _exit(EXIT_FAILED);
                run_pager(command);
        }
        if (pager_pid > 0) {
                dup2(fds[1], STDOUT_FILENO);
                signal(SIGPIPE, SIG_IGN); /* the user may close the pager before the end */
        }
        close(fds[0]);
        close(fds[1]);
}

void pager_close(void)
{
        if (pager_pid <= 0)
                return;
        fflush(stdout);
        clearerr(stdout);
        /* Closes the pipe, so that the pager sees the end of the output. */
        freopen("/dev/null", "w", stdout);
        while (waitpid(pager_pid, NULL, 0) < 0 && errno == EINTR)
                ;
        pager_pid = 0;
}
