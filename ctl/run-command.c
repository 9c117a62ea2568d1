/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/handle.h"
#include "ctl/run-command.h"

/* Forks a child, moves it into its scope if it is to have one, makes it a member, and only then lets it
 * execute the command. So the command never runs without its context. If something fails on our side, the
 * status is 125, as for env(1).
 *
 * On cancel ctxd signals the members, and kills them later. It may not signal a process that has changed
 * its user. With a scope we kill such a process as well, through the scope's control group, which the
 * kernel allows us. */

#define KILL_AGAIN_USEC UINT64_C(1000000)

/* 124 or 123, by how the context ended. -1 if it is active, or if ctxd cannot be asked. */
static int end_status(struct ctl *ctl, const char *path)
{
        struct context_end end;

        if (contexts_end(ctl, path, &end) > 0 || end.code == 0)
                return -1;
        return end.code == ETIMEDOUT ? EXIT_RUN_DEADLINE : EXIT_RUN_CANCELED;
}

/* These signals cancel the context instead of ending us. A signal that is ignored stays ignored, for
 * nohup(1). */
static int take_signals(struct run *run)
{
        static const int taken[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
        struct sigaction action;
        sigset_t mask;

        sigemptyset(&mask);
        for (size_t i = 0; i < ELEMENTSOF(taken); i++)
                if (sigaction(taken[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
                        sigaddset(&mask, taken[i]);
        if (sigprocmask(SIG_BLOCK, &mask, &run->before) < 0)
                return -errno;
        run->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
        return run->signals < 0 ? -errno : 0;
}

/* The message that lets the child go on. */
struct go_message {
        char invocation[sizeof((struct scope *) 0)->invocation];
};

static bool read_go_message(int gate, struct go_message *ret)
{
        size_t length = 0;
        ssize_t n;

        while (length < sizeof *ret) {
                n = read(gate, (char *) ret + length, sizeof *ret - length);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return false;
                length += (size_t) n;
        }
        return true;
}

/* In the child: waits for the message, then becomes the command. */
static _Noreturn void be_command(struct ctl *ctl, const struct run *run, char *argv[], int gate)
{
        struct go_message message;
        bool missing;

        if (!read_go_message(gate, &message))
                _exit(EXIT_RUN_FAILED); /* the parent has failed, and prints why */
        sigprocmask(SIG_SETMASK, &run->before, NULL);
        if (setenv(CTXD_ENV_CONTEXT, run->reference, 1) < 0 ||
                        (ctl->reached && setenv(CTXD_ENV_ADDRESS, ctl->reached, 1) < 0) ||
                        (message.invocation[0] && setenv("INVOCATION_ID", message.invocation, 1) < 0)) {
                print_error("cannot set the environment: %m");
                _exit(EXIT_RUN_FAILED);
        }
        execvp(argv[0], argv);
        missing = errno == ENOENT;
        print_error("cannot run '%s': %m", argv[0]);
        _exit(missing ? EXIT_RUN_NOT_FOUND : EXIT_RUN_CANNOT_EXEC);
}

static void cancel_by_signal(struct ctl *ctl, const struct run *run)
{
        struct signalfd_siginfo info;
        char reason[64];

        while (read(run->signals, &info, sizeof info) == sizeof info) {
                const char *name = sigabbrev_np((int) info.ssi_signo);

                snprintf(reason, sizeof reason, "ctxctl run got SIG%s", name ? name : "?");
                bus_call(ctl, NULL, "Cancel", "ss", run->reference, reason);
        }
}

void run_release(struct ctl *ctl, struct run *run)
{
        if (!run->made)
                return;
        run->made = false;
        ctl->missing_is_fine = true;
        bus_call(ctl, NULL, "Release", "s", run->reference);
        ctl->missing_is_fine = false;
}

struct progress {
        int status;         /* of the command, as a shell has it */
        int end;            /* 123 or 124; negative: the context was active when the command ended */
        bool populated;     /* we wait for processes in the scope */
        uint64_t kill_usec; /* when we kill the processes that are left in the scope */
};

static void kill_from_now(const struct run *run, struct progress *p)
{
        uint64_t now_usec = now_boottime_usec();

        if (p->kill_usec == UINT64_MAX && run->attach.kill_after_usec < UINT64_MAX - now_usec)
                p->kill_usec = now_usec + run->attach.kill_after_usec;
}

static void kill_scope(const struct run *run, struct progress *p)
{
        int r = scope_kill(&run->scope);

        if (r < 0 && r != -ENOENT && r != -ENODEV)
                print_error("cannot kill the processes that are left in %s: %s", run->scope.unit,
                                strerror(-r));
        p->kill_usec = now_boottime_usec() + KILL_AGAIN_USEC;
}

static int command_ended(struct ctl *ctl, struct run *run, pid_t pid, struct progress *p)
{
        int status;

        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        p->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        p->end = end_status(ctl, run->reference);
        /* We do not wait for processes that go on: in a context that is not ours, or that nobody kills. */
        if ((p->end < 0 && !run->made) || run->attach.kill_after_usec == UINT64_MAX)
                p->populated = false;
        p->populated = p->populated && scope_populated(&run->scope);
        if (p->populated) {
                run_release(ctl, run);
                kill_from_now(run, p);
        }
        return 0;
}

/* Waits until the command ends, and with a scope until that is empty. */
static int wait_for_command(struct ctl *ctl, struct run *run, pid_t pid, int pidfd, struct progress *ret)
{
        struct progress p = {.end = -1, .populated = run->scope.directory, .kill_usec = UINT64_MAX};
        bool ended = false;

        while (!ended || p.populated) {
                struct pollfd fds[] = {
                                {.fd = ended ? -1 : pidfd, .events = POLLIN},
                                {.fd = run->signals, .events = POLLIN},
                                {.fd = run->done, .events = POLLIN},
                                {.fd = p.populated ? run->scope.events : -1, .events = POLLPRI},
                };

                if (poll_until(fds, ELEMENTSOF(fds), p.populated ? p.kill_usec : UINT64_MAX) < 0)
                        continue; /* EINTR */
                if (fds[1].revents)
                        cancel_by_signal(ctl, run);
                if (fds[2].revents) {
                        kill_from_now(run, &p);
                        closep(&run->done);
                        run->done = -1;
                }
                if (fds[3].revents)
                        p.populated = scope_populated(&run->scope);
                if (p.populated && p.kill_usec <= now_boottime_usec())
                        kill_scope(run, &p);
                if (fds[0].revents) {
                        int r = command_ended(ctl, run, pid, &p);

                        if (r < 0)
                                return r;
                        ended = true;
                }
        }
        *ret = p;
        return 0;
}

static pid_t start_child(struct ctl *ctl, struct run *run, char *argv[], int *ret_gate)
{
        int gate[2];
        pid_t pid;

        if (pipe2(gate, O_CLOEXEC) < 0)
                return -1;
        fflush(NULL);
        pid = fork();
        if (pid == 0) {
                close(gate[1]);
                be_command(ctl, run, argv, gate[0]);
        }
        close(gate[0]);
        *ret_gate = gate[1];
        return pid;
}

/* What has to be done before the command is executed. */
static int prepare_child(struct ctl *ctl, struct run *run, char *argv[], pid_t pid, int pidfd, int gate)
{
        struct go_message message = {};
        int r, is_subreaper;

        if (run->wants_scope) {
                r = scope_start(ctl, run->reference, pid, argv, &run->attach, &run->scope);
                if (r != 0)
                        return r;
                memcpy(message.invocation, run->scope.invocation, sizeof message.invocation);
        }
        if (prctl(PR_GET_CHILD_SUBREAPER, &is_subreaper, 0, 0, 0) == 0)
                run->attach.subreaper = is_subreaper; /* we fork nothing but the command */
        r = attach_process(ctl, run->reference, pidfd, &run->attach, CTXD_ERROR_ALREADY_DONE);
        if (r != 0)
                return r;
        if (run->wants_scope)
                handle_get(ctl, "Done", run->reference, &run->done);
        /* If somebody has killed the child, waitpid() will say so. */
        (void) signal(SIGPIPE, SIG_IGN);
        return write(gate, &message, sizeof message) == (ssize_t) sizeof message || errno == EPIPE
                               ? 0
                               : EXIT_RUN_FAILED;
}

int run_command(struct ctl *ctl, struct run *run, char *argv[])
{
        _cleanup_close_ int pidfd = -1, gate = -1;
        struct progress progress;
        int r, end;
        pid_t pid;

        r = take_signals(run);
        if (r < 0) {
                print_error("cannot prepare for the command: %s", strerror(-r));
                return EXIT_RUN_FAILED;
        }
        pid = start_child(ctl, run, argv, &gate);
        pidfd = pid < 0 ? -1 : (int) syscall(SYS_pidfd_open, pid, 0);
        if (pidfd < 0) {
                print_error("cannot start a process: %m");
                r = EXIT_RUN_FAILED;
        } else {
                r = prepare_child(ctl, run, argv, pid, pidfd, gate);
        }
        closep(&gate);
        gate = -1;
        if (r != 0) {
                if (pid > 0)
                        waitpid(pid, NULL, 0);
                end = r == BUS_EXPECTED ? end_status(ctl, run->reference) : -1;
                return end > 0 ? end : EXIT_RUN_FAILED;
        }
        r = wait_for_command(ctl, run, pid, pidfd, &progress);
        if (r < 0) {
                print_error("cannot wait for the command: %s", strerror(-r));
                return EXIT_RUN_FAILED;
        }
        return progress.end > 0 ? progress.end : progress.status;
}
