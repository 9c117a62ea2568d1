/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/util/cleanup.h"
#include "ctl/attach.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/format.h"
#include "ctl/options-create.h"

/* Makes the context, forks, makes the child a member, and only then lets it exec: no instant in which the
 * command runs without its context. Whatever goes wrong on our side is 125, as with env(1). */

enum {
        OPTION_TIMEOUT = 1,
        OPTION_SIGNAL,
        OPTION_KILL_AFTER,
        OPTION_GRACE,
        OPTION_VALUE,
};

static const struct option options[] = {
                {"parents", no_argument, NULL, 'p'},
                {"timeout", required_argument, NULL, OPTION_TIMEOUT},
                {"signal", required_argument, NULL, OPTION_SIGNAL},
                {"kill-after", required_argument, NULL, OPTION_KILL_AFTER},
                {"grace", required_argument, NULL, OPTION_GRACE},
                {"value", required_argument, NULL, OPTION_VALUE},
                {},
};

struct run {
        struct create_arguments create;
        struct attach_arguments attach;
        char reference[CTXD_PATH_ID_MAX + 1];
        bool made;       /* the context is ours, and ends with the command */
        int signals;     /* signalfd */
        sigset_t before; /* the mask that the command gets */
};

static int read_option(struct run *run, int o)
{
        switch (o) {
        case 'p':
                run->create.parents = true;
                return 0;
        case OPTION_TIMEOUT:
                run->create.has_timeout = true;
                return read_timespan("--timeout", optarg, &run->create.timeout_usec);
        case OPTION_SIGNAL:
                run->attach.has_signal = true;
                return read_signal(optarg, &run->attach.signal);
        case OPTION_KILL_AFTER:
                run->attach.has_kill_after = true;
                return read_timespan("--kill-after", optarg, &run->attach.kill_after_usec);
        case OPTION_GRACE:
                run->create.has_grace = true;
                return read_timespan("--grace", optarg, &run->create.grace_usec);
        default:
                return create_add_value(&run->create, optarg);
        }
}

/* Options may stand before PATH and after it, up to the command. -1 to go on, or the exit status. */
static int read_options(struct ctl *ctl, int argc, char *argv[], struct run *run)
{
        int o, r;

        while ((o = next_leading_option(ctl, argc, argv, options, &r)) != -1) {
                if (o == OPTION_EXIT)
                        return r == EXIT_DONE ? r : EXIT_RUN_FAILED;
                r = read_option(run, o);
                if (r > 0)
                        return EXIT_RUN_FAILED;
        }
        return -1;
}

/* 124 or 123, by how it ended; -1 while it is active, or if that cannot be found out. */
static int end_status(struct ctl *ctl, const char *path)
{
        struct verdict verdict;

        if (contexts_err(ctl, path, &verdict) > 0 || verdict.code == 0)
                return -1;
        return verdict.code == ETIMEDOUT ? EXIT_RUN_DEADLINE : EXIT_RUN_CANCELED;
}

static int take_reference(struct run *run, sd_bus_message *reply)
{
        const char *path;
        uint64_t id;
        int r = sd_bus_message_read(reply, "st", &path, &id);

        if (r < 0)
                return bus_broken(r);
        snprintf(run->reference, sizeof run->reference, "%s#%" PRIu64, path, id);
        return 0;
}

/* An active context of that path will do, if nothing was asked of it that it may not have. */
static int open_context(struct ctl *ctl, const char *path, struct run *run)
{
        struct listing listing = {};
        int r;

        if (run->create.has_timeout || run->create.has_grace || run->create.n_values > 0) {
                complain("context '%s' exists: --timeout=, --grace= and --value= are for one that is made",
                                path);
                return EXIT_RUN_FAILED;
        }
        r = contexts_get(ctl, path, &listing);
        if (r > 0)
                return r;
        listed_reference(listing.items, run->reference);
        listing_deinit(&listing);
        return 0;
}

static int make_context(struct ctl *ctl, const char *path, struct run *run)
{
        /* It may go between the two calls, so that it can be made after all: a few times, not for ever. */
        for (int i = 0; i < 3; i++) {
                _cleanup_message_ sd_bus_message *reply = NULL;
                int r = create_context(ctl, path, &run->create, true, &reply);

                if (r == 0) {
                        run->made = true;
                        return take_reference(run, reply);
                }
                if (r != -EEXIST)
                        return r;
                ctl->missing_is_fine = true;
                r = open_context(ctl, path, run);
                ctl->missing_is_fine = false;
                if (r != EXIT_NO_SUCH_CONTEXT)
                        return r;
        }
        complain("context '%s' comes and goes", path);
        return EXIT_RUN_FAILED;
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

/* In the child: wait for the word to go, then become the command. */
static _Noreturn void be_command(struct ctl *ctl, const struct run *run, char *argv[], int gate)
{
        char go;
        ssize_t n;

        while ((n = read(gate, &go, 1)) < 0 && errno == EINTR)
                ;
        if (n != 1)
                _exit(EXIT_RUN_FAILED); /* the parent could not make us a member, and says so */
        sigprocmask(SIG_SETMASK, &run->before, NULL);
        if (setenv(CTXD_ENV_CONTEXT, run->reference, 1) < 0 ||
                        (ctl->reached && setenv(CTXD_ENV_ADDRESS, ctl->reached, 1) < 0)) {
                complain("cannot set the environment: %m");
                _exit(EXIT_RUN_FAILED);
        }
        execvp(argv[0], argv);
        go = errno == ENOENT ? 1 : 0;
        complain("cannot run '%s': %m", argv[0]);
        _exit(go ? EXIT_RUN_NOT_FOUND : EXIT_RUN_CANNOT_EXEC);
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

/* Until the command ends. Returns its status as a shell would say it. */
static int wait_for_command(struct ctl *ctl, const struct run *run, pid_t pid, int pidfd)
{
        int status;

        for (;;) {
                struct pollfd fds[] = {
                                {.fd = pidfd, .events = POLLIN}, {.fd = run->signals, .events = POLLIN}};

                if (poll(fds, ELEMENTSOF(fds), -1) < 0)
                        continue; /* EINTR */
                if (fds[1].revents)
                        cancel_by_signal(ctl, run);
                if (fds[0].revents)
                        break;
        }
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return EXIT_RUN_FAILED;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run_command(struct ctl *ctl, struct run *run, char *argv[])
{
        _cleanup_close_ int pidfd = -1;
        int gate[2], r, status, end;
        pid_t pid;

        r = take_signals(run);
        if (r < 0 || pipe2(gate, O_CLOEXEC) < 0) {
                complain("cannot prepare for the command: %s", strerror(r < 0 ? -r : errno));
                return EXIT_RUN_FAILED;
        }
        fflush(NULL);
        pid = fork();
        if (pid == 0) {
                close(gate[1]);
                be_command(ctl, run, argv, gate[0]);
        }
        close(gate[0]);
        pidfd = pid < 0 ? -1 : (int) syscall(SYS_pidfd_open, pid, 0);
        if (pidfd < 0) {
                complain("cannot start a process: %m");
                r = EXIT_RUN_FAILED;
        } else {
                r = attach_process(ctl, run->reference, pidfd, &run->attach);
        }
        if (r == 0 && write(gate[1], "g", 1) != 1)
                r = EXIT_RUN_FAILED; /* somebody killed it; that is its status */
        close(gate[1]);
        if (r != 0) {
                if (pid > 0)
                        waitpid(pid, &status, 0);
                end = r == -EALREADY ? end_status(ctl, run->reference) : -1;
                return end > 0 ? end : EXIT_RUN_FAILED;
        }
        status = wait_for_command(ctl, run, pid, pidfd);
        end = end_status(ctl, run->reference);
        return end > 0 ? end : status;
}

int verb_run(struct ctl *ctl, int argc, char *argv[])
{
        struct run run = {
                        .create = CREATE_ARGUMENTS,
                        .attach = {.has_signal = true, .signal = SIGTERM, .quiet_done = true},
                        .signals = -1,
        };
        const char *path;
        int r;

        run.create.bind_caller = true; /* if we are killed, nobody is left to end it */
        r = read_options(ctl, argc, argv, &run);
        if (r < 0 && optind < argc) {
                path = argv[optind++];
                r = read_options(ctl, argc, argv, &run);
        } else if (r < 0) {
                path = NULL;
                r = -1;
        }
        if (r < 0 && (!path || optind >= argc)) {
                complain("usage: ctxctl run [OPTIONS] PATH -- COMMAND...");
                r = EXIT_RUN_FAILED;
        }
        if (r < 0 && run.attach.signal == 0 && !run.attach.has_kill_after) {
                run.attach.has_kill_after = true; /* --signal=none kills nothing */
                run.attach.kill_after_usec = UINT64_MAX;
        }
        if (r < 0) {
                r = make_context(ctl, path, &run);
                r = r == 0 ? run_command(ctl, &run, argv + optind) : EXIT_RUN_FAILED;
        }
        if (run.made) {
                ctl->missing_is_fine = true;
                bus_call(ctl, NULL, "Release", "s", run.reference);
        }
        if (run.signals >= 0)
                close(run.signals);
        create_arguments_deinit(&run.create);
        return r;
}
