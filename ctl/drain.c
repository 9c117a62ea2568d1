/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "ctl/bus.h"
#include "ctl/drain.h"
#include "ctl/format.h"
#include "ctl/handle.h"
#include "ctl/terminal.h"

/* The handle says when it is over: nothing else does, since threads can be members without their process. The
 * processes are asked for now and then, for the picture. */

#define LOOK_FIRST_USEC 20000
#define LOOK_LAST_USEC 500000

struct crowd {
        struct running *items;
        size_t n;
};

struct drain {
        struct ctl *ctl;
        const char *path;
        bool silent;
        bool terminal;
        uint64_t since_usec;
        size_t lines;       /* on the terminal, of the picture */
        struct crowd crowd; /* as it was shown last */
};

static const char *plural(size_t n)
{
        return n == 1 ? "" : "es";
}

static void print_running(const struct running *running, const char *prefix, const char *suffix)
{
        char command[4096];
        size_t columns = terminal_columns(), used = text_width(prefix) + 11 + strlen(suffix);
        size_t room = columns == SIZE_MAX ? SIZE_MAX : columns > used ? columns - used : 0;

        format_command(command, sizeof command, (pid_t) running->pid, running->comm);
        if (strlen(command) > room) /* a line that the terminal breaks is two to erase */
                command[room] = '\0';
        printf("%s%" PRIu32 " %s%s\n", prefix, running->pid, command, suffix);
}

static void print_tree(const struct crowd *crowd, size_t max)
{
        for (size_t i = 0; i < crowd->n && i < max; i++) {
                char prefix[16];

                snprintf(prefix, sizeof prefix, "  %s", glyph(i + 1 < crowd->n ? GLYPH_BRANCH : GLYPH_RIGHT));
                print_running(crowd->items + i, prefix, "");
        }
}

static void erase(struct drain *d)
{
        if (d->lines > 0)
                printf("\033[%zuA\r\033[J", d->lines);
        d->lines = 0;
}

/* As many as fit: what has scrolled away cannot be erased. */
static void draw(struct drain *d)
{
        size_t rows = terminal_rows(), max = rows > 4 ? rows - 4 : 1;
        char span[FORMAT_MAX];

        erase(d);
        printf("%zu process%s left to drain, %s so far\n", d->crowd.n, plural(d->crowd.n),
                        format_timespan(span, (now_boottime_usec() - d->since_usec) / 100000 * 100000));
        d->lines = 1;
        if (d->crowd.n > max) {
                print_tree(&d->crowd, max - 1);
                printf("  %s and %zu more\n", glyph(GLYPH_ELLIPSIS), d->crowd.n - (max - 1));
                d->lines += max;
        } else {
                print_tree(&d->crowd, max);
                d->lines += d->crowd.n;
        }
        fflush(stdout);
}

static bool is_in(const struct crowd *crowd, const struct running *running)
{
        for (size_t i = 0; i < crowd->n; i++)
                if (crowd->items[i].pid == running->pid && crowd->items[i].start_usec == running->start_usec)
                        return true;
        return false;
}

/* A line for each change; command lines of those who have gone cannot be read any more, their names are
 * known. */
static void tell_changes(const struct drain *d, const struct crowd *before)
{
        for (size_t i = 0; i < before->n; i++)
                if (!is_in(&d->crowd, before->items + i))
                        printf("  %" PRIu32 " %s has left\n", before->items[i].pid, before->items[i].comm);
        for (size_t i = 0; i < d->crowd.n; i++)
                if (!is_in(before, d->crowd.items + i))
                        print_running(d->crowd.items + i, "  ", " is left to drain");
        fflush(stdout);
}

static void tell_end(struct drain *d)
{
        struct crowd before = d->crowd;

        d->crowd = (struct crowd){};
        tell_changes(d, &before);
        free(before.items);
}

/* Looks who is left. 0, or a positive exit status. */
static int look(struct drain *d)
{
        struct crowd before = d->crowd, now = {};
        int r = contexts_processes(d->ctl, d->path, true, &now.items, &now.n);

        if (r > 0)
                return r;
        d->crowd = now;
        if (!d->silent && d->terminal)
                draw(d);
        else if (!d->silent)
                tell_changes(d, &before);
        free(before.items);
        return 0;
}

/* 1: drained, 0: time is up, in *ret. 0, or a positive exit status. */
static int wait_and_look(struct drain *d, int handle, uint64_t timeout_usec, bool *ret)
{
        uint64_t pause = LOOK_FIRST_USEC;
        int r;

        for (;;) {
                uint64_t passed = now_boottime_usec() - d->since_usec;
                uint64_t left = passed < timeout_usec ? timeout_usec - passed : 0;

                r = handle_wait(d->ctl, handle, left < pause ? left : pause);
                if (r < 0) {
                        complain("cannot wait: %s", strerror(-r));
                        return EXIT_FAILED;
                }
                if (r == HANDLE_LOST) {
                        complain("lost ctxd while '%s' drained", d->path);
                        return EXIT_FAILED;
                }
                if (r == HANDLE_READABLE || left <= pause) {
                        *ret = r == HANDLE_READABLE;
                        return 0;
                }
                if (!d->silent) {
                        r = look(d);
                        if (r > 0)
                                return r;
                }
                pause = pause < LOOK_LAST_USEC / 2 ? 2 * pause : LOOK_LAST_USEC;
        }
}

static void print_left(const struct drain *d, uint64_t timeout_usec)
{
        char span[FORMAT_MAX];

        if (d->crowd.n == 0) {
                printf("Not drained within %s: threads of other processes work for %s.\n",
                                format_timespan(span, timeout_usec), d->path);
                return;
        }
        printf("%zu process%s did not stop within %s:\n", d->crowd.n, plural(d->crowd.n),
                        format_timespan(span, timeout_usec));
        print_tree(&d->crowd, SIZE_MAX);
}

static int finish(struct drain *d, bool drained, uint64_t timeout_usec, json_object *json)
{
        bool silent = d->silent;
        int r = 0;

        if (d->terminal)
                erase(d);
        d->silent = true; /* the list says it */
        if (!drained)
                r = look(d);
        d->silent = silent;
        if (r > 0)
                return r;
        if (drained && !d->silent && !d->terminal)
                tell_end(d);
        if (json) {
                json_object_object_add(json, "drained", json_object_new_boolean(drained));
                json_object_object_add(
                                json, "left", running_to_json(d->crowd.items, drained ? 0 : d->crowd.n));
        } else if (drained) {
                printf("Drained: nobody is left under %s.\n", d->path);
        } else {
                print_left(d, timeout_usec);
        }
        return drained ? EXIT_DONE : EXIT_NOT_DRAINED;
}

int drain(struct ctl *ctl, const char *path, uint64_t timeout_usec, json_object *json)
{
        struct drain d = {.ctl = ctl, .path = path, .silent = json, .since_usec = now_boottime_usec()};
        _cleanup_message_ sd_bus_message *reply = NULL;
        bool drained;
        int r, handle;

        d.terminal = !json && isatty(STDOUT_FILENO) && terminal_is_capable();
        r = bus_call(ctl, &reply, "Drained", "s", path);
        if (r > 0)
                return r;
        r = sd_bus_message_read(reply, "h", &handle); /* the message owns it */
        if (r < 0)
                return bus_broken(r);
        r = wait_and_look(&d, handle, timeout_usec, &drained);
        if (r == 0)
                r = finish(&d, drained, timeout_usec, json);
        free(d.crowd.items);
        return r;
}
