/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/drain.h"
#include "ctl/format.h"
#include "ctl/handle.h"
#include "ctl/held.h"
#include "ctl/json.h"
#include "ctl/processes.h"
#include "ctl/terminal.h"

/* Only the "Drained" handle says when the last member has left, since a thread can be a member without its
 * process. We ask for the processes from time to time, to show them. */

#define UPDATE_FIRST_USEC 20000
#define UPDATE_LAST_USEC 500000

struct drain {
        struct ctl *ctl;
        const char *path;
        char *backend; /* that knows the members */
        bool silent;
        bool terminal;
        uint64_t since_usec;
        size_t lines;             /* of the list on the terminal */
        struct process_list left; /* as it was shown last */
};

static const char *plural(size_t n)
{
        return n == 1 ? "" : "es";
}

/* A line that is wider than the terminal could not be erased. */
static void print_process(const struct process *process, const char *prefix, const char *suffix)
{
        char command[COMMAND_MAX];

        printf("%s%" PRIu32 " %s%s\n", prefix, process->pid,
                        process_command_to_fit(process, text_width(prefix) + 11 + strlen(suffix), command),
                        suffix);
}

static void print_tree(const struct process_list *list, size_t max)
{
        for (size_t i = 0; i < list->n && i < max; i++) {
                char prefix[16];

                snprintf(prefix, sizeof prefix, "  %s", glyph(i + 1 < list->n ? GLYPH_BRANCH : GLYPH_RIGHT));
                print_process(list->items + i, prefix, "");
        }
}

static void erase(struct drain *d)
{
        if (d->lines > 0)
                printf("\033[%zuA\r\033[J", d->lines);
        d->lines = 0;
}

/* Shows as many as fit on the terminal: a line that has scrolled away cannot be erased. */
static void draw(struct drain *d)
{
        size_t rows = terminal_rows(), max = rows > 4 ? rows - 4 : 1;
        char span[FORMAT_MAX];

        erase(d);
        printf("Waiting for %zu process%s to leave, %s so far\n", d->left.n, plural(d->left.n),
                        format_timespan(span, (now_boottime_usec() - d->since_usec) / 100000 * 100000));
        d->lines = 1;
        if (d->left.n > max) {
                print_tree(&d->left, max - 1);
                printf("  %s and %zu more\n", glyph(GLYPH_ELLIPSIS), d->left.n - (max - 1));
                d->lines += max;
        } else {
                print_tree(&d->left, max);
                d->lines += d->left.n;
        }
        fflush(stdout);
}

static bool is_in(const struct process_list *list, const struct process *process)
{
        for (size_t i = 0; i < list->n; i++)
                if (list->items[i].pid == process->pid && list->items[i].start_usec == process->start_usec)
                        return true;
        return false;
}

/* A line for each change. The command line of a process that has gone cannot be read any more; its name is
 * known. */
static void print_changes(const struct drain *d, const struct process_list *before)
{
        for (size_t i = 0; i < before->n; i++)
                if (!is_in(&d->left, before->items + i))
                        printf("  %" PRIu32 " %s has left\n", before->items[i].pid, before->items[i].comm);
        for (size_t i = 0; i < d->left.n; i++)
                if (!is_in(before, d->left.items + i))
                        print_process(d->left.items + i, "  ", " has not left yet");
        fflush(stdout);
}

static void print_last_changes(struct drain *d)
{
        struct process_list before = d->left;

        d->left = (struct process_list){};
        print_changes(d, &before);
        process_list_deinit(&before);
}

/* Asks who is left, and shows it. 0, or a positive exit status. */
static int update(struct drain *d)
{
        struct process_list before = d->left;
        int r = process_list_read(d->ctl, d->path, true, &d->left);

        if (r > 0)
                return r;
        if (!d->silent && d->terminal)
                draw(d);
        else if (!d->silent)
                print_changes(d, &before);
        process_list_deinit(&before);
        return 0;
}

/* Says whether the context has drained, or the time is up. 0, or a positive exit status. */
static int wait_and_update(struct drain *d, int handle, uint64_t timeout_usec, bool *ret_drained)
{
        uint64_t pause = UPDATE_FIRST_USEC;

        for (;;) {
                uint64_t passed = now_boottime_usec() - d->since_usec;
                uint64_t left = passed < timeout_usec ? timeout_usec - passed : 0;
                int r = handle_wait(d->ctl, handle, d->path, left < pause ? left : pause, ret_drained);

                if (r > 0 || *ret_drained || left <= pause)
                        return r;
                if (!d->silent) {
                        r = update(d);
                        if (r > 0)
                                return r;
                }
                pause = pause < UPDATE_LAST_USEC / 2 ? 2 * pause : UPDATE_LAST_USEC;
        }
}

/* At the end, with why no signal can end them, where that is so. These lines need not fit. */
static void print_who_is_left(const struct drain *d)
{
        uint32_t owner = context_owner(d->ctl, d->path);
        char command[COMMAND_MAX], why[HELD_MAX], shown[PRINTABLE_SIZE(HELD_MAX)];

        for (size_t i = 0; i < d->left.n; i++) {
                const struct process *p = d->left.items + i;

                process_held(p, owner, why);
                printf("  %s%" PRIu32 " %s%s%s%s\n", glyph(i + 1 < d->left.n ? GLYPH_BRANCH : GLYPH_RIGHT),
                                p->pid, process_command(p, command), *why ? " (" : "",
                                printable(why, false, shown, sizeof shown), *why ? ")" : "");
        }
}

static void print_left(const struct drain *d, uint64_t timeout_usec)
{
        char span[FORMAT_MAX];

        if (d->left.n == 0) {
                printf("Not drained within %s: threads of other processes still work for %s.\n",
                                format_timespan(span, timeout_usec), d->path);
                return;
        }
        printf("%zu process%s did not stop within %s:\n", d->left.n, plural(d->left.n),
                        format_timespan(span, timeout_usec));
        print_who_is_left(d);
}

static int finish(struct drain *d, bool drained, uint64_t timeout_usec, json_object *json)
{
        bool silent = d->silent;
        int r = 0;

        if (d->terminal)
                erase(d);
        d->silent = true; /* the list below shows who is left */
        if (!drained)
                r = update(d);
        d->silent = silent;
        if (r > 0)
                return r;
        if (drained && !d->silent && !d->terminal)
                print_last_changes(d);
        if (json) {
                json_object_object_add(json, "drained", json_object_new_boolean(drained));
                if (drained)
                        process_list_deinit(&d->left);
                json_object_object_add(json, "left", process_list_to_json(&d->left));
                json_add_text(json, "membership_backend", d->backend);
        } else if (drained) {
                printf("Drained: nobody is left under %s%s.\n", d->path,
                                strcmp(d->backend, "bpf") == 0 ? "" : ", as far as can be seen without BPF");
        } else {
                print_left(d, timeout_usec);
        }
        return drained ? EXIT_DONE : EXIT_NOT_DRAINED;
}

int drain_wait(struct ctl *ctl, const char *path, uint64_t timeout_usec, json_object *json)
{
        struct drain d = {.ctl = ctl, .path = path, .silent = json, .since_usec = now_boottime_usec()};
        _cleanup_close_ int handle = -1;
        bool drained = false;
        int r;

        d.terminal = !json && isatty(STDOUT_FILENO) && terminal_is_capable();
        r = bus_property(ctl, "MembershipBackend", &d.backend);
        if (r == 0)
                r = handle_get(ctl, "Drained", path, &handle);
        if (r == 0)
                r = wait_and_update(&d, handle, timeout_usec, &drained);
        if (r == 0)
                r = finish(&d, drained, timeout_usec, json);
        process_list_deinit(&d.left);
        free(d.backend);
        return r;
}
