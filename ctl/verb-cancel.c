/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/drain.h"
#include "ctl/endings.h"
#include "ctl/json.h"
#include "ctl/parse.h"
#include "ctl/processes.h"

enum {
        OPTION_ERROR = 1,
        OPTION_WAIT,
        OPTION_TIMEOUT,
};

static const struct option options[] = {
                {"error", required_argument, NULL, OPTION_ERROR},
                {"wait", optional_argument, NULL, OPTION_WAIT},
                {"timeout", required_argument, NULL, OPTION_TIMEOUT},
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
        uint32_t contexts, members; /* tasks, of what this cancel has ended */
        uint32_t tasks;             /* that were there before, also in what was done by then */
        struct process_list before; /* and their processes, and whose threads have entered */
        bool is_listed;
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
        print_error("there is no error '%s': write a number, or a name such as EPIPE", text);
        return EXIT_USAGE;
}

static int read_option(void *userdata, int option)
{
        struct cancel *cancel = userdata;

        switch (option) {
        case OPTION_ERROR:
                return read_error(optarg, &cancel->error);
        case OPTION_WAIT:
                cancel->wait = true;
                return optarg ? read_timespan("--wait", optarg, &cancel->timeout_usec) : 0;
        default:
                return read_timespan("--timeout", optarg, &cancel->timeout_usec);
        }
}

/* Whoever is there has to leave, also of the contexts below that were done before. The reply to a cancel does
 * not count those. */
static void look_before(struct ctl *ctl, const char *path, struct outcome *ret)
{
        _cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;
        uint32_t contexts;

        ret->is_listed = process_list_ask(ctl, path, &ret->before);
        if (ret->is_listed)
                (void) endings_read(ctl, path, true, &ret->before);
        if (ret->is_listed && bus_message(ctl, &m, "Preview") == 0 &&
                        sd_bus_message_append(m, "su", path, (uint32_t) 0) >= 0 &&
                        sd_bus_call(ctl->bus, m, 0, NULL, &reply) >= 0)
                (void) sd_bus_message_read(reply, "uu", &contexts, &ret->tasks);
}

static int cancel_context(struct ctl *ctl, const char *path, const struct cancel *cancel, struct outcome *ret)
{
        _cleanup_message_ sd_bus_message *reply = NULL;
        int r;

        look_before(ctl, path, ret);
        if (cancel->error < 0)
                r = bus_call(ctl, &reply, "Cancel", "ss", path, cancel->reason);
        else
                r = bus_call(ctl, &reply, "CancelCause", "sis", path, (int32_t) cancel->error,
                                cancel->reason);
        if (r > 0)
                return r;
        r = sd_bus_message_read(reply, "buu", &ret->first, &ret->contexts, &ret->members);
        if (ret->tasks < ret->members)
                ret->tasks = ret->members;
        return r < 0 ? bus_broken(r) : 0;
}

static void print_members(struct ctl *ctl, const struct outcome *outcome)
{
        char count[PROCESS_COUNT_MAX];

        if (outcome->before.n > 0 || outcome->before.n_entered > 0)
                printf(", %s %s to leave.\n", process_count(ctl, &outcome->before, outcome->tasks, count),
                                process_count_verb(&outcome->before));
        else if (outcome->tasks == 0)
                puts(", no process has to leave.");
        else /* nobody may list the processes */
                printf(", %" PRIu32 " member%s to leave.\n", outcome->tasks,
                                outcome->tasks == 1 ? " has" : "s have");
}

static void print_outcome(struct ctl *ctl, const char *path, const struct outcome *outcome)
{
        struct context_end end;

        if (outcome->first) {
                printf("Canceled %s: %" PRIu32 " context%s done", path, outcome->contexts,
                                outcome->contexts == 1 ? "" : "s");
                print_members(ctl, outcome);
        } else if (contexts_end(ctl, path, &end) == 0) {
                printf("%s was done before: ", path);
                print_end(end.err, end.cause);
                puts(".");
        }
}

/* Whoever is there and gets no signal, as far as the caller may read it. The cancel is done by now, whatever
 * becomes of this. */
static void read_unsignalled(struct ctl *ctl, const char *path, struct process_list *ret)
{
        int r;

        ctl->is_extra = true;
        r = process_list_read(ctl, path, true, ret);
        ctl->is_extra = false;
        if (r == 0)
                (void) endings_read(ctl, path, true, ret);
}

static int cancel_and_print(struct ctl *ctl, const char *path, const struct cancel *cancel)
{
        char reference[CTXD_PATH_ID_MAX + 1];
        _cleanup_(process_list_deinit) struct process_list list = {};
        struct outcome outcome = {};
        json_object *json = NULL;
        int r, status = EXIT_DONE;

        /* The context that we cancel and the one that we wait for, or name, must be the same. Whoever may not
         * read it may be allowed to cancel it all the same. */
        if (cancel->wait || ctl->json != JSON_OFF) {
                ctl->is_extra = !cancel->wait;
                r = contexts_pin(ctl, path, reference);
                ctl->is_extra = false;
                if (r > 0 && cancel->wait)
                        return r;
                if (r == 0)
                        path = reference;
        }
        r = cancel_context(ctl, path, cancel, &outcome);
        if (r > 0) {
                process_list_deinit(&outcome.before);
                return r;
        }
        if (outcome.tasks > 0 || outcome.before.n > 0 || !outcome.first)
                read_unsignalled(ctl, path, &list);
        if (ctl->json == JSON_OFF) {
                print_outcome(ctl, path, &outcome);
                /* Who waits for them is told of each. */
                if (!cancel->wait)
                        endings_print_unsignalled(&list, (const char *const[]){"gets", "get"});
                fflush(stdout);
        } else {
                json = json_object_new_object();
                contexts_add_reference(json, path);
                json_object_object_add(json, "first", json_object_new_boolean(outcome.first));
                json_add_number(json, "contexts", outcome.contexts);
                json_add_number(json, "members", outcome.tasks);
                json_add_number(json, "n_processes", outcome.is_listed ? outcome.before.n : UINT64_MAX);
                json_object_object_add(json, "unsignalled", endings_unsignalled_to_json(&list));
        }
        process_list_deinit(&outcome.before);
        if (cancel->wait)
                status = drain_wait(ctl, path, cancel->timeout_usec, json);
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
        int r;

        if (!read_options(ctl, argc, argv, options, read_option, &cancel, &r))
                return r;
        if (argc - optind > 2) {
                print_error("too many arguments: one PATH can be cancelled, and a REASON of several words "
                            "needs "
                            "quotes: ctxctl cancel %s '%s %s'",
                                argv[optind], argv[optind + 1], argv[optind + 2]);
                return EXIT_USAGE;
        }
        if (!count_arguments(ctl, argc, 1, 2, &r))
                return r;
        if (argc - optind == 2)
                cancel.reason = argv[optind + 1];
        if (cancel.timeout_usec != UINT64_MAX && !cancel.wait) {
                print_error("--timeout= says how long --wait waits: it needs --wait");
                return EXIT_USAGE;
        }
        bus_answers_within(ctl, cancel.timeout_usec);
        return cancel_and_print(ctl, argv[optind], &cancel);
}
