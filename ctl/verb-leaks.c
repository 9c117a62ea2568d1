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
#include "ctl/table.h"
#include "ctl/terminal.h"

/* ctxctl leaks says by its exit status whether there are some, so what goes wrong has another one. */
#define EXIT_SOME EXIT_FAILED
#define EXIT_UNKNOWN EXIT_USAGE

#define LABEL_WIDTH 13

static const struct option options[] = {
                {"all", no_argument, NULL, 'a'},
                {"long", no_argument, NULL, 'l'}, /* as --full */
                {},
};

struct shown {
        bool all; /* also those that have left */
};

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
        print_field("Signal", json_get_text(leak, "CTXD_UNSIGNALLED"));
        print_stack("Stack", json_get_text(leak, "CTXD_STACK"));
        print_stack("Kernel stack", json_get_text(leak, "CTXD_KERNEL_STACK"));
        if (json_get_number(leak, "CTXD_FOUND_USEC") != UINT64_MAX)
                print_field("Found", format_relative(text, json_get_number(leak, "CTXD_FOUND_USEC")));
        if (resolved && json_get_number(leak, "CTXD_RESOLVED_USEC") != UINT64_MAX)
                print_field("Resolved", format_relative(text, json_get_number(leak, "CTXD_RESOLVED_USEC")));
        print_field("Found by", json_get_text(leak, "CTXD_BACKEND"));
}

/* "No leaks" means nothing if nobody has looked. So this says who looked, and when. */
static void print_footer(struct ctl *ctl, const struct leak_counts *n, bool truncated)
{
        _cleanup_free_ char *backend = NULL, *reason = NULL, *shown = NULL;
        char relative[FORMAT_MAX];
        bool shown_any = n->running + n->left + n->held + n->more > 0;
        uint64_t swept = 0;

        printf("%s%zu leak%s", shown_any ? "\n" : "", n->running, n->running == 1 ? "" : "s");
        if (n->more > 0)
                printf(", and %" PRIu64 " more threads that are only counted", n->more);
        if (n->held > 0)
                printf(", and %zu process%s held", n->held, n->held == 1 ? " that is" : "es that are");
        if (n->left > 0)
                printf(", and %zu that %s left since", n->left, n->left == 1 ? "has" : "have");
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

/* Whether nobody is there if nobody was found. */
static bool is_known(struct ctl *ctl, bool truncated)
{
        _cleanup_free_ char *backend = NULL;

        return !truncated &&
               sd_bus_get_property_string(ctl->bus, CTXD_BUS_NAME, CTXD_OBJECT, CTXD_MANAGER_INTERFACE,
                               "ProbeBackend", NULL, &backend) >= 0 &&
               strcmp(backend, "off") != 0;
}

/* What it waits in, as the sentence says it, or why it is held. */
static void add_where(struct table *table, json_object *leak)
{
        const char *call = json_get_text(leak, "CTXD_SYSCALL"), *on = json_get_text(leak, "CTXD_WAITS_ON");

        if (leak_is_more(leak))
                table_addf(table, "%" PRIu64 " more threads", json_get_number(leak, "CTXD_COUNT"));
        else if (*call)
                table_addf(table, "%s%s%s", call, *on ? " on " : "", on);
        else
                table_add(table, json_get_text(leak, "CTXD_WHY"));
}

static int print_table(const struct ctl *ctl, json_object *array)
{
        static const char *const header[] = {
                        "CONTEXT", "-PID", "-TID", "COMMAND", "-SINCE DONE", "LEAK", "~WHERE", NULL};
        _cleanup_(table_freep) struct table *table = table_new(header);
        size_t n = json_object_array_length(array);
        char span[FORMAT_MAX];

        if (!table)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                json_object *leak = json_object_array_get_idx(array, i);
                uint64_t since = json_get_number(leak, "CTXD_SINCE_DONE_USEC");

                table_add(table, json_get_text(leak, "CTXD_CONTEXT"));
                table_add(table, json_get_text(leak, "OBJECT_PID"));
                table_add(table, json_get_text(leak, "CTXD_TID"));
                table_add(table, json_get_text(leak, "OBJECT_COMM"));
                table_add(table, since != UINT64_MAX ? format_timespan(span, since) : "");
                if (leak_is_resolved(leak))
                        table_add_colored(table, "left", COLOR_GREY);
                else
                        table_add_colored(table, json_get_text(leak, "CTXD_LEAK"),
                                        leak_is_held(leak) ? COLOR_GREY : COLOR_RED);
                add_where(table, leak);
        }
        return n > 0 ? table_print(table, ctl->legend) : 0;
}

static void print_long(json_object *array)
{
        for (size_t i = 0; i < json_object_array_length(array); i++) {
                if (i > 0)
                        putchar('\n');
                print_leak(json_object_array_get_idx(array, i));
        }
}

static void drop_resolved(json_object *array)
{
        for (size_t i = json_object_array_length(array); i-- > 0;)
                if (leak_is_resolved(json_object_array_get_idx(array, i)))
                        json_object_array_del_idx(array, i, 1);
}

static int read_option(void *userdata, int option)
{
        struct shown *shown = userdata;

        shown->all = true;
        return 0;
}

static int show(struct ctl *ctl, const char *prefix, const struct shown *shown, json_object *array)
{
        _cleanup_(process_list_deinit) struct process_list unsignalled = {};
        struct leak_counts counts;
        bool truncated = false;
        int r = leaks_read(ctl, prefix, array, &truncated);

        if (r == 0)
                r = held_read(ctl, prefix, array, &unsignalled);
        if (r > 0)
                return r == EXIT_FAILED ? EXIT_UNKNOWN : r;
        if (!shown->all)
                drop_resolved(array);
        leaks_count(array, &counts);
        if (ctl->json != JSON_OFF) {
                r = json_print(ctl, json_object_get(array));
        } else {
                r = json_make_printable(array);
                pager_open(ctl);
                if (r >= 0 && ctl->full)
                        print_long(array);
                else if (r >= 0)
                        r = print_table(ctl, array);
                if (r >= 0 && ctl->legend) {
                        print_footer(ctl, &counts, truncated);
                        endings_print_unsignalled(&unsignalled, (const char *const[]){"got", "got"});
                }
                r = r < 0 ? bus_broken(r) : 0;
        }
        if (r > 0)
                return EXIT_UNKNOWN;
        if (counts.running > 0 || counts.more > 0)
                return EXIT_SOME;
        return is_known(ctl, truncated) ? EXIT_DONE : EXIT_UNKNOWN;
}

int verb_leaks(struct ctl *ctl, int argc, char *argv[])
{
        struct shown shown = {};
        json_object *array;
        int r;

        if (!read_options(ctl, argc, argv, options, read_option, &shown, &r) ||
                        !count_arguments(ctl, argc, 0, 1, &r))
                return r;
        array = json_object_new_array();
        r = show(ctl, optind < argc ? argv[optind] : "/", &shown, array);
        json_object_put(array);
        return r;
}
