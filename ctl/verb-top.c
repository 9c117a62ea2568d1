/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/printable.h"
#include "ctl/bus.h"
#include "ctl/forest.h"
#include "ctl/format.h"
#include "ctl/held.h"
#include "ctl/json.h"
#include "ctl/live.h"
#include "ctl/parse.h"
#include "ctl/terminal.h"
#include "ctl/usage.h"

/* The tree, with what its processes use. */

struct total {
        size_t n_processes; /* in the context and below it */
        struct usage usage;
        uint64_t done_usec; /* since when a done context with processes of its own is done */
};

struct top {
        struct live live;
        const char *prefix;
        bool processes_hidden;
        struct forest forest;
        struct total *totals; /* one for each node of the forest */
        struct usage_look *earlier, *look;
};

static void deinit(struct top *top)
{
        forest_deinit(&top->forest);
        free(top->totals);
        usage_look_free(top->earlier);
        usage_look_free(top->look);
}

static bool is_done(const struct tree_node *node)
{
        return node->listed && strcmp(node->listed->state, "active") != 0;
}

static struct total *total_of(const struct top *top, const struct tree_node *node)
{
        return top->totals + (node - top->forest.nodes);
}

static void add(struct total *to, size_t n_processes, const struct usage *usage)
{
        to->n_processes += n_processes;
        to->usage.percent += usage->percent;
        to->usage.memory += usage->memory;
}

static void sum_up(struct top *top, const struct tree_node *node)
{
        struct total *total = total_of(top, node);

        total->usage.cpu_known = top->earlier;
        for (size_t i = 0; i < node->processes.n; i++) {
                struct usage usage = usage_of(top->earlier, top->look, node->processes.items + i);

                add(total, 1, &usage);
        }
        for (const struct tree_node *child = node->children; child; child = child->next) {
                sum_up(top, child);
                add(total, total_of(top, child)->n_processes, &total_of(top, child)->usage);
        }
}

/* Since when its processes should have stopped, and whom no signal reaches. */
static int ask_about_done(struct top *top)
{
        char reference[CTXD_PATH_ID_MAX + 1];
        int r = 0;

        for (size_t i = 0; i < top->forest.listing.n && r == 0; i++)
                if (top->forest.nodes[i].processes.n > 0 && is_done(top->forest.nodes + i)) {
                        listed_reference(top->forest.nodes[i].listed, reference);
                        top->totals[i].done_usec = context_done_usec(top->live.ctl, reference);
                        r = endings_read(top->live.ctl, reference, false, &top->forest.nodes[i].processes);
                        top->forest.nodes[i].processes.with_endings = false; /* "held" says it in JSON */
                }
        return r;
}

static int measure(struct top *top)
{
        size_t n = top->forest.listing.n + 1;

        usage_look_free(top->earlier);
        top->earlier = top->look;
        top->look = usage_look_new();
        free(top->totals);
        top->totals = calloc(n, sizeof *top->totals);
        if (!top->look || !top->totals)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                if (usage_look_add(top->look, &top->forest.nodes[i].processes) < 0)
                        return -ENOMEM;
        usage_look_end(top->look);
        sum_up(top, top->forest.root);
        return 0;
}

static int read_top(void *userdata)
{
        struct top *top = userdata;
        int r;

        forest_deinit(&top->forest);
        r = forest_read(top->live.ctl, top->prefix, &top->forest);
        if (r > 0)
                return r;
        if (measure(top) < 0)
                return bus_broken(-ENOMEM);
        return ask_about_done(top);
}

static char *format_bytes(char *buffer, uint64_t bytes)
{
        static const char units[] = "BKMGTPE";
        double value = (double) bytes;
        size_t i = 0;

        for (; value >= 1000 && units[i + 1]; i++)
                value /= 1024;
        snprintf(buffer, FORMAT_MAX, i == 0 ? "%.0f%c" : "%.1f%c", value, units[i]);
        return buffer;
}

static void print_usage(FILE *out, const struct usage *usage)
{
        char bytes[FORMAT_MAX];

        if (usage->cpu_known)
                fprintf(out, "%6.1f", usage->percent);
        else
                fprintf(out, "%6s", "-");
        fprintf(out, " %7s ", format_bytes(bytes, usage->memory));
}

/* A process of a done context should have stopped. */
static void print_mark(FILE *out, const struct process *process, const struct total *total)
{
        char why[HELD_MAX], shown[PRINTABLE_SIZE(HELD_MAX)], span[FORMAT_MAX];
        uint64_t now = now_boottime_usec();
        enum held held = process_held(process, why);

        (void) printable(why, false, shown, sizeof shown);
        fputs(color_on(COLOR_RED), out);
        if (held == HELD_FAST)
                fprintf(out, "(held: %s) ", shown);
        else if (total->done_usec < now)
                fprintf(out, "(did not stop for %s%s%s) ", format_timespan(span, now - total->done_usec),
                                *shown ? ": " : "", shown);
        else
                fprintf(out, "(did not stop%s%s) ", *shown ? ": " : "", shown);
        fputs(color_off(), out);
}

struct drawing {
        const struct top *top;
        FILE *out;
};

static void print_process(const struct drawing *d, const struct tree_node *node,
                const struct process *process, const char *prefix, const char *branch)
{
        struct usage usage = usage_of(d->top->earlier, d->top->look, process);
        char command[COMMAND_MAX];

        fprintf(d->out, "%5s %7" PRIu32 " ", "", process->pid);
        print_usage(d->out, &usage);
        fprintf(d->out, "%s%s", prefix, branch);
        if (is_done(node))
                print_mark(d->out, process, total_of(d->top, node));
        fprintf(d->out, "%s%s%s\n", color_on(COLOR_GREY), process_command_to_fit(process, 0, command),
                        color_off());
}

static void print_line(void *userdata, const struct tree_node *node, const struct process *process,
                const char *prefix, const char *branch)
{
        const struct drawing *d = userdata;

        if (process) {
                if (!d->top->processes_hidden)
                        print_process(d, node, process, prefix, branch);
                return;
        }
        fprintf(d->out, "%5zu %7s ", total_of(d->top, node)->n_processes, "");
        print_usage(d->out, &total_of(d->top, node)->usage);
        fprintf(d->out, "%s%s", prefix, branch);
        tree_node_print(node, d->out);
        fputc('\n', d->out);
}

static void decorate(void *userdata, const struct tree_node *node, const struct process *process,
                json_object *object)
{
        const struct top *top = userdata;
        const struct total *total = total_of(top, node);
        struct usage usage = process ? usage_of(top->earlier, top->look, process) : total->usage;
        enum held held = HELD_NOT;
        char why[HELD_MAX] = "";

        if (process && is_done(node))
                held = process_held(process, why);
        if (process) {
                json_add_text(object, "held", held == HELD_FAST ? why : NULL);
                json_add_text(object, "unsignalled", held == HELD_UNSIGNALLED ? why : NULL);
        } else
                json_add_number(object, "n_processes", total->n_processes);
        json_object_object_add(object, "cpu_percent",
                        usage.cpu_known ? json_object_new_double(usage.percent) : NULL);
        json_add_number(object, "memory", usage.memory);
}

static int draw(void *userdata, FILE *out)
{
        struct top *top = userdata;
        struct drawing drawing = {top, out};

        if (top->live.ctl->json != JSON_OFF)
                return json_print(top->live.ctl, forest_to_json(&top->forest, decorate, top));
        if (top->live.ctl->legend && live_has_screen(&top->live))
                fprintf(out, "%zu contexts; q quits, p %s processes, space refreshes\n",
                                top->forest.listing.n, top->processes_hidden ? "shows" : "hides");
        if (top->live.ctl->legend)
                fprintf(out, "%s%5s %7s %6s %7s %s%s\n", color_on(COLOR_HEADER), "PROCS", "PID", "%CPU",
                                "MEMORY", "CONTEXT", color_off());
        forest_walk(&top->forest, strcmp(top->prefix, "/") == 0, print_line, &drawing);
        return 0;
}

static void take_key(void *userdata, char key)
{
        struct top *top = userdata;

        if (key == 'p' || key == 'c')
                top->processes_hidden = !top->processes_hidden;
}

static int read_option(void *arguments, int option)
{
        struct live *live = arguments;

        switch (option) {
        case 'b':
                live->batch = true;
                return 0;
        case 'd':
                return read_interval("--delay", optarg, &live->delay_usec);
        default:
                if (parse_unsigned(optarg, UINT32_MAX, &live->iterations) == 0 && live->iterations > 0)
                        return 0;
                print_error("--iterations must be a number and at least 1, not '%s'", optarg);
                return EXIT_USAGE;
        }
}

int verb_top(struct ctl *ctl, int argc, char *argv[])
{
        static const struct option own[] = {{"batch", no_argument, NULL, 'b'},
                        {"delay", required_argument, NULL, 'd'}, {"iterations", required_argument, NULL, 'n'},
                        {}};
        struct top top = {.live = {.ctl = ctl,
                                          .delay_usec = 1000000,
                                          .read = read_top,
                                          .draw = draw,
                                          .key = take_key}};
        int r;

        if (!read_options(ctl, argc, argv, own, read_option, &top.live, &r) ||
                        !count_arguments(ctl, argc, 0, 1, &r))
                return r;
        if (top.live.iterations == 0)
                top.live.iterations = isatty(STDOUT_FILENO) ? UINT64_MAX : 1;
        top.live.userdata = &top;
        top.prefix = optind < argc ? argv[optind] : "/";
        r = live_run(&top.live);
        deinit(&top);
        return r;
}
