/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <errno.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/options-create.h"

enum {
        OPTION_OPEN = 1,
        OPTION_TIMEOUT,
        OPTION_CAUSE,
        OPTION_VALUE,
        OPTION_MODE,
        OPTION_GRACE,
        OPTION_OWNER,
        OPTION_DESCRIPTION,
};

static const struct option options[] = {
                {"parents", no_argument, NULL, 'p'},
                {"open", no_argument, NULL, OPTION_OPEN},
                {"timeout", required_argument, NULL, OPTION_TIMEOUT},
                {"cause", required_argument, NULL, OPTION_CAUSE},
                {"value", required_argument, NULL, OPTION_VALUE},
                {"mode", required_argument, NULL, OPTION_MODE},
                {"grace", required_argument, NULL, OPTION_GRACE},
                {"owner", required_argument, NULL, OPTION_OWNER},
                {"description", required_argument, NULL, OPTION_DESCRIPTION},
                {},
};

static int read_mode(const char *text, uint32_t *ret)
{
        char *end;
        unsigned long mode = strtoul(text, &end, 8);

        if (!*text || *end || text[0] == '-' || mode > 0777) {
                complain("--mode=%s is not octal, up to 0777", text);
                return EXIT_USAGE;
        }
        *ret = (uint32_t) mode;
        return 0;
}

static int read_owner(const char *text, int *ret_fd)
{
        uint64_t pid;
        int fd;

        if (parse_unsigned(text, INT32_MAX, &pid) < 0 || pid == 0) {
                complain("--owner=%s is no process id", text);
                return EXIT_USAGE;
        }
        fd = (int) syscall(SYS_pidfd_open, (pid_t) pid, 0);
        if (fd < 0) {
                complain("cannot watch process %s: %m", text);
                return EXIT_FAILED;
        }
        if (*ret_fd >= 0)
                close(*ret_fd);
        *ret_fd = fd;
        return 0;
}

static int read_option(struct create_arguments *a, int o)
{
        switch (o) {
        case 'p':
                a->parents = true;
                return 0;
        case OPTION_OPEN:
                a->open = true;
                return 0;
        case OPTION_TIMEOUT:
                a->has_timeout = true;
                return read_timespan("--timeout", optarg, &a->timeout_usec);
        case OPTION_CAUSE:
                a->cause = optarg;
                return 0;
        case OPTION_VALUE:
                return create_add_value(a, optarg);
        case OPTION_MODE:
                a->has_mode = true;
                return read_mode(optarg, &a->mode);
        case OPTION_GRACE:
                a->has_grace = true;
                return read_timespan("--grace", optarg, &a->grace_usec);
        case OPTION_OWNER:
                return read_owner(optarg, &a->owner_fd);
        default:
                a->description = optarg;
                return 0;
        }
}

static int print(struct ctl *ctl, sd_bus_message *reply)
{
        const char *path, *object;
        json_object *json;
        uint64_t id;
        int r = sd_bus_message_read(reply, "sto", &path, &id, &object);

        if (r < 0)
                return bus_broken(r);
        if (ctl->json == JSON_OFF) {
                printf("%s#%" PRIu64 "\n", path, id);
                return EXIT_DONE;
        }
        json = json_object_new_object();
        json_add_text(json, "path", path);
        json_add_number(json, "id", id);
        json_add_text(json, "object", object);
        return json_print(ctl, json);
}

int verb_create(struct ctl *ctl, int argc, char *argv[])
{
        _cleanup_(create_arguments_deinit) struct create_arguments arguments = CREATE_ARGUMENTS;
        _cleanup_message_ sd_bus_message *reply = NULL;
        int o, r;

        while ((o = next_option(ctl, argc, argv, options, &r)) != -1) {
                if (o != OPTION_EXIT)
                        r = read_option(&arguments, o);
                if (o == OPTION_EXIT || r > 0)
                        return r;
        }
        if (!count_arguments(ctl, argc, 1, 1))
                return EXIT_USAGE;
        if (arguments.cause && !arguments.has_timeout) {
                complain("--cause= is the cause when the deadline passes: it needs --timeout=");
                return EXIT_USAGE;
        }
        r = create_context(ctl, argv[optind], &arguments, false, &reply);
        return r > 0 ? r : print(ctl, reply);
}
