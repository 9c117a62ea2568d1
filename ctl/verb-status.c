/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/printable.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/format.h"
#include "ctl/held.h"
#include "ctl/json.h"
#include "ctl/leak.h"
#include "ctl/left.h"
#include "ctl/log-lines.h"
#include "ctl/pager.h"
#include "ctl/parse.h"
#include "ctl/processes.h"
#include "ctl/terminal.h"
#include "proto/path.h"

#define LABEL_WIDTH 12

static void print_label(const char *label)
{
        printf("%*s: ", LABEL_WIDTH, label);
}

static void print_time(const char *label, uint64_t boottime_usec, bool with_relative)
{
        char stamp[FORMAT_MAX], relative[FORMAT_MAX];

        print_label(label);
        printf("%s", format_timestamp(stamp, boottime_usec));
        if (with_relative)
                printf("; %s", format_relative(relative, boottime_usec));
        putchar('\n');
}

static void print_state(json_object *p)
{
        const char *state = json_get_text(p, "State"), *cause = json_get_text(p, "Cause"),
                   *from = json_get_text(p, "CausePath");
        int error = (int) json_get_number(p, "CauseError");
        bool active = strcmp(state, "active") == 0;
        char stamp[FORMAT_MAX], relative[FORMAT_MAX], own[CTXD_PATH_ID_MAX + 1];
        uint64_t since = json_get_number(p, active ? "CreatedUSec" : "DoneUSec");

        print_label("State");
        printf("%s%s%s since %s; %s\n", color_on(state_color(state)), state, color_off(),
                        format_timestamp(stamp, since), format_relative(relative, since));
        if (active)
                return;
        print_label("Cause");
        printf("%s", cause);
        /* The error numbers of an ordinary cancel and of a deadline add nothing to the state. */
        if (error != ECANCELED && error != ETIMEDOUT && strerrorname_np(error))
                printf(" (%s: %s)", strerrorname_np(error), strerrordesc_np(error));
        snprintf(own, sizeof own, "%s#%" PRIu64, json_get_text(p, "Path"), json_get_number(p, "Id"));
        if (*from && strcmp(from, own) != 0)
                printf(" (from %s)", from);
        putchar('\n');
}

static void print_canceled_by(json_object *p)
{
        json_object *by = json_object_object_get(p, "CanceledBy");
        uint64_t pid;
        char user[FORMAT_MAX];

        if (!json_object_is_type(by, json_type_array) || json_object_array_length(by) != 3)
                return;
        pid = json_object_get_uint64(json_object_array_get_idx(by, 1));
        if (pid == 0)
                return;
        print_label("Canceled by");
        printf("%s[%" PRIu64 "] of %s\n", json_object_get_string(json_object_array_get_idx(by, 2)), pid,
                        format_user(user, (uid_t) json_object_get_uint64(json_object_array_get_idx(by, 0))));
}

static void print_values(json_object *p)
{
        json_object *values = json_object_object_get(p, "Values");
        bool first = true;

        if (!json_object_is_type(values, json_type_object))
                return;
        json_object_object_foreach(values, key, value)
        {
                if (first)
                        print_label("Values");
                else
                        printf("%*s", LABEL_WIDTH + 2, "");
                first = false;
                printf("%s=%s\n", key, json_object_get_string(value));
        }
}

/* While it is active, who is stopped may still be let go on. */
static void print_processes(const struct process_list *list, bool active)
{
        size_t unsignalled = endings_count_unsignalled(list);
        char command[COMMAND_MAX], why[HELD_MAX], shown[PRINTABLE_SIZE(HELD_MAX)];

        print_label("Processes");
        printf("%zu", list->n);
        if (unsignalled > 0)
                printf(", of which %zu %s no signal", unsignalled,
                                active ? unsignalled == 1 ? "gets" : "get" : "got");
        putchar('\n');
        for (size_t i = 0; i < list->n; i++) {
                const struct process *p = list->items + i;

                if (active)
                        ending_why(p, why);
                else
                        process_held(p, why);
                printf("%*s%s%s%" PRIu32 " %s%s%s%s%s\n", LABEL_WIDTH + 2, "",
                                glyph(i + 1 < list->n ? GLYPH_BRANCH : GLYPH_RIGHT), color_on(COLOR_GREY),
                                p->pid, process_command(p, command), color_off(), *why ? " (" : "",
                                printable(why, false, shown, sizeof shown), *why ? ")" : "");
        }
}

static void print_context(json_object *p, const struct process_list *list)
{
        const char *state = json_get_text(p, "State"), *description = json_get_text(p, "Description");
        char user[FORMAT_MAX], group[FORMAT_MAX];
        uint64_t deadline = json_get_number(p, "DeadlineUSec"), quiesce = json_get_number(p, "QuiesceUSec");
        bool active = strcmp(state, "active") == 0;

        printf("%s%s%s %s%s%s\n", color_on(state_color(state)), glyph(GLYPH_DOT), color_off(),
                        json_get_text(p, "Path"), *description ? " - " : "", description);
        print_state(p);
        print_canceled_by(p);
        if (deadline != UINT64_MAX)
                print_time("Deadline", deadline, active); /* a context that is done has no time left */
        if (!active)
                print_time("Created", json_get_number(p, "CreatedUSec"), true);
        if (!active && list->n == 0 && quiesce != UINT64_MAX) {
                print_label("Drained");
                if (quiesce == 0)
                        puts("at once");
                else
                        printf("%s after it was done\n", format_timespan(user, quiesce));
        }
        print_label("Id");
        printf("%" PRIu64 "\n", json_get_number(p, "Id"));
        print_label("Owner");
        printf("%s:%s, mode %04" PRIo64 "\n", format_user(user, (uid_t) json_get_number(p, "OwnerUID")),
                        format_group(group, (gid_t) json_get_number(p, "OwnerGID")),
                        json_get_number(p, "Mode"));
        print_values(p);
        print_processes(list, active);
}

static int read_properties(struct ctl *ctl, const char *object, const char *interface, json_object **ret)
{
        _cleanup_message_ sd_bus_message *reply = NULL;
        json_object *properties;
        int r;

        r = bus_properties(ctl, object, interface, SD_BUS_ERROR_UNKNOWN_OBJECT, &reply);
        if (r == BUS_EXPECTED) {
                print_error("the context has just been removed");
                return EXIT_NO_SUCH_CONTEXT;
        }
        if (r > 0)
                return r;
        properties = json_object_new_object();
        r = json_from_dictionary(reply, "{sv}", properties);
        if (r >= 0 && ctl->json == JSON_OFF)
                r = json_make_printable(properties);
        if (r < 0) {
                json_object_put(properties);
                return bus_broken(r);
        }
        *ret = properties;
        return 0;
}

/* A context that has lost its path has no object any more. This is what is still known of it. */
static json_object *released_properties(const struct listed *c)
{
        json_object *p = json_object_new_object();

        json_object_object_add(p, "Path", json_object_new_string(c->path));
        json_object_object_add(p, "Id", json_object_new_uint64(c->id));
        json_object_object_add(p, "State", json_object_new_string(c->state));
        json_object_object_add(p, "Cause", json_object_new_string(c->cause));
        return p;
}

static void print_released(const struct listed *c)
{
        _cleanup_free_ char *cause = printable_new(c->cause, false);

        printf("%s%s%s %s#%" PRIu64 "\n", color_on(state_color(c->state)), glyph(GLYPH_DOT), color_off(),
                        c->path, c->id);
        print_label("State");
        printf("%s%s%s, released\n", color_on(state_color(c->state)), c->state, color_off());
        print_label("Cause");
        puts(cause ? cause : "");
}

static int read_context(struct ctl *ctl, const struct listed *c, json_object **ret, bool *ret_released)
{
        _cleanup_free_ char *object = NULL;
        json_object *p;
        int r;

        if (c->created_usec == UINT64_MAX) {
                *ret_released = true;
                *ret = released_properties(c);
                return 0;
        }
        r = path_to_object(c->path, &object);
        if (r < 0)
                return bus_broken(r);
        r = read_properties(ctl, object, CTXD_CONTEXT_INTERFACE, &p);
        if (r == 0 && json_get_number(p, "Id") != c->id) { /* another one has its path by now */
                json_object_put(p);
                *ret_released = true;
                p = released_properties(c);
        }
        if (r == 0)
                *ret = p;
        return r;
}

static int status_of(struct ctl *ctl, const char *path, const struct log_options *log, json_object *array)
{
        _cleanup_(process_list_deinit) struct process_list list = {};
        char reference[CTXD_PATH_ID_MAX + 1];
        struct listing listing = {};
        json_object *p = NULL;
        bool released = false;
        int r;

        r = contexts_get(ctl, path, &listing);
        if (r > 0)
                return r;
        r = read_context(ctl, listing.items, &p, &released);
        if (r == 0) {
                r = process_list_read(ctl, listed_reference(listing.items, reference), true, &list);
                if (r == 0)
                        r = endings_read(ctl, reference, true, &list);
                if (r == 0 && array) {
                        json_object_object_add(p, "Processes", process_list_to_json(&list));
                        json_object_array_add(array, json_object_get(p));
                } else if (r == 0 && released) {
                        print_released(listing.items);
                        print_processes(&list, strcmp(listing.items->state, "active") == 0);
                } else if (r == 0) {
                        print_context(p, &list);
                }
                if (r == 0 && !array)
                        log_lines_print(ctl, listing.items, log);
                json_object_put(p);
        }
        listing_deinit(&listing);
        return r;
}

/* The address at which ctxd was reached, of those that were tried. */
static void add_address(struct ctl *ctl, json_object *p)
{
        const char *address;

        if (sd_bus_get_address(ctl->bus, &address) >= 0)
                json_object_object_add(p, "Address", json_object_new_string(address));
}

/* As ctxctl leaks counts them, beside those that were ever found. */
static int add_leaks(struct ctl *ctl, json_object *p)
{
        _cleanup_(process_list_deinit) struct process_list unsignalled = {};
        json_object *array = json_object_new_array();
        struct leak_counts counts;
        bool truncated;
        int r = leaks_read(ctl, "/", array, &truncated);

        if (r == 0)
                r = held_read(ctl, "/", array, &unsignalled);
        leaks_count(array, &counts);
        json_object_put(array);
        json_add_number(p, "Leaks", counts.running);
        json_add_number(p, "Held", counts.held);
        json_add_number(p, "Unsignalled", unsignalled.n);
        return r;
}

static void print_service(json_object *p)
{
        const char *backend = json_get_text(p, "ProbeBackend"), *reason = json_get_text(p, "ProbeReason");
        uint64_t swept = json_get_number(p, "LastSweepUSec"), held = json_get_number(p, "Held"),
                 unsignalled = json_get_number(p, "Unsignalled");
        char relative[FORMAT_MAX];

        printf("%s%s%s ctxd %s\n", color_on(COLOR_GREEN), glyph(GLYPH_DOT), color_off(),
                        json_get_text(p, "Version"));
        print_label("Address");
        puts(json_get_text(p, "Address"));
        print_label("Contexts");
        printf("%" PRIu64 "\n", json_get_number(p, "Contexts"));
        print_label("Members");
        printf("%" PRIu64 ", tracked by %s\n", json_get_number(p, "Members"),
                        json_get_text(p, "MembershipBackend"));
        print_label("Probe");
        printf("%s%s%s%s\n", backend, *reason ? " (" : "", reason, *reason ? ")" : "");
        print_label("Leaks");
        printf("%" PRIu64 " now, %" PRIu64 " found since the start", json_get_number(p, "Leaks"),
                        json_get_number(p, "LeaksFound"));
        if (swept > 0 && swept != UINT64_MAX)
                printf(", last sweep %s", format_relative(relative, swept));
        putchar('\n');
        if (held > 0) {
                print_label("Held");
                printf("%" PRIu64 " process%s\n", held, left_plural(held));
        }
        if (unsignalled > 0) {
                print_label("No signal");
                printf("%" PRIu64 " process%s of done contexts\n", unsignalled, left_plural(unsignalled));
        }
}

static int status_of_service(struct ctl *ctl)
{
        json_object *p;
        int r = read_properties(ctl, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, &p);

        if (r > 0)
                return r;
        add_address(ctl, p);
        r = add_leaks(ctl, p);
        if (r > 0) {
                json_object_put(p);
                return r;
        }
        if (ctl->json != JSON_OFF)
                return json_print(ctl, p);
        print_service(p);
        json_object_put(p);
        return EXIT_DONE;
}

static int read_option(void *arguments, int option)
{
        struct log_options *log = arguments;

        if (option == 'l') {
                log->full = true;
                return 0;
        }
        if (parse_unsigned(optarg, INT32_MAX, &log->lines) == 0)
                return 0;
        print_error("--lines must be a number, not '%s'", optarg);
        return EXIT_USAGE;
}

int verb_status(struct ctl *ctl, int argc, char *argv[])
{
        static const struct option own[] = {
                        {"lines", required_argument, NULL, 'n'}, {"full", no_argument, NULL, 'l'}, {}};
        struct log_options log = {.lines = 10};
        json_object *array = NULL;
        int r, status = EXIT_DONE;

        if (!read_options(ctl, argc, argv, own, read_option, &log, &r) ||
                        !count_arguments(ctl, argc, 0, -1, &r))
                return r;
        if (optind >= argc)
                return status_of_service(ctl);
        if (ctl->json != JSON_OFF)
                array = json_object_new_array();
        else
                pager_open(ctl);
        /* One that is not there does not keep the others. */
        for (int i = optind; i < argc; i++) {
                if (i > optind && !array)
                        putchar('\n');
                r = status_of(ctl, argv[i], &log, array);
                if (status == EXIT_DONE)
                        status = r;
        }
        if (array && status != EXIT_DONE && json_object_array_length(array) == 0)
                json_object_put(array);
        else if (array)
                r = json_print(ctl, array);
        return status != EXIT_DONE ? status : r;
}
