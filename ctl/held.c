/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cgroup.h"
#include "util/cleanup.h"
#include "util/proc.h"
#include "util/utf8.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/held.h"
#include "ctl/json.h"
#include "ctl/leak.h"

/* Everybody may read what /proc says here of a process, unless /proc is mounted with hidepid. */

/* Without the list of groups, which can be longer than all the rest. */
static bool read_status(uint32_t pid, char *buffer, size_t size)
{
        _cleanup_fclose_ FILE *f = NULL;
        _cleanup_free_ char *line = NULL;
        size_t allocated = 0, used = 0;
        char path[64];
        ssize_t n;

        snprintf(path, sizeof path, "/proc/%" PRIu32 "/status", pid);
        f = fopen(path, "re");
        while (f && (n = getline(&line, &allocated, f)) > 0)
                if (strncmp(line, "Groups:", 7) != 0 && used + (size_t) n < size) {
                        memcpy(buffer + used, line, (size_t) n);
                        used += (size_t) n;
                }
        buffer[used] = '\0';
        return used > 0;
}

static uint64_t hex_of(const char *text, const char *field)
{
        const char *line = strstr(text, field);

        return line ? strtoull(line + strlen(field), NULL, 16) : 0;
}

/* A tracer gets the signal first, and its process stays stopped until it is let go on. Most are at once. */
static bool is_traced(const char *status, char state, char *buffer)
{
        const char *line = strstr(status, "\nTracerPid:");
        struct proc_stat tracer;
        int pid = 0;

        if (state != 't' || !line || sscanf(line, "\nTracerPid: %d", &pid) != 1 || pid <= 0)
                return false;
        if (proc_stat_read(pid, &tracer) < 0)
                snprintf(buffer, HELD_MAX, "traced by process %d", pid);
        else
                snprintf(buffer, HELD_MAX, "traced by %s[%d]", tracer.comm, pid);
        return true;
}

static bool is_frozen(uint32_t pid, char *buffer)
{
        _cleanup_free_ char *by = NULL;

        if (cgroup_frozen_by((pid_t) pid, &by) <= 0)
                return false;
        snprintf(buffer, HELD_MAX, "frozen by the control group %s", by);
        return true;
}

/* From outside the kernel gives it only what it handles, and SIGKILL and SIGSTOP. */
static bool is_first_of_namespace(const char *status, const struct process *process, char *buffer)
{
        const char *line = strstr(status, "\nNSpid:"), *last;
        uint64_t handled = hex_of(status, "\nSigCgt:") | hex_of(status, "\nSigBlk:");
        int number = process->ending.signal;
        char name[32];

        if (!line || number == SIGSTOP || handled >> (number - 1) & 1)
                return false;
        line += strlen("\nNSpid:");
        last = line + strcspn(line, "\n");
        while (last > line && last[-1] != '\t' && last[-1] != ' ')
                last--;
        if (strtol(last, NULL, 10) != 1 || last == line + 1)
                return false;
        snprintf(buffer, HELD_MAX, "pid 1 of a pid namespace, which does not handle %s",
                        signal_name(number, name));
        return true;
}

/* It cannot be signalled, and is not only without a signal. */
static bool is_out_of_reach(const struct process *process)
{
        return strcmp(process->ending.unsignalled, "user") == 0 ||
               strcmp(process->ending.unsignalled, "refused") == 0;
}

/* SIGKILL ends also who is traced or frozen. */
static void look_what_stops_it(const struct process *process, char *buffer)
{
        char status[4096];
        struct proc_stat stat;

        if (process->ending.signal == 0 || process->ending.signal == SIGKILL ||
                        !read_status(process->pid, status, sizeof status) ||
                        proc_stat_read((pid_t) process->pid, &stat) < 0 || proc_is_dead(&stat) ||
                        stat.start_ticks != proc_nsec_to_ticks(process->start_usec * 1000))
                return;
        if (is_traced(status, stat.state, buffer) || is_frozen(process->pid, buffer) ||
                        is_first_of_namespace(status, process, buffer))
                ending_add_kill(process, buffer);
}

enum held process_held(const struct process *process, char *buffer)
{
        enum held held = HELD_FAST;

        buffer[0] = '\0';
        if (!is_out_of_reach(process))
                look_what_stops_it(process, buffer);
        if (!*buffer) {
                ending_why(process, buffer);
                held = !*buffer ? HELD_NOT : is_out_of_reach(process) ? HELD_FAST : HELD_UNSIGNALLED;
        }
        (void) utf8_mend(buffer); /* names of groups have any bytes, and a long one was cut */
        return held;
}

static bool is_of(json_object *leak, const struct listed *c, const struct process *process)
{
        return json_get_number(leak, "OBJECT_PID") == process->pid &&
               json_get_number(leak, "CTXD_CONTEXT_ID") == c->id;
}

/* The probe may have reported it as well: it only sees where a process waits. */
static void drop_leaks_of(json_object *array, const struct listed *c, const struct process *process)
{
        for (size_t i = json_object_array_length(array); i-- > 0;) {
                json_object *leak = json_object_array_get_idx(array, i);

                if (is_of(leak, c, process) && !leak_is_resolved(leak))
                        json_object_array_del_idx(array, i, 1);
        }
}

static void add_held(json_object *array, const struct listed *c, const struct context_end *end,
                const struct process *process, const char *why)
{
        json_object *held = json_object_new_object();
        char message[2048];

        drop_leaks_of(array, c, process);
        snprintf(message, sizeof message, "%s[%" PRIu32 "] is held: %s; context %s was %s", process->comm,
                        process->pid, why, c->path,
                        end->code == ETIMEDOUT ? "done by its deadline" : "canceled");
        json_add_text(held, "CTXD_CONTEXT", c->path);
        json_add_number(held, "CTXD_CONTEXT_ID", c->id);
        json_add_text(held, "CTXD_ERR", end->err);
        json_add_text(held, "CTXD_CAUSE", end->cause);
        json_add_text(held, "CTXD_LEAK", "held");
        json_add_text(held, "CTXD_WHY", why);
        json_add_text(held, "OBJECT_COMM", process->comm);
        json_add_number(held, "OBJECT_PID", process->pid);
        json_add_number(held, "OBJECT_UID", process->uid);
        json_add_text(held, "MESSAGE", message);
        json_object_array_add(array, held);
}

static void mark_unsignalled(
                json_object *array, const struct listed *c, const struct process *process, const char *why)
{
        for (size_t i = json_object_array_length(array); i-- > 0;) {
                json_object *leak = json_object_array_get_idx(array, i);

                if (is_of(leak, c, process))
                        json_add_text(leak, "CTXD_UNSIGNALLED", why);
        }
}

/* One that goes meanwhile has nobody left in it. all: the members below the prefix. */
static int read_context(struct ctl *ctl, const struct listed *c, const struct process_list *all,
                json_object *array, struct process_list *unsignalled)
{
        _cleanup_(process_list_deinit) struct process_list list = {};
        char reference[CTXD_PATH_ID_MAX + 1], why[HELD_MAX];
        struct context_end end;
        int r;

        listed_reference(c, reference);
        r = process_list_read(ctl, reference, false, &list);
        if (r == 0)
                r = endings_read(ctl, reference, false, &list);
        if (r == 0 && list.n > 0)
                r = contexts_end(ctl, reference, &end);
        for (size_t i = 0; r == 0 && i < list.n; i++)
                switch (process_held(list.items + i, why)) {
                case HELD_FAST:
                        add_held(array, c, &end, list.items + i, why);
                        break;
                case HELD_UNSIGNALLED:
                        mark_unsignalled(array, c, list.items + i, why);
                        if (process_list_add(unsignalled, list.items + i) < 0)
                                r = bus_broken(-ENOMEM);
                        break;
                case HELD_NOT:
                        break;
                }
        for (size_t i = 0; r == 0 && i < list.n_entered; i++)
                if (!process_list_has(all, list.entered + i) &&
                                endings_add(unsignalled, list.entered + i) < 0)
                        r = bus_broken(-ENOMEM);
        return r == EXIT_NO_SUCH_CONTEXT ? 0 : r;
}

int held_read(struct ctl *ctl, const char *prefix, json_object *array, struct process_list *ret_unsignalled)
{
        struct process_list all = {};
        struct listing listing = {};
        bool missing_is_fine = ctl->missing_is_fine;
        size_t n;
        int r;

        ctl->missing_is_fine = true;
        r = process_list_read(ctl, prefix, true, &all);
        if (r == 0)
                r = endings_read(ctl, prefix, true, &all); /* for the threads that have entered */
        n = process_list_rows(&all);
        if (r == 0 && n > 0)
                r = contexts_list(ctl, prefix, &listing);
        /* One that was released is not listed, but known by its path#id. */
        if (r == 0 && n > 0 && listing.n == 0 && strchr(prefix, '#'))
                r = contexts_get(ctl, prefix, &listing);
        for (size_t i = 0; r == 0 && i < listing.n; i++)
                if (strcmp(listing.items[i].state, "active") != 0)
                        r = read_context(ctl, listing.items + i, &all, array, ret_unsignalled);
        ctl->missing_is_fine = missing_is_fine;
        listing_deinit(&listing);
        process_list_deinit(&all);
        return r == EXIT_NO_SUCH_CONTEXT ? 0 : r;
}
