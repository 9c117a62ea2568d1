/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/pager.h"
#include "ctl/terminal.h"

#define LEAKS_MAX 1000
#define LABEL_WIDTH 13

static const char *text_of(json_object *leak, const char *name)
{
        const char *text = json_object_get_string(json_object_object_get(leak, name));

        return text ? text : "";
}

static bool is_resolved(json_object *leak)
{
        return json_object_get_boolean(json_object_object_get(leak, "CTXD_RESOLVED"));
}

static uint64_t number_of(json_object *leak, const char *name)
{
        json_object *value = json_object_object_get(leak, name);

        return value ? json_object_get_uint64(value) : UINT64_MAX;
}

/* The sentence that the journal's entry has. */
static void compose_message(json_object *leak, char *buffer, size_t size)
{
        char since[FORMAT_MAX], asleep[FORMAT_MAX];
        const char *err = text_of(leak, "CTXD_ERR"), *cause = text_of(leak, "CTXD_CAUSE");
        const char *call = text_of(leak, "CTXD_SYSCALL"), *waits_on = text_of(leak, "CTXD_WAITS_ON");
        bool said = *cause && strcmp(cause, err) != 0;
        int n;

        n = snprintf(buffer, size, "%s[%s/%s] is still %s %s after context %s %s%s%s%s",
                        text_of(leak, "OBJECT_COMM"), text_of(leak, "OBJECT_PID"), text_of(leak, "CTXD_TID"),
                        text_of(leak, "CTXD_LEAK"),
                        format_timespan(since, number_of(leak, "CTXD_SINCE_DONE_USEC")),
                        text_of(leak, "CTXD_CONTEXT"),
                        strcmp(err, CTXD_ERR_DEADLINE) == 0 ? "passed its deadline" : "was canceled",
                        said ? " (" : "", said ? cause : "", said ? ")" : "");
        if (n > 0 && (size_t) n < size && *call)
                n += snprintf(buffer + n, size - (size_t) n, ": %s%s%s", call, *waits_on ? " on " : "",
                                waits_on);
        if (n > 0 && (size_t) n < size && number_of(leak, "CTXD_BLOCKED_USEC") != UINT64_MAX)
                snprintf(buffer + n, size - (size_t) n, ", asleep for %s",
                                format_timespan(asleep, number_of(leak, "CTXD_BLOCKED_USEC")));
}

/* One report: its journal fields under their names, the context first. */
static int read_leak(sd_bus_message *m, json_object **ret)
{
        json_object *leak = json_object_new_object();
        char message[4096];
        const char *path;
        uint64_t id;
        int r;

        r = sd_bus_message_read(m, "st", &path, &id);
        if (r < 0) {
                json_object_put(leak);
                return r;
        }
        json_object_object_add(leak, "CTXD_CONTEXT", json_object_new_string(path));
        json_object_object_add(leak, "CTXD_CONTEXT_ID", json_object_new_uint64(id));
        r = json_from_dictionary(m, "{sv}", leak);
        if (r < 0) {
                json_object_put(leak);
                return r;
        }
        compose_message(leak, message, sizeof message);
        json_object_object_add(leak, "MESSAGE", json_object_new_string(message));
        *ret = leak;
        return 0;
}

static int read_leaks(struct ctl *ctl, const char *prefix, json_object *array, bool *ret_truncated)
{
        _cleanup_message_ sd_bus_message *reply = NULL;
        json_object *leak;
        int r, truncated;

        r = bus_call(ctl, &reply, "Leaks", "su", prefix, (uint32_t) LEAKS_MAX);
        if (r > 0)
                return r;
        r = sd_bus_message_enter_container(reply, 'a', "(sta{sv})");
        if (r < 0)
                return bus_broken(r);
        while ((r = sd_bus_message_enter_container(reply, 'r', "sta{sv}")) > 0) {
                r = read_leak(reply, &leak);
                if (r < 0)
                        return bus_broken(r);
                json_object_array_add(array, leak);
                r = sd_bus_message_exit_container(reply);
                if (r < 0)
                        return bus_broken(r);
        }
        if (r < 0 || (r = sd_bus_message_exit_container(reply)) < 0 ||
                        (r = sd_bus_message_read(reply, "b", &truncated)) < 0)
                return bus_broken(r);
        *ret_truncated = truncated;
        return 0;
}

static void print_field(const char *label, const char *text)
{
        if (*text)
                printf("%*s: %s\n", LABEL_WIDTH, label, text);
}

/* A stack: one frame a line, each indented below the label. */
static void print_stack(const char *label, const char *text)
{
        if (!*text)
                return;
        printf("%*s:\n", LABEL_WIDTH, label);
        while (*text) {
                size_t n = strcspn(text, "\n");

                if (n > 0)
                        printf("%*s%.*s\n", LABEL_WIDTH + 2, "", (int) n, text);
                text += n + (text[n] == '\n');
        }
}

static void print_time(const char *label, json_object *leak, const char *name)
{
        char span[FORMAT_MAX];

        if (number_of(leak, name) != UINT64_MAX)
                print_field(label, format_timespan(span, number_of(leak, name)));
}

static void print_leak(json_object *leak)
{
        uint64_t count = number_of(leak, "CTXD_COUNT");
        bool resolved = is_resolved(leak);
        char text[FORMAT_MAX];

        printf("%s%s%s %s%s\n", color_on(resolved ? COLOR_GREY : COLOR_RED), glyph(GLYPH_DOT), color_off(),
                        text_of(leak, "MESSAGE"), resolved ? " [it has left since]" : "");
        printf("%*s: %s#%s, %s\n", LABEL_WIDTH, "Context", text_of(leak, "CTXD_CONTEXT"),
                        text_of(leak, "CTXD_CONTEXT_ID"), text_of(leak, "CTXD_ERR"));
        print_field("Cause", text_of(leak, "CTXD_CAUSE"));
        printf("%*s: %s, process %s, thread %s", LABEL_WIDTH, "Who", text_of(leak, "OBJECT_COMM"),
                        text_of(leak, "OBJECT_PID"), text_of(leak, "CTXD_TID"));
        if (count > 1 && count != UINT64_MAX)
                printf(", and %" PRIu64 " more like it", count - 1);
        putchar('\n');
        print_field("Leak", text_of(leak, "CTXD_LEAK"));
        print_time("Since done", leak, "CTXD_SINCE_DONE_USEC");
        print_time("Blocked for", leak, "CTXD_BLOCKED_USEC");
        print_field("System call", text_of(leak, "CTXD_SYSCALL"));
        print_field("Waits on", text_of(leak, "CTXD_WAITS_ON"));
        print_field("Why", text_of(leak, "CTXD_WHY"));
        print_stack("Stack", text_of(leak, "CTXD_STACK"));
        print_stack("Kernel stack", text_of(leak, "CTXD_KERNEL_STACK"));
        if (number_of(leak, "CTXD_FOUND_USEC") != UINT64_MAX)
                print_field("Found", format_relative(text, number_of(leak, "CTXD_FOUND_USEC")));
        if (resolved && number_of(leak, "CTXD_RESOLVED_USEC") != UINT64_MAX)
                print_field("Resolved", format_relative(text, number_of(leak, "CTXD_RESOLVED_USEC")));
        print_field("Found by", text_of(leak, "CTXD_BACKEND"));
}

/* "None" is not "unknown": who looked, and when. */
static void print_footer(struct ctl *ctl, size_t n, bool truncated)
{
        _cleanup_free_ char *backend = NULL;
        char relative[FORMAT_MAX];
        uint64_t swept = 0;

        printf("%s%zu leak%s%s", n ? "\n" : "", n, n == 1 ? "" : "s",
                        truncated ? ", and more that are not shown" : "");
        if (sd_bus_get_property_trivial(ctl->bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                            "LastSweepUSec", NULL, 't', &swept) >= 0 &&
                        sd_bus_get_property_string(ctl->bus, CTXD_BUS_NAME, CTXD_OBJECT,
                                        CTXD_MANAGER_INTERFACE, "ProbeBackend", NULL, &backend) >= 0) {
                if (strcmp(backend, "off") == 0)
                        printf("; the probe is off: nobody looks for any");
                else if (swept == 0 || swept == UINT64_MAX)
                        printf("; the probe (%s) has not had to look yet", backend);
                else
                        printf("; the probe (%s) looked last %s", backend, format_relative(relative, swept));
        }
        puts(".");
}

int verb_leaks(struct ctl *ctl, int argc, char *argv[])
{
        json_object *array;
        bool truncated = false;
        size_t n;
        int r;

        if (read_arguments(ctl, argc, argv, 0, 1, &r) != 0)
                return r;
        array = json_object_new_array();
        r = read_leaks(ctl, optind < argc ? argv[optind] : "/", array, &truncated);
        if (r > 0) {
                json_object_put(array);
                return r;
        }
        if (ctl->json != JSON_OFF)
                return json_print(ctl, array);
        json_defuse(array);
        pager_open(ctl);
        n = json_object_array_length(array);
        for (size_t i = 0; i < n; i++) {
                if (i > 0)
                        putchar('\n');
                print_leak(json_object_array_get_idx(array, i));
        }
        if (ctl->legend)
                print_footer(ctl, n, truncated);
        json_object_put(array);
        return EXIT_DONE;
}
