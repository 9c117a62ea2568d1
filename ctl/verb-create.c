/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/create.h"
#include "ctl/json.h"
#include "ctl/parse.h"

enum {
        OPTION_OPEN = 1,
        OPTION_REPLACE,
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
                {"replace", no_argument, NULL, OPTION_REPLACE},
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
                print_error("--mode=%s is not an octal number up to 0777: write 0750, for example", text);
                return EXIT_USAGE;
        }
        *ret = (uint32_t) mode;
        return 0;
}

static int read_option(void *userdata, int option)
{
        struct create_arguments *a = userdata;

        switch (option) {
        case 'p':
                a->parents = true;
                return 0;
        case OPTION_OPEN:
                a->open = true;
                return 0;
        case OPTION_REPLACE:
                a->replace = true;
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
                closep(&a->owner_fd);
                a->owner_fd = -1;
                return read_process(optarg, &a->owner_fd);
        default:
                a->description = optarg;
                return 0;
        }
}

static int print_created(struct ctl *ctl, sd_bus_message *reply)
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
        int r;

        if (!read_options(ctl, argc, argv, options, read_option, &arguments, &r) ||
                        !count_arguments(ctl, argc, 1, 1, &r))
                return r;
        if (arguments.cause && !arguments.has_timeout) {
                print_error("--cause= is the cause for a passed deadline: it needs --timeout=");
                return EXIT_USAGE;
        }
        r = create_context(ctl, argv[optind], &arguments, NULL, &reply);
        return r > 0 ? r : print_created(ctl, reply);
}
