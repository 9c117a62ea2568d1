/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/printable.h"
#include "util/proc.h"
#include "ctl/bus.h"
#include "ctl/endings.h"
#include "ctl/json.h"
#include "ctl/processes.h"
#include "ctl/terminal.h"
#include "ctl/text.h"

bool process_is_same(const struct process *a, const struct process *b)
{
        return a->pid == b->pid &&
               proc_nsec_to_ticks(a->start_usec * 1000) == proc_nsec_to_ticks(b->start_usec * 1000);
}

bool process_list_has(const struct process_list *list, const struct process *process)
{
        for (size_t i = 0; i < list->n; i++)
                if (process_is_same(list->items + i, process))
                        return true;
        return false;
}

int process_list_add(struct process_list *list, const struct process *process)
{
        if (list->n % 64 == 0) {
                struct process *items = reallocarray(list->items, list->n + 64, sizeof *items);

                if (!items)
                        return -ENOMEM;
                list->items = items;
        }
        list->items[list->n++] = *process;
        return 0;
}

static int read_list(sd_bus_message *m, bool for_people, struct process_list *list)
{
        struct process process = {};
        const char *comm;
        int r = sd_bus_message_enter_container(m, 'a', "(utus)");

        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(
                                m, "(utus)", &process.pid, &process.start_usec, &process.uid, &comm)) > 0) {
                if (for_people)
                        (void) printable(comm, false, process.comm, sizeof process.comm);
                else
                        snprintf(process.comm, sizeof process.comm, "%s", comm);
                r = process_list_add(list, &process);
                if (r < 0)
                        return r;
        }
        return r;
}

static int read_reply(const struct ctl *ctl, sd_bus_message *reply, struct process_list *ret)
{
        struct process_list list = {};
        int r = read_list(reply, ctl->json == JSON_OFF, &list), truncated;

        if (r >= 0 && (r = sd_bus_message_exit_container(reply)) >= 0)
                r = sd_bus_message_read(reply, "b", &truncated);
        if (r < 0) {
                process_list_deinit(&list);
                return r;
        }
        list.truncated = truncated;
        *ret = list;
        return 0;
}

int process_list_read(struct ctl *ctl, const char *path, bool recursive, struct process_list *ret)
{
        _cleanup_message_ sd_bus_message *reply = NULL;
        int r;

        r = bus_call(ctl, &reply, "Processes", "sbu", path, (int) recursive, (uint32_t) PROCESSES_MAX);
        if (r > 0)
                return r;
        r = read_reply(ctl, reply, ret);
        return r < 0 ? bus_broken(r) : 0;
}

bool process_list_ask(struct ctl *ctl, const char *path, struct process_list *ret)
{
        _cleanup_message_ sd_bus_message *m = NULL, *reply = NULL;

        return bus_message(ctl, &m, "Processes") == 0 &&
               sd_bus_message_append(m, "sbu", path, 1, (uint32_t) PROCESSES_MAX) >= 0 &&
               sd_bus_call(ctl->bus, m, 0, NULL, &reply) >= 0 && read_reply(ctl, reply, ret) >= 0;
}

size_t process_list_rows(const struct process_list *list)
{
        return list->n + list->n_entered;
}

const struct process *process_list_row(const struct process_list *list, size_t i)
{
        return i < list->n ? list->items + i : list->entered + (i - list->n);
}

uint32_t process_list_entered(const struct process_list *list)
{
        uint32_t n = 0;

        for (size_t i = 0; i < list->n_entered; i++)
                n += list->entered[i].ending.n_threads;
        return n;
}

/* Without BPF processes are counted, not threads. */
static bool counts_threads(struct ctl *ctl)
{
        _cleanup_free_ char *backend = NULL;

        return bus_property(ctl, "MembershipBackend", &backend) == 0 && strcmp(backend, "bpf") == 0;
}

char *process_count(struct ctl *ctl, const struct process_list *list, uint32_t n_tasks, char *buffer)
{
        uint32_t entered = process_list_entered(list), n_threads = n_tasks > entered ? n_tasks - entered : 0;
        bool is_entered_only = list->n == 0 && entered > 0;
        size_t n = 0;

        if (!is_entered_only)
                n = (size_t) snprintf(buffer, PROCESS_COUNT_MAX, "%s%zu process%s",
                                list->truncated ? "more than " : "", list->n, list->n == 1 ? "" : "es");
        if (!is_entered_only && n_tasks > 0 && ctl->full && counts_threads(ctl))
                n += (size_t) snprintf(buffer + n, PROCESS_COUNT_MAX - n, " (%u thread%s)", n_threads,
                                n_threads == 1 ? "" : "s");
        if (entered > 0)
                snprintf(buffer + n, PROCESS_COUNT_MAX - n, "%s%u thread%s of %s", n > 0 ? " and " : "",
                                entered, entered == 1 ? "" : "s",
                                n > 0                  ? "others"
                                : list->n_entered == 1 ? "another process"
                                                       : "other processes");
        return buffer;
}

const char *process_count_verb(const struct process_list *list)
{
        return list->n + process_list_entered(list) == 1 ? "has" : "have";
}

void process_list_deinit(struct process_list *list)
{
        free(list->items);
        free(list->entered);
        *list = (struct process_list){};
}

static void add_ending(json_object *object, const struct process *process)
{
        char name[32], why[WHY_MAX];
        const struct ending *e = &process->ending;

        json_add_text(object, "signal", e->signal > 0 ? signal_name(e->signal, name) : NULL);
        json_add_number(object, "kill_after_usec", e->known ? e->kill_after_usec : UINT64_MAX);
        json_add_text(object, "unsignalled", ending_why(process, why));
}

json_object *process_to_json(const struct process *process, bool with_ending)
{
        json_object *object = json_object_new_object();

        json_add_number(object, "pid", process->pid);
        json_add_number(object, "start_usec", process->start_usec);
        json_add_number(object, "uid", process->uid == UINT32_MAX ? UINT64_MAX : process->uid);
        json_add_text(object, "command", process->comm);
        if (with_ending)
                add_ending(object, process);
        return object;
}

json_object *process_list_to_json(const struct process_list *list)
{
        json_object *array = json_object_new_array();

        for (size_t i = 0; i < list->n; i++)
                json_object_array_add(array, process_to_json(list->items + i, list->with_endings));
        return array;
}

char *process_command(const struct process *process, char *buffer)
{
        _cleanup_close_ int fd = -1;
        char name[64], line[COMMAND_MAX];
        ssize_t n = 0;

        snprintf(name, sizeof name, "/proc/%u/cmdline", process->pid);
        fd = open(name, O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
                n = read(fd, line, sizeof line - 1);
        while (n > 0 && line[n - 1] == '\0')
                n--;
        if (n <= 0) {
                snprintf(buffer, COMMAND_MAX, "[%s]", process->comm);
                return buffer;
        }
        for (ssize_t i = 0; i < n; i++)
                if (line[i] == '\0')
                        line[i] = ' ';
        line[n] = '\0';
        return printable(line, false, buffer, COMMAND_MAX);
}

char *process_command_to_fit(const struct process *process, size_t used, char *buffer)
{
        char command[COMMAND_MAX];

        return text_to_fit(process_command(process, command), used, buffer, COMMAND_MAX);
}
