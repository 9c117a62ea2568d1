/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/blocking/spawn.h"
#include "proto/names.h"

/* What happens between fork and exec. The program may have threads, so the child calls only what may be
 * called in a signal handler. */

static bool is_ours(const char *assignment)
{
        return strncmp(assignment, CTXD_ENV_CONTEXT "=", strlen(CTXD_ENV_CONTEXT "=")) == 0 ||
               strncmp(assignment, CTXD_ENV_ADDRESS "=", strlen(CTXD_ENV_ADDRESS "=")) == 0;
}

char **spawn_env(char *const *env, char *context, char *address)
{
        bool replace = context || address;
        char **result, **at;
        size_t n = 0;

        if (!env)
                env = environ;
        while (env[n])
                n++;
        at = result = calloc(n + 3, sizeof *result);
        if (!result)
                return NULL;
        if (context)
                *at++ = context;
        if (address)
                *at++ = address;
        for (; *env; env++)
                if (!replace || !is_ours(*env))
                        *at++ = *env;
        return result;
}

/* The pipe avoids the numbers 0 to 2. The program may have closed these, and the child puts its own
 * descriptors there. */
static int open_pipe(int fds[2])
{
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        for (int i = 0; i < 2; i++)
                if (fds[i] < 3) {
                        int moved = fcntl(fds[i], F_DUPFD_CLOEXEC, 3), r = -errno;

                        if (moved < 0) {
                                close(fds[0]);
                                close(fds[1]);
                                return r;
                        }
                        close(fds[i]);
                        fds[i] = moved;
                }
        return 0;
}

static int wait_at_gate(int gate)
{
        char go;
        ssize_t n;

        while ((n = read(gate, &go, 1)) < 0 && errno == EINTR)
                ;
        return n == 1 ? 0 : -1;
}

/* As posix_spawn does. The code of a signal handler is gone after exec, and must not run before it. */
static void reset_signals(void)
{
        struct sigaction action;

        for (int s = 1; s < NSIG; s++)
                if (sigaction(s, NULL, &action) == 0 && action.sa_handler != SIG_IGN &&
                                action.sa_handler != SIG_DFL)
                        sigaction(s, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
}

static int take_fds(const int fds[3])
{
        int moved[3] = {-1, -1, -1};

        for (int i = 0; i < 3; i++)
                if (fds[i] >= 0 && (moved[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3)) < 0)
                        return -errno;
        for (int i = 0; i < 3; i++)
                if (moved[i] >= 0 && dup2(moved[i], i) < 0)
                        return -errno;
        return 0;
}

static _Noreturn void be_child(const struct spawn_start *start, int gate, int report, const sigset_t *mask)
{
        int error = 0;

        if (wait_at_gate(gate) < 0)
                _exit(EXIT_FAILURE);
        reset_signals();
        if (take_fds(start->options->fds) < 0 ||
                        (start->options->directory && chdir(start->options->directory) < 0)) {
                error = errno;
        } else {
                sigprocmask(SIG_SETMASK, mask, NULL);
                execvpe(start->argv[0], start->argv, start->env);
                error = errno;
        }
        while (write(report, &error, sizeof error) < 0 && errno == EINTR)
                ;
        _exit(127);
}

int spawn_fork(struct spawn_start *start, pid_t *ret_pid)
{
        int gate[2], report[2], r;
        sigset_t all, before;
        pid_t pid;

        r = open_pipe(gate);
        if (r < 0)
                return r;
        r = open_pipe(report);
        if (r < 0) {
                close(gate[0]);
                close(gate[1]);
                return r;
        }
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        pid = fork();
        if (pid == 0) {
                close(gate[1]);
                close(report[0]);
                be_child(start, gate[0], report[1], &before);
        }
        r = -errno;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        close(gate[0]);
        close(report[1]);
        if (pid < 0) {
                close(gate[1]);
                close(report[0]);
                return r;
        }
        start->gate = gate[1];
        start->report = report[0];
        *ret_pid = pid;
        return 0;
}
