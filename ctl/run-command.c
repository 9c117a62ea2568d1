/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/run.h"

/* Forks, puts the child into its scope where it is to have one, makes it a member, and only then lets it exec: no
 * instant in which the command runs without its context. Whatever goes wrong on our side is 125, as with env(1).
 *
 * On cancel ctxd signals the members, and kills them later. What it may not signal, since it runs as somebody else by
 * then, is killed at that time through the control group of the scope, which the kernel lets us do. */

#define KILL_AGAIN_USEC UINT64_C(1000000)

/* 124 or 123, by how it ended; -1 while it is active, or if that cannot be found out. */
static int end_status(struct ctl *ctl, const char *path)
{
        struct verdict verdict;

        if (contexts_err(ctl, path, &verdict) > 0 || verdict.code == 0)
                return -1;
        return verdict.code == ETIMEDOUT ? EXIT_RUN_DEADLINE : EXIT_RUN_CANCELED;
}

/* The terminal's signals and SIGTERM cancel the context instead of us; what is ignored stays so (nohup). */
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

/* What the child is told once it may go. */
struct word {
        char invocation[sizeof((struct scope *) 0)->invocation];
};

static bool read_word(int gate, struct word *ret)
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

/* In the child: wait for the word to go, then become the command. */
static _Noreturn void be_command(struct ctl *ctl, const struct run *run, char *argv[], int gate)
{
        struct word word;
        bool missing;

        if (!read_word(gate, &word))
                _exit(EXIT_RUN_FAILED); /* the parent could not make us a member, and says so */
        sigprocmask(SIG_SETMASK, &run->before, NULL);
        if (setenv(CTXD_ENV_CONTEXT, run->reference, 1) < 0 ||
                        (ctl->reached && setenv(CTXD_ENV_ADDRESS, ctl->reached, 1) < 0) ||
                        (word.invocation[0] && setenv("INVOCATION_ID", word.invocation, 1) < 0)) {
                complain("cannot set the environment: %m");
                _exit(EXIT_RUN_FAILED);
        }
        execvp(argv[0], argv);
        missing = errno == ENOENT;
        complain("cannot run '%s': %m", argv[0]);
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

/* With a scope we look at the end ourselves. */
static void take_done_handle(struct ctl *ctl, struct run *run)
{
        _cleanup_message_ sd_bus_message *reply = NULL;
        int fd;

        if (bus_call(ctl, &reply, "Done", "s", run->reference) == 0 &&
                        sd_bus_message_read(reply, "h", &fd) >= 0)
                run->done = fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static int poll_until(struct pollfd *fds, nfds_t n, uint64_t when_usec)
{
        uint64_t now_usec = now_boottime_usec(), left = when_usec > now_usec ? when_usec - now_usec : 0;
        struct timespec ts = {(time_t) (left / 1000000), (long) (left % 1000000 * 1000)};

        return ppoll(fds, n, when_usec == UINT64_MAX ? NULL : &ts, NULL);
}

struct progress {
        int status;         /* the command's, as a shell would say it */
        int end;            /* the context's, 123 or 124; negative: it was active when the command ended */
        bool populated;     /* there is somebody in the scope, for whom we wait */
        uint64_t kill_usec; /* when what is left in it is killed */
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
                complain("cannot kill what is left in %s: %s", run->scope.unit, strerror(-r));
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
        /* In a context of others, which goes on, it may leave somebody behind; and so may one that nobody kills. */
        if ((p->end < 0 && !run->made) || run->attach.kill_after_usec == UINT64_MAX)
                p->populated = false;
        p->populated = p->populated && scope_populated(&run->scope);
        if (p->populated) {
                run_release(ctl, run);
                kill_from_now(run, p);
        }
        return 0;
}

/* Until the command ends, and with a scope until that is empty. */
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

/* All that has to be before it execs. */
static int prepare_child(struct ctl *ctl, struct run *run, char *argv[], pid_t pid, int pidfd, int gate)
{
        struct word word = {};
        int r;

        if (run->wants_scope) {
                r = scope_start(ctl, run->reference, pid, argv, &run->attach, &run->scope);
                if (r != 0)
                        return r;
                memcpy(word.invocation, run->scope.invocation, sizeof word.invocation);
        }
        r = attach_process(ctl, run->reference, pidfd, &run->attach);
        if (r != 0)
                return r;
        if (run->wants_scope)
                take_done_handle(ctl, run);
        /* If somebody has killed it, that is its status. */
        (void) signal(SIGPIPE, SIG_IGN);
        return write(gate, &word, sizeof word) == (ssize_t) sizeof word || errno == EPIPE ? 0
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
                complain("cannot prepare for the command: %s", strerror(-r));
                return EXIT_RUN_FAILED;
        }
        pid = start_child(ctl, run, argv, &gate);
        pidfd = pid < 0 ? -1 : (int) syscall(SYS_pidfd_open, pid, 0);
        if (pidfd < 0) {
                complain("cannot start a process: %m");
                r = EXIT_RUN_FAILED;
        } else {
                r = prepare_child(ctl, run, argv, pid, pidfd, gate);
        }
        closep(&gate);
        gate = -1;
        if (r != 0) {
                if (pid > 0)
                        waitpid(pid, NULL, 0);
                end = r == -EALREADY ? end_status(ctl, run->reference) : -1;
                return end > 0 ? end : EXIT_RUN_FAILED;
        }
        r = wait_for_command(ctl, run, pid, pidfd, &progress);
        if (r < 0) {
                complain("cannot wait for the command: %s", strerror(-r));
                return EXIT_RUN_FAILED;
        }
        return progress.end > 0 ? progress.end : progress.status;
}
