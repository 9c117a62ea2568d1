/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>

#include "util/cleanup.h"
#include "ctl/attach.h"
#include "ctl/bus.h"
#include "ctl/line.h"
#include "ctl/parse.h"

enum {
        OPTION_SIGNAL = 1,
        OPTION_KILL_AFTER,
        OPTION_CHILDREN,
};

static const struct option options[] = {
                {"signal", required_argument, NULL, OPTION_SIGNAL},
                {"kill-after", required_argument, NULL, OPTION_KILL_AFTER},
                {"children", no_argument, NULL, OPTION_CHILDREN},
                {},
};

int attach_add_options(struct arguments *to, const struct attach_arguments *a)
{
        int r;

        if (a->has_signal && (r = arguments_add_option(to, "signal", "i", (int32_t) a->signal)) < 0)
                return r;
        if (a->has_kill_after &&
                        (r = arguments_add_option(to, "kill-after-usec", "t", a->kill_after_usec)) < 0)
                return r;
        return a->subreaper ? arguments_add_option(to, "subreaper", "b", true) : 0;
}

int attach_add_arguments(struct arguments *to, const char *path, int pidfd, const struct attach_arguments *a)
{
        int r;

        if ((r = arguments_add_string(to, path)) < 0 || (r = arguments_add_fd(to, pidfd)) < 0 ||
                        (r = arguments_open_options(to)) < 0 || (r = attach_add_options(to, a)) < 0)
                return r;
        return arguments_close_options(to);
}

int attach_process(struct ctl *ctl, const char *path, int pidfd, const struct attach_arguments *arguments,
                const char *expected)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        int r = ctl->line ? line_attach(ctl, path, pidfd, arguments) : LINE_REFUSED;

        if (r != LINE_REFUSED)
                return r;
        r = bus_message(ctl, &m, "Attach");
        if (r > 0)
                return r;
        r = attach_add_arguments(&(struct arguments){.m = m}, path, pidfd, arguments);
        return r < 0 ? bus_bad_arguments(r) : bus_send(ctl, m, expected, NULL);
}

static int attach_by_pid(
                struct ctl *ctl, const char *path, const char *text, const struct attach_arguments *arguments)
{
        _cleanup_close_ int pidfd = -1;
        char about[64];
        int r = read_process(text, &pidfd);

        if (r > 0)
                return r;
        if (arguments->children)
                return attach_with_children(ctl, path, (pid_t) strtol(text, NULL, 10), arguments);
        snprintf(about, sizeof about, "process %s", text);
        ctl->about = about;
        r = attach_process(ctl, path, pidfd, arguments, NULL);
        ctl->about = NULL;
        return r;
}

static int read_option(void *userdata, int option)
{
        struct attach_arguments *arguments = userdata;

        if (option == OPTION_SIGNAL) {
                arguments->has_signal = true;
                return read_signal(optarg, &arguments->signal);
        }
        if (option == OPTION_CHILDREN) {
                arguments->children = true;
                return 0;
        }
        arguments->has_kill_after = true;
        return read_timespan("--kill-after", optarg, &arguments->kill_after_usec);
}

int verb_attach(struct ctl *ctl, int argc, char *argv[])
{
        struct attach_arguments arguments = {};
        int r, status = EXIT_DONE;

        if (!read_options(ctl, argc, argv, options, read_option, &arguments, &r) ||
                        !count_arguments(ctl, argc, 2, -1, &r))
                return r;
        /* One that cannot be attached does not keep the others. */
        for (int i = optind + 1; i < argc && status != EXIT_NO_SUCH_CONTEXT; i++) {
                r = attach_by_pid(ctl, argv[optind], argv[i], &arguments);
                if (status == EXIT_DONE)
                        status = r;
        }
        return status;
}
