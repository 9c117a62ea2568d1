/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/format.h"
#include "ctl/handle.h"
#include "ctl/json.h"

static const struct option options[] = {{"timeout", required_argument, NULL, 't'}, {}};

static int print(struct ctl *ctl, const char *path)
{
        struct verdict verdict;
        json_object *json;
        int r;

        r = contexts_err(ctl, path, &verdict);
        if (r > 0)
                return r;
        if (ctl->json == JSON_OFF) {
                if (*verdict.cause && strcmp(verdict.cause, verdict.err) != 0)
                        printf("%s: %s (%s)\n", path, verdict.err, verdict.cause);
                else
                        printf("%s: %s\n", path, verdict.err);
                return EXIT_DONE;
        }
        json = json_object_new_object();
        json_add_text(json, "path", path);
        json_add_text(json, "err", verdict.err);
        json_add_number(json, "code", (uint64_t) verdict.code);
        json_add_text(json, "cause", verdict.cause);
        return json_print(ctl, json);
}

static int wait_for(struct ctl *ctl, const char *path, uint64_t timeout_usec)
{
        _cleanup_message_ sd_bus_message *reply = NULL;
        char span[FORMAT_MAX];
        int r, handle;

        r = bus_call(ctl, &reply, "Done", "s", path);
        if (r > 0)
                return r;
        r = sd_bus_message_read(reply, "h", &handle); /* the message owns it */
        if (r < 0)
                return bus_broken(r);
        r = handle_wait(ctl, handle, timeout_usec);
        if (r < 0) {
                complain("cannot wait: %s", strerror(-r));
                return EXIT_FAILED;
        }
        if (r == HANDLE_TIME_IS_UP) {
                complain("'%s' is still active after %s", path, format_timespan(span, timeout_usec));
                return EXIT_FAILED;
        }
        if (r == HANDLE_LOST) {
                complain("lost ctxd while '%s' was active", path);
                return EXIT_FAILED;
        }
        return print(ctl, path);
}

int verb_wait(struct ctl *ctl, int argc, char *argv[])
{
        char reference[CTXD_PATH_ID_MAX + 1];
        uint64_t timeout_usec = UINT64_MAX;
        struct listing listing = {};
        const char *path;
        int o, r;

        while ((o = next_option(ctl, argc, argv, options, &r)) != -1) {
                if (o == 't')
                        r = read_timespan("--timeout", optarg, &timeout_usec);
                if (o == OPTION_EXIT || r > 0)
                        return r;
        }
        if (!count_arguments(ctl, argc, 1, 1))
                return EXIT_USAGE;
        path = argv[optind];
        if (!strchr(path, '#') && strcmp(path, "/") != 0) {
                /* Once it is done, its name may be somebody else's. */
                r = contexts_get(ctl, path, &listing);
                if (r > 0)
                        return r;
                path = listed_reference(listing.items, reference);
                listing_deinit(&listing);
        }
        return wait_for(ctl, path, timeout_usec);
}
