/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/format.h"
#include "ctl/handle.h"
#include "ctl/json.h"
#include "ctl/parse.h"

static const struct option options[] = {{"timeout", required_argument, NULL, 't'}, {}};

static int print_outcome(struct ctl *ctl, const char *path)
{
        struct context_end end;
        json_object *json;
        int r;

        r = contexts_end(ctl, path, &end);
        if (r > 0)
                return r;
        if (ctl->json == JSON_OFF) {
                printf("%s: ", path);
                print_end(end.err, end.cause);
                putchar('\n');
                return EXIT_DONE;
        }
        json = json_object_new_object();
        contexts_add_reference(json, path);
        json_add_text(json, "err", end.err);
        json_add_number(json, "code", (uint64_t) end.code);
        json_add_text(json, "cause", end.cause);
        return json_print(ctl, json);
}

static int wait_for(struct ctl *ctl, const char *path, uint64_t timeout_usec)
{
        _cleanup_close_ int handle = -1;
        char span[FORMAT_MAX];
        bool done = false;
        int r;

        r = handle_get(ctl, "Done", path, &handle);
        if (r == 0)
                r = handle_wait(ctl, handle, path, timeout_usec, &done);
        if (r > 0)
                return r;
        if (!done) {
                print_error("'%s' is still active after %s", path, format_timespan(span, timeout_usec));
                return EXIT_FAILED;
        }
        return print_outcome(ctl, path);
}

static int read_option(void *timeout_usec, int option)
{
        return read_timespan("--timeout", optarg, timeout_usec);
}

int verb_wait(struct ctl *ctl, int argc, char *argv[])
{
        char reference[CTXD_PATH_ID_MAX + 1];
        uint64_t timeout_usec = UINT64_MAX;
        int r;

        if (!read_options(ctl, argc, argv, options, read_option, &timeout_usec, &r) ||
                        !count_arguments(ctl, argc, 1, 1, &r))
                return r;
        bus_answers_within(ctl, timeout_usec);
        /* When the context is done, its path may already have a new one. */
        r = contexts_pin(ctl, argv[optind], reference);
        return r > 0 ? r : wait_for(ctl, reference, timeout_usec);
}
