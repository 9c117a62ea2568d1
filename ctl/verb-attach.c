/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "ctl/attach.h"
#include "ctl/bus.h"
#include "ctl/format.h"

enum {
        OPTION_SIGNAL = 1,
        OPTION_KILL_AFTER,
};

static const struct option options[] = {
                {"signal", required_argument, NULL, OPTION_SIGNAL},
                {"kill-after", required_argument, NULL, OPTION_KILL_AFTER},
                {},
};

static int append(sd_bus_message *m, const char *path, int pidfd, const struct attach_arguments *a)
{
        int r;

        if ((r = sd_bus_message_append(m, "sh", path, pidfd)) < 0 ||
                        (r = sd_bus_message_open_container(m, 'a', "{sv}")) < 0)
                return r;
        if (a->has_signal && (r = append_option(m, "signal", "i", (int32_t) a->signal)) < 0)
                return r;
        if (a->has_kill_after && (r = append_option(m, "kill-after-usec", "t", a->kill_after_usec)) < 0)
                return r;
        return sd_bus_message_close_container(m);
}

int attach_process(struct ctl *ctl, const char *path, int pidfd, const struct attach_arguments *arguments)
{
        _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_message_ sd_bus_message *m = NULL;
        int r;

        r = bus_message(ctl, &m, "Attach");
        if (r > 0)
                return r;
        r = append(m, path, pidfd, arguments);
        if (r < 0) {
                complain("cannot say that on D-Bus: %s", strerror(-r));
                return EXIT_FAILED;
        }
        r = bus_send(ctl, m, NULL, &error);
        if (r >= 0)
                return 0;
        if (arguments->quiet_done && sd_bus_error_has_name(&error, CTXD_ERROR_ALREADY_DONE))
                return -EALREADY;
        return bus_failed(&error, r);
}

static int attach_pid(
                struct ctl *ctl, const char *path, const char *text, const struct attach_arguments *arguments)
{
        _cleanup_close_ int pidfd = -1;
        uint64_t pid;

        if (parse_unsigned(text, INT32_MAX, &pid) < 0 || pid == 0) {
                complain("'%s' is no process id", text);
                return EXIT_USAGE;
        }
        pidfd = (int) syscall(SYS_pidfd_open, (pid_t) pid, 0);
        if (pidfd < 0) {
                complain("cannot attach process %s: %m", text);
                return EXIT_FAILED;
        }
        return attach_process(ctl, path, pidfd, arguments);
}

int verb_attach(struct ctl *ctl, int argc, char *argv[])
{
        struct attach_arguments arguments = {};
        int o, r;

        while ((o = next_option(ctl, argc, argv, options, &r)) != -1) {
                if (o == OPTION_SIGNAL) {
                        arguments.has_signal = true;
                        r = read_signal(optarg, &arguments.signal);
                } else if (o == OPTION_KILL_AFTER) {
                        arguments.has_kill_after = true;
                        r = read_timespan("--kill-after", optarg, &arguments.kill_after_usec);
                }
                if (o == OPTION_EXIT || r > 0)
                        return r;
        }
        if (!count_arguments(ctl, argc, 2, -1))
                return EXIT_USAGE;
        for (int i = optind + 1; i < argc; i++) {
                r = attach_pid(ctl, argv[optind], argv[i], &arguments);
                if (r > 0)
                        return r;
        }
        return EXIT_DONE;
}
