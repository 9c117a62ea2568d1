/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/line.h"
#include "ctl/parse.h"
#include "ctl/run-command.h"

/* ctxctl run: reads the command line and makes the context. run-command.c does the rest. */

enum {
        OPTION_TIMEOUT = 1,
        OPTION_GRACE,
        OPTION_VALUE,
        OPTION_SCOPE,
        OPTION_REPLACE,
        OPTION_NO_WAIT,
        OPTION_OWNER,
        OPTION_BIND,
        OPTION_PRESERVE_STATUS,
        OPTION_PRINT_ID,
        OPTION_FOREGROUND,
};

#define SCOPE_KILL_AFTER_USEC UINT64_C(10000000) /* without --kill-after= */

static const struct option options[] = {
                {"parents", no_argument, NULL, 'p'},
                {"timeout", required_argument, NULL, OPTION_TIMEOUT},
                {"signal", required_argument, NULL, 's'},
                {"kill-after", required_argument, NULL, 'k'},
                {"grace", required_argument, NULL, OPTION_GRACE},
                {"value", required_argument, NULL, OPTION_VALUE},
                {"scope", no_argument, NULL, OPTION_SCOPE},
                {"replace", no_argument, NULL, OPTION_REPLACE},
                {"no-wait", no_argument, NULL, OPTION_NO_WAIT},
                {"owner", required_argument, NULL, OPTION_OWNER},
                {"bind", no_argument, NULL, OPTION_BIND},
                {"preserve-status", no_argument, NULL, OPTION_PRESERVE_STATUS},
                {"print-id", no_argument, NULL, OPTION_PRINT_ID},
                {"foreground", no_argument, NULL, OPTION_FOREGROUND},
                {},
};

static int set_owner(struct run *run, int pidfd)
{
        closep(&run->owner);
        run->owner = pidfd;
        return 0;
}

static int bind_to_caller(struct run *run)
{
        pid_t parent = getppid();
        int fd = parent > 0 ? (int) syscall(SYS_pidfd_open, parent, 0) : -1;

        /* If it is another one by now, the caller has gone. */
        if (fd >= 0 && getppid() == parent)
                return set_owner(run, fd);
        closep(&fd);
        print_error("--bind: the process that has started ctxctl %s",
                        parent > 0 ? "has exited" : "is outside of this pid namespace");
        return EXIT_RUN_FAILED;
}

static int read_option(void *userdata, int option)
{
        struct run *run = userdata;
        int fd = -1, r;

        switch (option) {
        case 'p':
                run->create.parents = true;
                return 0;
        case OPTION_TIMEOUT:
                run->create.has_timeout = true;
                return read_timespan("--timeout", optarg, &run->create.timeout_usec);
        case 's':
                run->attach.has_signal = true;
                return read_signal(optarg, &run->attach.signal);
        case 'k':
                run->attach.has_kill_after = true;
                return read_timespan("--kill-after", optarg, &run->attach.kill_after_usec);
        case OPTION_SCOPE:
                run->wants_scope = true;
                return 0;
        case OPTION_REPLACE:
                run->create.replace = true;
                return 0;
        case OPTION_NO_WAIT:
                run->no_wait = true;
                return 0;
        case OPTION_OWNER:
                r = read_process(optarg, &fd);
                return r == 0 ? set_owner(run, fd) : r;
        case OPTION_BIND:
                return bind_to_caller(run);
        case OPTION_PRESERVE_STATUS:
                run->preserve_status = true;
                return 0;
        case OPTION_PRINT_ID:
                run->print_id = true;
                return 0;
        case OPTION_FOREGROUND: /* of timeout(1): the command is always in the foreground, as we are */
                return 0;
        case OPTION_GRACE:
                run->create.has_grace = true;
                return read_timespan("--grace", optarg, &run->create.grace_usec);
        default:
                return create_add_value(&run->create, optarg);
        }
}

/* Users alone may make their own tree only. */
static void print_what_is_missing(const char *path, const char *command)
{
        const char *quote = geteuid() == 0 ? "" : "'", *own = geteuid() == 0 ? "" : "~/";

        if (path)
                print_error("the command is missing: write ctxctl run %s -- COMMAND...", path);
        else
                print_error("the PATH of the context is missing%s: write ctxctl run %s%s%s%s -- %s..., for "
                            "example",
                                command ? " before --" : "", quote, own,
                                command && !strchr(command, '/') ? command : "job", quote,
                                command ? command : "COMMAND");
}

/* Reads PATH and the options, which may stand before PATH and after it. argv + optind is then the command. */
static bool read_command_line(struct ctl *ctl, int argc, char *argv[], struct run *run, const char **ret_path,
                int *ret_status)
{
        bool fine, begins_with_command;
        int r;

        fine = read_leading_options(ctl, argc, argv, options, read_option, run, &r);
        begins_with_command = fine && optind > 1 && optind < argc && strcmp(argv[optind - 1], "--") == 0;
        for (int i = optind; begins_with_command && i < argc; i++)
                begins_with_command = strcmp(argv[i], "--") != 0;
        if (begins_with_command) {
                print_what_is_missing(NULL, argv[optind]);
                *ret_status = EXIT_RUN_FAILED;
                return false;
        }
        if (fine && optind < argc) {
                *ret_path = argv[optind++];
                fine = read_leading_options(ctl, argc, argv, options, read_option, run, &r);
                run->without_dashes = optind < argc && strcmp(argv[optind - 1], "--") != 0 ? *ret_path : NULL;
        }
        if (!fine) {
                *ret_status = r == EXIT_DONE ? r : EXIT_RUN_FAILED;
                return false;
        }
        if (*ret_path && optind < argc)
                return true;
        print_what_is_missing(*ret_path, NULL);
        *ret_status = EXIT_RUN_FAILED;
        return false;
}

/* There is a context with this path, and it is used, unless options were given that only a new one can
 * have. */
static bool is_for_new(const struct run *run)
{
        return run->create.has_timeout || run->create.has_grace || run->create.n_values > 0 ||
               run->owner >= 0;
}

static int use_existing(const char *path, const struct run *run)
{
        if (!is_for_new(run))
                return 0;
        print_error("context '%s' exists: only a new one can have --timeout=, --grace=, --value=, --owner= "
                    "or "
                    "--bind",
                        path);
        return EXIT_RUN_FAILED;
}

/* Takes the done context that has this path: it refuses the command. EXIT_NO_SUCH_CONTEXT: it is gone by now,
 * or there is another one, which is active. */
static int take_done(struct ctl *ctl, const char *path, struct run *run)
{
        struct listing listing = {};
        int r;

        ctl->missing_is_fine = true;
        r = contexts_get(ctl, path, &listing);
        ctl->missing_is_fine = false;
        if (r != 0)
                return r;
        if (strcmp(listing.items->state, "active") == 0)
                r = EXIT_NO_SUCH_CONTEXT;
        else
                listed_reference(listing.items, run->reference);
        listing_deinit(&listing);
        return r;
}

static bool is_pinned(const char *path)
{
        const char *id = strrchr(path, '#');

        return id && !strchr(id, '/');
}

/* 0, BUS_EXPECTED if it is done, or a positive exit status after an error message. */
static int create(struct ctl *ctl, const char *path, struct run *run)
{
        _cleanup_message_ sd_bus_message *reply = NULL;
        int r = LINE_REFUSED;

        if (ctl->line)
                r = line_create(ctl, path, &run->create, run->reference, &run->made);
        if (r != LINE_REFUSED)
                return r;
        line_close(ctl);
        r = create_context(ctl, path, &run->create, CTXD_ERROR_ALREADY_DONE, &reply);
        if (r == 0)
                r = create_reference(reply, run->reference);
        return r == 0 ? create_was_made(reply, &run->made) : r;
}

/* Makes the context, or takes the active one that has this path. One that was cancelled, or is overdue, is
 * taken as well, whatever options were given. */
static int make_context(struct ctl *ctl, const char *path, struct run *run)
{
        if (is_pinned(path)) {
                int r = use_existing(path, run);

                return r == 0 ? contexts_pin(ctl, path, run->reference) : r;
        }
        run->create.open = run->create.tells_made = true;
        /* Into one that was there it is not to come with options that such a one cannot have; and its scope
         * is made in between. */
        if (!is_for_new(run) && !run->wants_scope) {
                run->create.attach_fd = run->pidfd;
                run->create.attach = &run->attach;
        }
        /* The context may go between the two calls. Then it can be made after all; we try a few times. */
        for (int i = 0; i < 3; i++) {
                int r = create(ctl, path, run);

                if (r == BUS_EXPECTED) {
                        r = take_done(ctl, path, run);
                        run->is_taken = r == 0;
                        if (r != EXIT_NO_SUCH_CONTEXT)
                                return r;
                        run->create.attach_fd =
                                        -1; /* below a done one it is done at once, and has no member */
                        continue;
                }
                run->attached = r == 0 && run->create.attach_fd >= 0;
                return r == 0 && !run->made ? use_existing(path, run) : r;
        }
        print_error("context '%s' comes and goes", path);
        return EXIT_RUN_FAILED;
}

/* With --signal=none nobody is killed later, unless --kill-after= says so. With a scope we kill ourselves,
 * so that we must know the time even if it was not given. */
static void set_kill_after(struct run *run)
{
        if (run->attach.has_kill_after || (run->attach.signal != 0 && !run->wants_scope))
                return;
        run->attach.has_kill_after = true;
        run->attach.kill_after_usec = run->attach.signal == 0 ? UINT64_MAX : SCOPE_KILL_AFTER_USEC;
}

/* What else is asked by whoever starts a scope, or names a context by its id, is more than a line knows. */
static int connect_to_daemon(struct ctl *ctl, const char *path, const struct run *run)
{
        int r = run->wants_scope || is_pinned(path) ? 0 : line_open(ctl);

        return r == 0 && !ctl->line ? bus_connect(ctl) : r;
}

static int run_in(struct ctl *ctl, const char *path, struct run *run, char *argv[])
{
        int r = make_context(ctl, path, run);

        if (r != 0) {
                run_dismiss(run);
                return EXIT_RUN_FAILED;
        }
        /* The command's output is not ours to write to. */
        if (run->print_id)
                fprintf(stderr, "%s\n", run->reference);
        return run_command(ctl, run, argv);
}

int verb_run(struct ctl *ctl, int argc, char *argv[])
{
        struct run run = RUN;
        const char *path = NULL;
        int r;

        run.create.bind_caller = true; /* so that the context also ends if we are killed */
        if (read_command_line(ctl, argc, argv, &run, &path, &r)) {
                set_kill_after(&run);
                if (run.create.has_timeout) /* until the command runs nobody else looks at it */
                        bus_answers_within(ctl, run.create.timeout_usec);
                r = connect_to_daemon(ctl, path, &run) > 0 ? EXIT_RUN_FAILED
                                                           : run_fork(ctl, &run, argv + optind);
                if (r == 0)
                        r = run_in(ctl, path, &run, argv + optind);
        }
        run_release(ctl, &run);
        scope_deinit(&run.scope);
        saved_terminal_deinit(&run.terminal);
        closep(&run.owner);
        closep(&run.done);
        closep(&run.pidfd);
        closep(&run.gate);
        closep(&run.signals);
        create_arguments_deinit(&run.create);
        return r;
}
