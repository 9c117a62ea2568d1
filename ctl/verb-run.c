/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/parse.h"
#include "ctl/run-command.h"

/* ctxctl run: reads the command line and makes the context. run-command.c does the rest. */

enum {
        OPTION_TIMEOUT = 1,
        OPTION_SIGNAL,
        OPTION_KILL_AFTER,
        OPTION_GRACE,
        OPTION_VALUE,
        OPTION_SCOPE,
};

#define SCOPE_KILL_AFTER_USEC UINT64_C(10000000) /* without --kill-after= */

static const struct option options[] = {
                {"parents", no_argument, NULL, 'p'},
                {"timeout", required_argument, NULL, OPTION_TIMEOUT},
                {"signal", required_argument, NULL, OPTION_SIGNAL},
                {"kill-after", required_argument, NULL, OPTION_KILL_AFTER},
                {"grace", required_argument, NULL, OPTION_GRACE},
                {"value", required_argument, NULL, OPTION_VALUE},
                {"scope", no_argument, NULL, OPTION_SCOPE},
                {},
};

static int read_option(void *userdata, int option)
{
        struct run *run = userdata;

        switch (option) {
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
        case OPTION_SCOPE:
                run->wants_scope = true;
                return 0;
        case OPTION_GRACE:
                run->create.has_grace = true;
                return read_timespan("--grace", optarg, &run->create.grace_usec);
        default:
                return create_add_value(&run->create, optarg);
        }
}

/* Reads PATH and the options, which may stand before PATH and after it. argv + optind is then the command. */
static bool read_command_line(struct ctl *ctl, int argc, char *argv[], struct run *run, const char **ret_path,
                int *ret_status)
{
        bool fine;
        int r;

        fine = read_leading_options(ctl, argc, argv, options, read_option, run, &r);
        if (fine && optind < argc) {
                *ret_path = argv[optind++];
                fine = read_leading_options(ctl, argc, argv, options, read_option, run, &r);
        }
        if (!fine) {
                *ret_status = r == EXIT_DONE ? r : EXIT_RUN_FAILED;
                return false;
        }
        if (*ret_path && optind < argc)
                return true;
        print_error("usage: ctxctl run [OPTIONS] PATH -- COMMAND...");
        *ret_status = EXIT_RUN_FAILED;
        return false;
}

/* Uses the active context that has this path, unless options were given that only a new context can have. */
static int open_context(struct ctl *ctl, const char *path, struct run *run)
{
        if (run->create.has_timeout || run->create.has_grace || run->create.n_values > 0) {
                print_error("context '%s' exists: only a new one can have --timeout=, --grace= or --value=",
                                path);
                return EXIT_RUN_FAILED;
        }
        return contexts_pin(ctl, path, run->reference);
}

static int make_context(struct ctl *ctl, const char *path, struct run *run)
{
        /* The context may go between the two calls. Then it can be made after all; we try a few times. */
        for (int i = 0; i < 3; i++) {
                _cleanup_message_ sd_bus_message *reply = NULL;
                int r = create_context(ctl, path, &run->create, CTXD_ERROR_EXISTS, &reply);

                if (r == 0) {
                        run->made = true;
                        return create_reference(reply, run->reference);
                }
                if (r != BUS_EXPECTED)
                        return r;
                ctl->missing_is_fine = true;
                r = open_context(ctl, path, run);
                ctl->missing_is_fine = false;
                if (r != EXIT_NO_SUCH_CONTEXT)
                        return r;
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

int verb_run(struct ctl *ctl, int argc, char *argv[])
{
        struct run run = {
                        .create = CREATE_ARGUMENTS,
                        .attach = {.has_signal = true, .signal = SIGTERM},
                        .scope = SCOPE,
                        .done = -1,
                        .signals = -1,
        };
        const char *path = NULL;
        int r;

        run.create.bind_caller = true; /* so that the context also ends if we are killed */
        if (read_command_line(ctl, argc, argv, &run, &path, &r)) {
                set_kill_after(&run);
                r = make_context(ctl, path, &run);
                r = r == 0 ? run_command(ctl, &run, argv + optind) : EXIT_RUN_FAILED;
        }
        run_release(ctl, &run);
        scope_deinit(&run.scope);
        closep(&run.done);
        closep(&run.signals);
        create_arguments_deinit(&run.create);
        return r;
}
