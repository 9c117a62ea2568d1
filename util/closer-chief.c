/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/closer-internal.h"
#include "util/proc.h"

#define HANDS 2 /* that wait for jobs */

struct chief {
        int jobs, keeps, leaving[2], children, gone;
        pid_t hands[HANDS], keeper, ending[CLOSER_ENDING]; /* 0: none */
};

static bool replace(pid_t *pids, unsigned n, pid_t pid, pid_t by)
{
        for (unsigned i = 0; i < n; i++)
                if (pids[i] == pid) {
                        pids[i] = by;
                        return true;
                }
        return false;
}

static void note_who_leaves(struct chief *c)
{
        pid_t pid;

        while (read(c->leaving[0], &pid, sizeof pid) == sizeof pid)
                if (pid != c->keeper) {
                        (void) replace(c->hands, HANDS, pid, 0);
                } else {
                        (void) replace(c->ending, CLOSER_ENDING, 0, pid);
                        c->keeper = 0;
                }
}

static void note_who_has_ended(struct chief *c)
{
        struct signalfd_siginfo info;
        pid_t pid;

        while (read(c->children, &info, sizeof info) == sizeof info)
                ;
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
                note_who_leaves(c); /* before its end */
                if (pid == c->keeper)
                        c->keeper = 0;
                else if (replace(c->ending, CLOSER_ENDING, pid, 0))
                        closer_say(c->keeps, &(struct closer_answer){.pid = pid}, NULL, 0);
                else {
                        (void) replace(c->hands, HANDS, pid, 0);
                        closer_say(c->jobs, &(struct closer_answer){.pid = pid}, NULL, 0);
                }
        }
}

static pid_t start(
                const struct chief *c, void (*run)(int socket, int leaving, int gone), int socket, int other)
{
        pid_t self = getpid(), pid = fork();

        if (pid != 0)
                return pid;
        (void) prctl(PR_SET_NAME, "ctxd-close");
        /* A write can sleep for ever. */
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != self)
                _exit(0); /* it has died before that */
        close(c->leaving[0]);
        close(c->children);
        close(other);
        run(socket, c->leaving[1], c->gone);
        _exit(0);
}

static bool fill(struct chief *c)
{
        for (unsigned i = 0; i < HANDS; i++)
                if (c->hands[i] <= 0)
                        c->hands[i] = start(c, closer_hand, c->jobs, c->keeps);
        return c->hands[0] > 0 && c->hands[1] > 0 && c->keeper >= 0;
}

/* A pidfd of a process that has been reaped. -errno. */
static int open_gone(void)
{
        pid_t pid = fork();
        int fd;

        if (pid == 0)
                _exit(0);
        if (pid < 0)
                return -errno;
        fd = pidfd_open_process(pid);
        (void) waitpid(pid, NULL, 0);
        return fd;
}

static _Noreturn void chief(int jobs, int keeps)
{
        struct chief c = {.jobs = jobs, .keeps = keeps};
        sigset_t set;

        (void) prctl(PR_SET_NAME, "ctxd-closer");
        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        sigprocmask(SIG_BLOCK, &set, NULL);
        signal(SIGCHLD, SIG_DFL);
        c.children = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        c.gone = open_gone();
        if (c.children < 0 || c.gone < 0 || pipe2(c.leaving, O_CLOEXEC | O_NONBLOCK) < 0)
                _exit(1);
        for (;;) {
                bool has_all = fill(&c);
                struct pollfd polls[] = {{.fd = jobs}, {.fd = c.leaving[0], .events = POLLIN},
                                {.fd = c.children, .events = POLLIN},
                                {.fd = c.keeper == 0 ? keeps : -1, .events = POLLIN}};

                /* Where a fork has failed, it is tried again. */
                if (poll(polls, ELEMENTSOF(polls), has_all ? -1 : 100) < 0 && errno != EINTR)
                        _exit(1);
                if (polls[0].revents & (POLLHUP | POLLERR))
                        _exit(0);
                note_who_leaves(&c);
                note_who_has_ended(&c);
                if (c.keeper < 0)
                        c.keeper = 0;
                else if (polls[3].revents & POLLIN)
                        c.keeper = start(&c, closer_keep, keeps, jobs);
        }
}

/* Standard error stays, for a sanitizer. Else these processes would keep the daemon's descriptors open. */
_Noreturn void closer_chief(int jobs, int keeps)
{
        if (dup2(jobs, STDIN_FILENO) < 0 || dup2(keeps, STDOUT_FILENO) < 0 ||
                        close_range(STDERR_FILENO + 1, ~0U, 0) < 0)
                _exit(1);
        chief(STDIN_FILENO, STDOUT_FILENO);
}
