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
#include "ctl/text.h"
#include "proto/path.h"

#define LABEL_WIDTH 12

static void print_label(FILE *out, const char *label)
{
        fprintf(out, "%*s: ", LABEL_WIDTH, label);
}

/* A text that somebody has chosen may be long. */
static void put_text(FILE *out, const char *text)
{
        text_put(out, text, strlen(text), terminal_text_columns());
}

static void print_time(FILE *out, const char *label, uint64_t boottime_usec, bool with_relative)
{
        char stamp[FORMAT_MAX], relative[FORMAT_MAX];

        print_label(out, label);
        fprintf(out, "%s", format_timestamp(stamp, boottime_usec));
        if (with_relative)
                fprintf(out, "; %s", format_relative(relative, boottime_usec));
        fputc('\n', out);
}

static void print_state(FILE *out, json_object *p)
{
        const char *state = json_get_text(p, "state"), *cause = json_get_text(p, "cause"),
                   *from = json_get_text(p, "cause_path");
        int error = (int) json_get_number(p, "cause_error");
        bool active = strcmp(state, "active") == 0;
        char stamp[FORMAT_MAX], relative[FORMAT_MAX], own[CTXD_PATH_ID_MAX + 1];
        uint64_t since = json_get_number(p, active ? "created_usec" : "done_usec");

        print_label(out, "State");
        fprintf(out, "%s%s%s since %s; %s\n", color_on(state_color(state)), state, color_off(),
                        format_timestamp(stamp, since), format_relative(relative, since));
        if (active)
                return;
        print_label(out, "Cause");
        put_text(out, cause);
        /* The error numbers of an ordinary cancel and of a deadline add nothing to the state. */
        if (error != ECANCELED && error != ETIMEDOUT && strerrorname_np(error))
                fprintf(out, " (%s: %s)", strerrorname_np(error), strerrordesc_np(error));
        snprintf(own, sizeof own, "%s#%" PRIu64, json_get_text(p, "path"), json_get_number(p, "id"));
        if (*from && strcmp(from, own) != 0)
                fprintf(out, " (from %s)", from);
        fputc('\n', out);
}

static void print_canceled_by(FILE *out, json_object *p)
{
        json_object *by = json_object_object_get(p, "canceled_by");
        char user[FORMAT_MAX];

        if (!by)
                return;
        print_label(out, "Canceled by");
        fprintf(out, "%s[%" PRIu64 "] of %s\n", json_get_text(by, "command"), json_get_number(by, "pid"),
                        format_user(user, (uid_t) json_get_number(by, "uid")));
}

static void print_values(FILE *out, json_object *p)
{
        json_object *values = json_object_object_get(p, "values");
        bool first = true;

        if (!json_object_is_type(values, json_type_object))
                return;
        json_object_object_foreach(values, key, value)
        {
                if (first)
                        print_label(out, "Values");
                else
                        fprintf(out, "%*s", LABEL_WIDTH + 2, "");
                first = false;
                fprintf(out, "%s=", key);
                put_text(out, json_object_get_string(value));
                fputc('\n', out);
        }
}

/* While it is active, who is stopped may still be let go on. */
static void print_processes(FILE *out, const struct process_list *list, bool active)
{
        size_t unsignalled = endings_count_unsignalled(list), rows = process_list_rows(list);
        uint32_t entered = process_list_entered(list);
        char command[COMMAND_MAX], why[HELD_MAX], shown[PRINTABLE_SIZE(HELD_MAX)];

        print_label(out, "Processes");
        fprintf(out, "%s%zu", list->truncated ? "more than " : "", list->n);
        if (unsignalled > 0)
                fprintf(out, ", of which %zu %s no signal", unsignalled,
                                active ? unsignalled == 1 ? "gets" : "get" : "got");
        if (entered > 0)
                fprintf(out, ", and %" PRIu32 " thread%s of others", entered, entered == 1 ? "" : "s");
        fputc('\n', out);
        for (size_t i = 0; i < rows; i++) {
                const struct process *p = process_list_row(list, i);

                if (active)
                        ending_why(p, why);
                else
                        process_held(p, why);
                fprintf(out, "%*s%s%s%" PRIu32 " %s%s%s%s%s\n", LABEL_WIDTH + 2, "",
                                glyph(i + 1 < rows ? GLYPH_BRANCH : GLYPH_RIGHT), color_on(COLOR_GREY),
                                p->pid, process_command_to_fit(p, LABEL_WIDTH + 2 + 2 + 11, command),
                                color_off(), *why ? " (" : "", printable(why, false, shown, sizeof shown),
                                *why ? ")" : "");
        }
}

static void print_context(FILE *out, json_object *p, const struct process_list *list)
{
        const char *state = json_get_text(p, "state"), *description = json_get_text(p, "description");
        char user[FORMAT_MAX], group[FORMAT_MAX];
        uint64_t deadline = json_get_number(p, "deadline_usec"), quiesce = json_get_number(p, "quiesce_usec");
        bool active = strcmp(state, "active") == 0;

        fprintf(out, "%s%s%s %s%s", color_on(state_color(state)), glyph(GLYPH_DOT), color_off(),
                        json_get_text(p, "path"), *description ? " - " : "");
        put_text(out, description);
        fputc('\n', out);
        print_state(out, p);
        print_canceled_by(out, p);
        if (deadline != UINT64_MAX)
                print_time(out, "Deadline", deadline, active); /* a context that is done has no time left */
        if (!active)
                print_time(out, "Created", json_get_number(p, "created_usec"), true);
        if (!active && list->n == 0 && quiesce != UINT64_MAX) {
                print_label(out, "Drained");
                if (quiesce == 0)
                        fputs("at once\n", out);
                else
                        fprintf(out, "%s after it was done\n", format_timespan(user, quiesce));
        }
        print_label(out, "Id");
        fprintf(out, "%" PRIu64 "\n", json_get_number(p, "id"));
        print_label(out, "Owner");
        fprintf(out, "%s:%s, mode %s\n", format_user(user, (uid_t) json_get_number(p, "owner_uid")),
                        format_group(group, (gid_t) json_get_number(p, "owner_gid")),
                        json_get_text(p, "mode"));
        print_values(out, p);
        print_processes(out, list, active);
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
        r = json_from_properties(reply, properties);
        if (r >= 0 && ctl->json == JSON_OFF)
                r = json_make_printable(properties);
        if (r < 0) {
                json_object_put(properties);
                return bus_broken(r);
        }
        *ret = properties;
        return 0;
}

/* A mode is octal text, and nobody is null, as is the error of what is not done. */
static void mend_context(json_object *p)
{
        json_object *by = json_object_object_get(p, "canceled_by"), *who = NULL;
        char mode[16];

        snprintf(mode, sizeof mode, "%04" PRIo64, json_get_number(p, "mode"));
        json_add_text(p, "mode", mode);
        if (json_object_is_type(by, json_type_array) && json_object_array_length(by) == 3 &&
                        json_object_get_uint64(json_object_array_get_idx(by, 1)) != 0) {
                who = json_object_new_object();
                json_object_object_add(who, "uid", json_object_get(json_object_array_get_idx(by, 0)));
                json_object_object_add(who, "pid", json_object_get(json_object_array_get_idx(by, 1)));
                json_object_object_add(who, "command", json_object_get(json_object_array_get_idx(by, 2)));
        }
        json_object_object_add(p, "canceled_by", who);
        if (strcmp(json_get_text(p, "state"), "active") == 0)
                json_object_object_add(p, "cause_error", NULL);
}

/* A context that has lost its path has no object any more. This is what is still known of it; all else is
 * null. */
static json_object *released_properties(const struct listed *c)
{
        static const char *const keys[] = {"path", "id", "parent", "state", "err", "cause", "cause_error",
                        "cause_path", "canceled_by", "deadline_usec", "created_usec", "done_usec",
                        "quiesce_usec", "owner_uid", "owner_gid", "mode", "description", "values"};
        json_object *p = json_object_new_object();

        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                json_object_object_add(p, keys[i], NULL);
        json_add_text(p, "path", c->path);
        json_add_number(p, "id", c->id);
        json_add_text(p, "state", c->state);
        if (strcmp(c->state, "active") != 0)
                json_add_text(p, "err",
                                strcmp(c->state, "canceled") == 0 ? "context canceled"
                                                                  : "context deadline exceeded");
        json_add_text(p, "cause", c->cause);
        return p;
}

static void print_released(FILE *out, const struct listed *c)
{
        _cleanup_free_ char *cause = printable_new(c->cause, false);

        fprintf(out, "%s%s%s %s#%" PRIu64 "\n", color_on(state_color(c->state)), glyph(GLYPH_DOT),
                        color_off(), c->path, c->id);
        print_label(out, "State");
        fprintf(out, "%s%s%s, released\n", color_on(state_color(c->state)), c->state, color_off());
        print_label(out, "Cause");
        put_text(out, cause ? cause : "");
        fputc('\n', out);
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
        if (r == 0 && json_get_number(p, "id") != c->id) { /* another one has its path by now */
                json_object_put(p);
                *ret_released = true;
                p = released_properties(c);
        } else if (r == 0)
                mend_context(p);
        if (r == 0)
                *ret = p;
        return r;
}

struct shown {
        struct listing listing;
        struct process_list list;
        json_object *properties;
        bool released;
};

static int draw_context(void *userdata, FILE *out)
{
        const struct shown *shown = userdata;

        if (shown->released) {
                print_released(out, shown->listing.items);
                print_processes(out, &shown->list, strcmp(shown->listing.items->state, "active") == 0);
        } else {
                print_context(out, shown->properties, &shown->list);
        }
        return EXIT_DONE;
}

/* is_first: nothing was printed before; it becomes false when something is. */
static int status_of(struct ctl *ctl, const char *path, uint64_t lines, json_object *array, bool *is_first)
{
        char reference[CTXD_PATH_ID_MAX + 1];
        struct shown shown = {};
        int r;

        r = contexts_get(ctl, path, &shown.listing);
        if (r > 0)
                return r;
        r = read_context(ctl, shown.listing.items, &shown.properties, &shown.released);
        if (r == 0)
                r = process_list_read(
                                ctl, listed_reference(shown.listing.items, reference), true, &shown.list);
        if (r == 0)
                r = endings_read(ctl, reference, true, &shown.list);
        if (r == 0 && array) {
                json_object_object_add(shown.properties, "processes", process_list_to_json(&shown.list));
                json_object_array_add(array, json_object_get(shown.properties));
        } else if (r == 0) {
                if (!*is_first)
                        putchar('\n');
                *is_first = false;
                r = text_draw(draw_context, &shown);
                log_lines_print(ctl, shown.listing.items, lines);
        }
        json_object_put(shown.properties);
        process_list_deinit(&shown.list);
        listing_deinit(&shown.listing);
        return r;
}

/* The address at which ctxd was reached, of those that were tried. */
static void add_address(struct ctl *ctl, json_object *p)
{
        const char *address;

        if (sd_bus_get_address(ctl->bus, &address) >= 0)
                json_add_text(p, "address", address);
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
        json_add_number(p, "leaks", counts.running);
        json_add_number(p, "n_more_threads", counts.more);
        json_add_number(p, "n_held", counts.held);
        json_add_number(p, "n_unsignalled", unsignalled.n);
        return r;
}

struct service {
        struct ctl *ctl;
        json_object *properties;
        struct process_list list;
};

static int draw_service(void *userdata, FILE *out)
{
        const struct service *service = userdata;
        json_object *p = service->properties;
        const char *backend = json_get_text(p, "probe_backend"), *reason = json_get_text(p, "probe_reason");
        uint64_t swept = json_get_number(p, "last_sweep_usec");
        char relative[FORMAT_MAX], count[PROCESS_COUNT_MAX];

        fprintf(out, "%s%s%s ctxd %s\n", color_on(COLOR_GREEN), glyph(GLYPH_DOT), color_off(),
                        json_get_text(p, "version"));
        print_label(out, "Address");
        fprintf(out, "%s\n", json_get_text(p, "address"));
        print_label(out, "Contexts");
        fprintf(out, "%" PRIu64 "\n", json_get_number(p, "contexts"));
        print_label(out, "Members");
        fprintf(out, "%s, tracked by %s\n",
                        process_count(service->ctl, &service->list, (uint32_t) json_get_number(p, "members"),
                                        count),
                        json_get_text(p, "membership_backend"));
        print_label(out, "Probe");
        fprintf(out, "%s%s%s%s\n", backend, *reason ? " (" : "", reason, *reason ? ")" : "");
        print_label(out, "Leaks");
        fprintf(out, "%" PRIu64 " now", json_get_number(p, "leaks"));
        if (json_get_number(p, "n_more_threads") > 0)
                fprintf(out, " and %" PRIu64 " more threads", json_get_number(p, "n_more_threads"));
        fprintf(out, ", %" PRIu64 " found since the start", json_get_number(p, "leaks_found"));
        if (json_get_number(p, "n_held") > 0)
                fprintf(out, ", %" PRIu64 " held", json_get_number(p, "n_held"));
        if (swept > 0 && swept != UINT64_MAX)
                fprintf(out, ", last sweep %s", format_relative(relative, swept));
        fputc('\n', out);
        if (json_get_number(p, "n_unsignalled") > 0) {
                print_label(out, "No signal");
                fprintf(out, "%" PRIu64 " process%s of done contexts\n", json_get_number(p, "n_unsignalled"),
                                left_plural(json_get_number(p, "n_unsignalled")));
        }
        return EXIT_DONE;
}

static int status_of_service(struct ctl *ctl)
{
        struct service service = {.ctl = ctl};
        int r = read_properties(ctl, CTXD_OBJECT, CTXD_MANAGER_INTERFACE, &service.properties);

        if (r > 0)
                return r;
        add_address(ctl, service.properties);
        r = add_leaks(ctl, service.properties);
        if (r == 0)
                r = process_list_read(ctl, "/", true, &service.list);
        if (r == 0)
                r = endings_read(ctl, "/", true, &service.list); /* for the threads that have entered */
        if (r == 0) {
                json_add_number(service.properties, "n_processes", service.list.n);
                r = ctl->json != JSON_OFF ? json_print(ctl, json_object_get(service.properties))
                                          : text_draw(draw_service, &service);
        }
        process_list_deinit(&service.list);
        json_object_put(service.properties);
        return r;
}

static int read_option(void *arguments, int option)
{
        if (parse_unsigned(optarg, INT32_MAX, arguments) == 0)
                return 0;
        print_error("--lines must be a number, not '%s'", optarg);
        return EXIT_USAGE;
}

int verb_status(struct ctl *ctl, int argc, char *argv[])
{
        static const struct option own[] = {{"lines", required_argument, NULL, 'n'}, {}};
        uint64_t lines = 10;
        json_object *array = NULL;
        bool is_first = true;
        int r, status = EXIT_DONE;

        if (!read_options(ctl, argc, argv, own, read_option, &lines, &r) ||
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
                r = status_of(ctl, argv[i], lines, array, &is_first);
                if (status == EXIT_DONE)
                        status = r;
        }
        if (array && status != EXIT_DONE && json_object_array_length(array) == 0)
                json_object_put(array);
        else if (array)
                r = json_print(ctl, array);
        return status != EXIT_DONE ? status : r;
}
