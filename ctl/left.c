/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <string.h>

#include "util/clock.h"
#include "util/printable.h"
#include "ctl/format.h"
#include "ctl/held.h"
#include "ctl/left.h"
#include "ctl/terminal.h"
#include "ctl/text.h"

#define COMMAND_LEAST 16 /* columns */
#define TELL_MAX 3

const char *left_plural(size_t n)
{
        return n == 1 ? "" : "es";
}

/* A line that is wider than the terminal could not be erased. Where there is no room it does not say why the
 * process was given no signal: the list at the end does. */
static void print_process(FILE *to, const struct process *process, const char *prefix, const char *suffix)
{
        char command[COMMAND_MAX], why[WHY_MAX], shown[PRINTABLE_SIZE(WHY_MAX)] = "";
        size_t columns = terminal_columns(), used = text_width(prefix) + 11 + strlen(suffix);

        if (*ending_why(process, why))
                (void) printable(why, false, shown, sizeof shown);
        if (*shown && used + strlen(shown) + 3 > columns / 2 && columns != SIZE_MAX)
                *shown = '\0';
        used += *shown ? strlen(shown) + 3 : 0;
        if (columns == SIZE_MAX && used + COMMAND_LEAST > terminal_text_columns())
                used = text_width(prefix) + 11; /* off a terminal such a line may be longer */
        fprintf(to, "%s%" PRIu32 " %s%s%s%s%s\n", prefix, process->pid,
                        process_command_to_fit(process, used, command), suffix, *shown ? " (" : "", shown,
                        *shown ? ")" : "");
}

static void print_tree(FILE *to, const struct process_list *list, size_t max)
{
        size_t rows = process_list_rows(list);

        for (size_t i = 0; i < rows && i < max; i++) {
                char prefix[16];

                snprintf(prefix, sizeof prefix, "  %s", glyph(i + 1 < rows ? GLYPH_BRANCH : GLYPH_RIGHT));
                print_process(to, process_list_row(list, i), prefix, "");
        }
}

void left_erase(struct left *left)
{
        if (left->lines > 0)
                fprintf(left->to, "\033[%zuA\r\033[J", left->lines);
        left->lines = 0;
}

/* Shows as many as fit on the terminal: a line that has scrolled away cannot be erased. */
static void draw(struct left *left)
{
        size_t rows = terminal_rows(), max = rows > 4 ? rows - 4 : 1;
        size_t n = process_list_rows(&left->processes);
        char span[FORMAT_MAX], count[PROCESS_COUNT_MAX], title[FORMAT_MAX + PROCESS_COUNT_MAX + 64];

        terminal_resized();
        left_erase(left);
        snprintf(title, sizeof title, "Waiting for %s to leave, %s so far",
                        process_count(left->ctl, &left->processes, 0, count),
                        format_timespan(span, (now_boottime_usec() - left->since_usec) / 100000 * 100000));
        text_put(left->to, title, strlen(title), terminal_columns());
        fputc('\n', left->to);
        left->lines = 1;
        if (n > max) {
                print_tree(left->to, &left->processes, max - 1);
                fprintf(left->to, "  %s and %zu more\n", glyph(GLYPH_ELLIPSIS), n - (max - 1));
                left->lines += max;
        } else {
                print_tree(left->to, &left->processes, max);
                left->lines += n;
        }
        fflush(left->to);
}

static bool is_in(const struct process_list *list, const struct process *process)
{
        for (size_t i = 0; i < process_list_rows(list); i++)
                if (process_is_same(process_list_row(list, i), process))
                        return true;
        return false;
}

/* A line for each change. The command line of a process that has gone cannot be read any more; its name is
 * known. */
static void print_changes(const struct left *left, const struct process_list *before)
{
        for (size_t i = 0; i < process_list_rows(before); i++) {
                const struct process *p = process_list_row(before, i);

                if (!is_in(&left->processes, p))
                        fprintf(left->to, "  %" PRIu32 " %s has left\n", p->pid, p->comm);
        }
        for (size_t i = 0; i < process_list_rows(&left->processes); i++) {
                const struct process *p = process_list_row(&left->processes, i);

                if (!is_in(before, p))
                        print_process(left->to, p, "  ", " has not left yet");
        }
        fflush(left->to);
}

void left_print_gone(struct left *left)
{
        struct process_list before = left->processes;

        left->processes = (struct process_list){};
        print_changes(left, &before);
        process_list_deinit(&before);
}

int left_read_endings(struct left *left)
{
        return endings_read(left->ctl, left->path, true, &left->processes);
}

int left_update(struct left *left)
{
        struct process_list before = left->processes;
        int r = process_list_read(left->ctl, left->path, true, &left->processes);

        if (r > 0)
                return r;
        if (!left->silent)
                r = left_read_endings(left);
        if (r == 0 && !left->silent && left->terminal)
                draw(left);
        else if (r == 0 && !left->silent)
                print_changes(left, &before);
        process_list_deinit(&before);
        return r;
}

void left_print_process(FILE *to, const struct process *process, bool last, const char *why)
{
        char command[COMMAND_MAX], shown[PRINTABLE_SIZE(HELD_MAX)];
        size_t used;

        (void) printable(why, false, shown, sizeof shown);
        used = 4 + 11 + (*why ? text_width(shown) + 3 : 0);
        if (used + COMMAND_LEAST > terminal_text_columns())
                used = 4 + 11; /* such a line goes on in the next one */
        fprintf(to, "  %s%" PRIu32 " %s%s%s%s\n", glyph(last ? GLYPH_RIGHT : GLYPH_BRANCH), process->pid,
                        process_command_to_fit(process, used, command), *why ? " (" : "", shown,
                        *why ? ")" : "");
}

void left_print(const struct left *left)
{
        char why[HELD_MAX];

        for (size_t i = 0; i < left->processes.n; i++) {
                process_held(left->processes.items + i, why);
                left_print_process(left->to, left->processes.items + i, i + 1 == left->processes.n, why);
        }
}

void left_tell(struct left *left)
{
        const struct process_list *list = &left->processes;
        char text[TELL_MAX * (sizeof list->items->comm + 32 + HELD_MAX)] = "", why[HELD_MAX];
        char count[PROCESS_COUNT_MAX];
        const char *run;
        size_t n = 0, rows;

        left_read_endings(left);
        rows = process_list_rows(list);
        for (size_t i = 0; i < rows && i < TELL_MAX; i++) {
                const struct process *p = process_list_row(list, i);

                process_held(p, why);
                n += (size_t) snprintf(text + n, sizeof text - n, "%s%u %s%s%s%s", i > 0 ? ", " : "", p->pid,
                                p->comm, *why ? " (" : "", why, *why ? ")" : "");
        }
        process_count(left->ctl, list, 0, count);
        run = list->n + process_list_entered(list) == 1 ? "runs" : "run";
        if (list->n_entered > 0)
                print_error("%s still %s for %s: %s%s", count, run, left->path, text,
                                rows > TELL_MAX ? ", ..." : "");
        else if (list->n > 0)
                print_error("%s of %s still %s: %s%s", count, left->path, run, text,
                                rows > TELL_MAX ? ", ..." : "");
}

void left_deinit(struct left *left)
{
        process_list_deinit(&left->processes);
}
