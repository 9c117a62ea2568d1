/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/cleanup.h"
#include "ctl/attach.h"
#include "ctl/bus.h"
#include "ctl/parse.h"

enum {
        OPTION_SIGNAL = 1,
        OPTION_KILL_AFTER,
};

static const struct option options[] = {
                {"signal", required_argument, NULL, OPTION_SIGNAL},
                {"kill-after", required_argument, NULL, OPTION_KILL_AFTER},
                {},
};

static int append_arguments(sd_bus_message *m, const char *path, int pidfd, const struct attach_arguments *a)
{
        int r;

        if ((r = sd_bus_message_append(m, "sh", path, pidfd)) < 0 ||
                        (r = sd_bus_message_open_container(m, 'a', "{sv}")) < 0)
                return r;
        if (a->has_signal && (r = bus_append_option(m, "signal", "i", (int32_t) a->signal)) < 0)
                return r;
        if (a->has_kill_after && (r = bus_append_option(m, "kill-after-usec", "t", a->kill_after_usec)) < 0)
                return r;
        if (a->subreaper && (r = bus_append_option(m, "subreaper", "b", true)) < 0)
                return r;
        return sd_bus_message_close_container(m);
}

int attach_process(struct ctl *ctl, const char *path, int pidfd, const struct attach_arguments *arguments,
                const char *expected)
{
        _cleanup_message_ sd_bus_message *m = NULL;
        int r;

        r = bus_message(ctl, &m, "Attach");
        if (r > 0)
                return r;
        r = append_arguments(m, path, pidfd, arguments);
        return r < 0 ? bus_bad_arguments(r) : bus_send(ctl, m, expected, NULL);
}

static int attach_by_pid(
                struct ctl *ctl, const char *path, const char *pid, const struct attach_arguments *arguments)
{
        _cleanup_close_ int pidfd = -1;
        int r = read_process(pid, &pidfd);

        return r > 0 ? r : attach_process(ctl, path, pidfd, arguments, NULL);
}

static int read_option(void *userdata, int option)
{
        struct attach_arguments *arguments = userdata;

        if (option == OPTION_SIGNAL) {
                arguments->has_signal = true;
                return read_signal(optarg, &arguments->signal);
        }
        arguments->has_kill_after = true;
        return read_timespan("--kill-after", optarg, &arguments->kill_after_usec);
}

int verb_attach(struct ctl *ctl, int argc, char *argv[])
{
        struct attach_arguments arguments = {};
        int r;

        if (!read_options(ctl, argc, argv, options, read_option, &arguments, &r) ||
                        !count_arguments(ctl, argc, 2, -1, &r))
                return r;
        for (int i = optind + 1; i < argc; i++) {
                r = attach_by_pid(ctl, argv[optind], argv[i], &arguments);
                if (r > 0)
                        return r;
        }
        return EXIT_DONE;
}
