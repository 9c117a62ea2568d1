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
#include "util/proc.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/handle.h"
#include "ctl/run-command.h"

/* Forks a child, moves it into its scope if it is to have one, makes it a member, and only then lets it
 * execute the command. So the command never runs without its context. If something fails on our side, the
 * status is 125, as for env(1). */

int run_end_status(struct ctl *ctl, struct run *run, struct context_end *ret)
{
        run->alone = contexts_end(ctl, run->reference, ret) > 0;
        if (run->alone || ret->code == 0)
                return -1;
        return ret->code == ETIMEDOUT ? EXIT_RUN_DEADLINE : EXIT_RUN_CANCELED;
}

void run_tell_end(const struct run *run, const struct context_end *end)
{
        bool says_more = *end->cause && strcmp(end->cause, end->err) != 0;

        print_error("%s has ended: %s%s%s%s%s", run->reference, end->err, says_more ? " (" : "",
                        says_more ? end->cause : "", says_more ? ")" : "",
                        run->is_taken ? "; --replace makes a new one" : "");
}

static int is_no_agent(void *userdata, pid_t child)
{
        return child != *(pid_t *) userdata;
}

/* Mostly there are none, which one call tells. */
static bool has_children(struct ctl *ctl)
{
        return waitid(P_ALL, 0, &(siginfo_t){}, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 &&
               proc_each_child(getpid(), is_no_agent, &ctl->agent) > 0;
}

/* Of our children we have to hear, also where SIGCHLD was ignored. They are all that the command leaves
 * behind: who loses its parent comes to us, the nearest subreaper. But where a shell has executed us that had
 * children before, nobody could tell whom those leave behind. Polkit's agent leaves nobody, and is there
 * before the attach. */
static int take_children(struct ctl *ctl, struct run *run)
{
        if (has_children(ctl))
                run->has_children = true;
        else if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
                return -errno;
        run->attach.subreaper = !run->has_children; /* we fork nothing but the command */
        run->ignores_children = signal(SIGCHLD, SIG_DFL) == SIG_IGN;
        return 0;
}

/* These signals cancel the context from now on instead of ending us (run-wait.c); SIGTSTP is in run-stop.c. A
 * signal that is ignored stays ignored, for nohup(1). */
static int take_signals(struct run *run)
{
        static const int taken[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
        struct sigaction action;
        sigset_t mask;

        sigemptyset(&mask);
        sigaddset(&mask, SIGCHLD);
        sigaddset(&mask, SIGCONT);
        for (size_t i = 0; i < ELEMENTSOF(taken); i++)
                if (sigaction(taken[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
                        sigaddset(&mask, taken[i]);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return -errno;
        run->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
        return run->signals < 0 ? -errno : 0;
}

/* The message that lets the child go on. */
struct go_message {
        char reference[sizeof((struct run *) 0)->reference];
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
        if (run->ignores_children)
                (void) signal(SIGCHLD, SIG_IGN);
        if (setenv(CTXD_ENV_CONTEXT, message.reference, 1) < 0 ||
                        (ctl->reached && setenv(CTXD_ENV_ADDRESS, ctl->reached, 1) < 0) ||
                        (message.invocation[0] && setenv("INVOCATION_ID", message.invocation, 1) < 0)) {
                print_error("cannot set the environment: %m");
                _exit(EXIT_RUN_FAILED);
        }
        execvp(argv[0], argv);
        missing = errno == ENOENT;
        if (missing && run->without_dashes)
                print_error("cannot run '%s': %m; '%s' was taken for the PATH of the context", argv[0],
                                run->without_dashes);
        else
                print_error("cannot run '%s': %m", argv[0]);
        _exit(missing ? EXIT_RUN_NOT_FOUND : EXIT_RUN_CANNOT_EXEC);
}

void run_release(struct ctl *ctl, struct run *run)
{
        if (!run->made || run->alone || ctl->unanswered)
                return;
        run->made = false;
        ctl->missing_is_fine = true;
        bus_call(ctl, NULL, "Release", "s", run->reference);
        ctl->missing_is_fine = false;
}

static int make_gate(int ret[2])
{
        int r = 0;

        if (pipe2(ret, O_CLOEXEC) < 0)
                return -errno;
        for (int i = 0; i < 2; i++) {
                ret[i] = fd_above_streams(ret[i]);
                if (ret[i] < 0)
                        r = -errno;
        }
        return r;
}

int run_fork(struct ctl *ctl, struct run *run, char *argv[])
{
        int gate[2], r = take_children(ctl, run);

        if (r >= 0)
                r = make_gate(gate);
        if (r < 0) {
                print_error("cannot prepare for the command: %s", strerror(-r));
                return EXIT_RUN_FAILED;
        }
        fflush(NULL);
        run->pid = fork();
        if (run->pid == 0) {
                close(gate[1]);
                be_command(ctl, run, argv, gate[0]);
        }
        close(gate[0]);
        run->gate = gate[1];
        run->pidfd = run->pid < 0 ? -1 : (int) syscall(SYS_pidfd_open, run->pid, 0);
        if (run->pidfd >= 0)
                return 0;
        print_error("cannot start a process: %m");
        run_dismiss(run);
        return EXIT_RUN_FAILED;
}

void run_dismiss(struct run *run)
{
        closep(&run->gate);
        run->gate = -1;
        /* It has not executed the command yet. Somebody may have stopped it. */
        if (run->pid > 0 && kill(run->pid, SIGKILL) == 0)
                waitpid(run->pid, NULL, 0);
}

/* What has to be done before the command is executed. */
static int prepare(struct ctl *ctl, struct run *run, char *argv[], struct go_message *message)
{
        int r;

        if (run->wants_scope) {
                r = scope_start(ctl, run->reference, run->pid, argv, &run->attach, &run->scope);
                if (r != 0)
                        return r;
                memcpy(message->invocation, run->scope.invocation, sizeof message->invocation);
        }
        r = run->attached ? 0
                          : attach_process(ctl, run->reference, run->pidfd, &run->attach,
                                            CTXD_ERROR_ALREADY_DONE);
        if (r == 0 && run->wants_scope)
                handle_get(ctl, "Done", run->reference, &run->done);
        return r;
}

/* If somebody has killed the child, waitpid() will say so. */
static bool let_go(struct run *run, const struct go_message *message)
{
        bool gone;

        (void) signal(SIGPIPE, SIG_IGN);
        gone = write(run->gate, message, sizeof *message) == (ssize_t) sizeof *message || errno == EPIPE;
        closep(&run->gate);
        run->gate = -1;
        return gone;
}

int run_command(struct ctl *ctl, struct run *run, char *argv[])
{
        struct go_message message = {};
        struct context_end why;
        int r, end;

        saved_terminal_take(&run->terminal);
        memcpy(message.reference, run->reference, sizeof message.reference);
        r = prepare(ctl, run, argv, &message);
        if (r == 0 && (r = take_signals(run)) < 0) {
                print_error("cannot prepare for the command: %s", strerror(-r));
                r = EXIT_RUN_FAILED;
        }
        if (r == 0 && let_go(run, &message))
                return run_wait(ctl, run);
        run_dismiss(run);
        end = r == BUS_EXPECTED ? run_end_status(ctl, run, &why) : -1;
        if (end > 0)
                run_tell_end(run, &why);
        return end > 0 ? end : EXIT_RUN_FAILED;
}
