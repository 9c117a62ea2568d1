/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/drain.h"
#include "ctl/format.h"
#include "ctl/json.h"

enum {
        OPTION_ERROR = 1,
        OPTION_WAIT,
        OPTION_TIMEOUT,
        OPTION_REASON,
};

static const struct option options[] = {
                {"error", required_argument, NULL, OPTION_ERROR},
                {"wait", optional_argument, NULL, OPTION_WAIT},
                {"timeout", required_argument, NULL, OPTION_TIMEOUT},
                {"reason", required_argument, NULL, OPTION_REASON},
                {},
};

struct cancel {
        const char *reason;
        int error; /* -1: none was given */
        bool wait;
        uint64_t timeout_usec;
};

struct outcome {
        int first;
        uint32_t contexts, members;
};

/* A number, or the name of an error. */
static int read_error(const char *text, int *ret)
{
        uint64_t number;

        if (parse_unsigned(text, 4095, &number) == 0 && number > 0) {
                *ret = (int) number;
                return 0;
        }
        for (int e = 1; e < 256; e++) {
                const char *name = strerrorname_np(e);

                if (name && strcasecmp(name, text) == 0) {
                        *ret = e;
                        return 0;
                }
        }
        complain("there is no error '%s': write a number, or a name such as EPIPE", text);
        return EXIT_USAGE;
}

static int read_option(struct cancel *cancel, int o)
{
        switch (o) {
        case OPTION_ERROR:
                return read_error(optarg, &cancel->error);
        case OPTION_WAIT:
                cancel->wait = true;
                return optarg ? read_timespan("--wait", optarg, &cancel->timeout_usec) : 0;
        case OPTION_TIMEOUT:
                return read_timespan("--timeout", optarg, &cancel->timeout_usec);
        default:
                cancel->reason = optarg;
                return 0;
        }
}

static int cancel_context(struct ctl *ctl, const char *path, const struct cancel *cancel, struct outcome *ret)
{
        _cleanup_message_ sd_bus_message *reply = NULL;
        int r;

        if (cancel->error < 0)
                r = bus_call(ctl, &reply, "Cancel", "ss", path, cancel->reason);
        else
                r = bus_call(ctl, &reply, "CancelCause", "sis", path, (int32_t) cancel->error,
                                cancel->reason);
        if (r > 0)
                return r;
        r = sd_bus_message_read(reply, "buu", &ret->first, &ret->contexts, &ret->members);
        return r < 0 ? bus_broken(r) : 0;
}

static void print_outcome(struct ctl *ctl, const char *path, const struct outcome *outcome)
{
        struct verdict verdict;

        if (outcome->first) {
                printf("Canceled %s: %" PRIu32 " context%s done", path, outcome->contexts,
                                outcome->contexts == 1 ? "" : "s");
                if (outcome->members > 0)
                        printf(", %" PRIu32 " member%s to leave.\n", outcome->members,
                                        outcome->members == 1 ? " has" : "s have");
                else
                        puts(", no members.");
        } else if (contexts_err(ctl, path, &verdict) == 0) {
                printf("%s was done before: %s", path, verdict.err);
                if (*verdict.cause && strcmp(verdict.cause, verdict.err) != 0)
                        printf(" (%s)", verdict.cause);
                puts(".");
        }
}

static int cancel_and_print(struct ctl *ctl, const char *path, const struct cancel *cancel)
{
        char reference[CTXD_PATH_ID_MAX + 1];
        struct listing listing = {};
        struct outcome outcome;
        json_object *json = NULL;
        int r, status = EXIT_DONE;

        /* Who waits means this context for as long as that takes, and not a newcomer of its name. */
        if (cancel->wait && strcmp(path, "/") != 0 && !strchr(path, '#')) {
                r = contexts_get(ctl, path, &listing);
                if (r > 0)
                        return r;
                path = listed_reference(listing.items, reference);
                listing_deinit(&listing);
        }
        r = cancel_context(ctl, path, cancel, &outcome);
        if (r > 0)
                return r;
        if (ctl->json == JSON_OFF) {
                print_outcome(ctl, path, &outcome);
                fflush(stdout);
        } else {
                json = json_object_new_object();
                json_add_text(json, "path", path);
                json_object_object_add(json, "first", json_object_new_boolean(outcome.first));
                json_add_number(json, "contexts", outcome.contexts);
                json_add_number(json, "members", outcome.members);
        }
        if (cancel->wait)
                status = drain(ctl, path, cancel->timeout_usec, json);
        if (json) {
                r = json_print(ctl, json);
                if (r > 0)
                        return r;
        }
        return status;
}

int verb_cancel(struct ctl *ctl, int argc, char *argv[])
{
        struct cancel cancel = {.reason = "", .error = -1, .timeout_usec = UINT64_MAX};
        int o, r;

        while ((o = next_option(ctl, argc, argv, options, &r)) != -1) {
                if (o != OPTION_EXIT)
                        r = read_option(&cancel, o);
                if (o == OPTION_EXIT || r > 0)
                        return r;
        }
        if (!count_arguments(ctl, argc, 1, 2))
                return EXIT_USAGE;
        if (argc - optind == 2)
                cancel.reason = argv[optind + 1];
        if (cancel.timeout_usec != UINT64_MAX && !cancel.wait) {
                complain("--timeout= is how long to wait: it needs --wait, or write --wait=TIME");
                return EXIT_USAGE;
        }
        return cancel_and_print(ctl, argv[optind], &cancel);
}
