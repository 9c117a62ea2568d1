/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/format.h"
#include "ctl/run.h"

/* The command line of ctxctl run, and its context. */

enum {
        OPTION_TIMEOUT = 1,
        OPTION_SIGNAL,
        OPTION_KILL_AFTER,
        OPTION_GRACE,
        OPTION_VALUE,
        OPTION_SCOPE,
};

#define SCOPE_KILL_AFTER_USEC UINT64_C(10000000) /* what nobody has said otherwise; we have to know it */

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

int verb_run(struct ctl *ctl, int argc, char *argv[])
{
        struct run run = {
                        .create = CREATE_ARGUMENTS,
                        .attach = {.has_signal = true, .signal = SIGTERM, .quiet_done = true},
                        .scope = SCOPE,
                        .done = -1,
                        .signals = -1,
        };
        const char *path = NULL;
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
        } else if (run.wants_scope && !run.attach.has_kill_after) {
                run.attach.has_kill_after = true;
                run.attach.kill_after_usec = SCOPE_KILL_AFTER_USEC;
        }
        if (r < 0) {
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
