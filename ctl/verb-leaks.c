/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/printable.h"
#include "ctl/bus.h"
#include "ctl/format.h"
#include "ctl/held.h"
#include "ctl/json.h"
#include "ctl/leak.h"
#include "ctl/pager.h"
#include "ctl/terminal.h"

#define LABEL_WIDTH 13

static void print_field(const char *label, const char *text)
{
        if (*text)
                printf("%*s: %s\n", LABEL_WIDTH, label, text);
}

/* A stack has one frame in each line. */
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

        if (json_get_number(leak, name) != UINT64_MAX)
                print_field(label, format_timespan(span, json_get_number(leak, name)));
}

static void print_leak(json_object *leak)
{
        uint64_t count = json_get_number(leak, "CTXD_COUNT");
        bool resolved = leak_is_resolved(leak), held = leak_is_held(leak);
        char text[FORMAT_MAX];

        printf("%s%s%s %s%s\n", color_on(resolved || held ? COLOR_GREY : COLOR_RED), glyph(GLYPH_DOT),
                        color_off(), json_get_text(leak, "MESSAGE"), resolved ? " [it has left since]" : "");
        printf("%*s: %s#%s, %s\n", LABEL_WIDTH, "Context", json_get_text(leak, "CTXD_CONTEXT"),
                        json_get_text(leak, "CTXD_CONTEXT_ID"), json_get_text(leak, "CTXD_ERR"));
        print_field("Cause", json_get_text(leak, "CTXD_CAUSE"));
        if (leak_is_more(leak) || held)
                return;
        printf("%*s: %s, process %s, thread %s", LABEL_WIDTH, "Who", json_get_text(leak, "OBJECT_COMM"),
                        json_get_text(leak, "OBJECT_PID"), json_get_text(leak, "CTXD_TID"));
        if (count > 1 && count != UINT64_MAX)
                printf(", and %" PRIu64 " more like it", count - 1);
        putchar('\n');
        print_field("Leak", json_get_text(leak, "CTXD_LEAK"));
        print_time("Since done", leak, "CTXD_SINCE_DONE_USEC");
        print_time("Blocked for", leak, "CTXD_BLOCKED_USEC");
        print_field("System call", json_get_text(leak, "CTXD_SYSCALL"));
        print_field("Waits on", json_get_text(leak, "CTXD_WAITS_ON"));
        print_field("Why", json_get_text(leak, "CTXD_WHY"));
        print_stack("Stack", json_get_text(leak, "CTXD_STACK"));
        print_stack("Kernel stack", json_get_text(leak, "CTXD_KERNEL_STACK"));
        if (json_get_number(leak, "CTXD_FOUND_USEC") != UINT64_MAX)
                print_field("Found", format_relative(text, json_get_number(leak, "CTXD_FOUND_USEC")));
        if (resolved && json_get_number(leak, "CTXD_RESOLVED_USEC") != UINT64_MAX)
                print_field("Resolved", format_relative(text, json_get_number(leak, "CTXD_RESOLVED_USEC")));
        print_field("Found by", json_get_text(leak, "CTXD_BACKEND"));
}

/* "No leaks" means nothing if nobody has looked. So this says who looked, and when. */
static void print_footer(struct ctl *ctl, size_t n, uint64_t more, size_t n_held, bool truncated)
{
        _cleanup_free_ char *backend = NULL, *reason = NULL, *shown = NULL;
        char relative[FORMAT_MAX];
        uint64_t swept = 0;

        printf("%s%zu leak%s", n > 0 || more > 0 || n_held > 0 ? "\n" : "", n, n == 1 ? "" : "s");
        if (more > 0)
                printf(", and %" PRIu64 " more threads that are only counted", more);
        if (n_held > 0)
                printf(", and %zu process%s held", n_held, n_held == 1 ? " that is" : "es that are");
        if (truncated)
                printf(", and more that are not shown");
        if (sd_bus_get_property_trivial(ctl->bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                            "LastSweepUSec", NULL, 't', &swept) >= 0 &&
                        sd_bus_get_property_string(ctl->bus, CTXD_BUS_NAME, CTXD_OBJECT,
                                        CTXD_MANAGER_INTERFACE, "ProbeBackend", NULL, &backend) >= 0 &&
                        sd_bus_get_property_string(ctl->bus, CTXD_BUS_NAME, CTXD_OBJECT,
                                        CTXD_MANAGER_INTERFACE, "ProbeReason", NULL, &reason) >= 0) {
                shown = printable_new(reason, false);
                if (strcmp(backend, "off") == 0)
                        printf("; the probe is not running (%s), so nobody looks for leaks",
                                        shown ? shown : "");
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
        uint64_t more = 0;
        size_t n, n_leaks = 0, n_held = 0;
        const char *prefix;
        int r;

        if (!read_arguments(ctl, argc, argv, 0, 1, &r))
                return r;
        prefix = optind < argc ? argv[optind] : "/";
        array = json_object_new_array();
        r = leaks_read(ctl, prefix, array, &truncated);
        if (r == 0)
                r = held_read(ctl, prefix, array);
        if (r > 0) {
                json_object_put(array);
                return r;
        }
        if (ctl->json != JSON_OFF)
                return json_print(ctl, array);
        r = json_make_printable(array);
        if (r < 0) {
                json_object_put(array);
                return bus_broken(r);
        }
        pager_open(ctl);
        n = json_object_array_length(array);
        for (size_t i = 0; i < n; i++) {
                json_object *leak = json_object_array_get_idx(array, i);

                if (i > 0)
                        putchar('\n');
                print_leak(leak);
                if (leak_is_more(leak))
                        more += json_get_number(leak, "CTXD_COUNT");
                else if (leak_is_held(leak))
                        n_held++;
                else
                        n_leaks++;
        }
        if (ctl->legend)
                print_footer(ctl, n_leaks, more, n_held, truncated);
        json_object_put(array);
        return EXIT_DONE;
}
