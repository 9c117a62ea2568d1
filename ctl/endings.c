/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/printable.h"
#include "util/proc.h"
#include "util/subuid.h"
#include "ctl/bus.h"
#include "ctl/endings.h"
#include "ctl/format.h"
#include "ctl/left.h"
#include "ctl/terminal.h"

static int read_fields(sd_bus_message *m, struct ending_row *ret)
{
        const char *key, *why;
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");

        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sd_bus_message_read(m, "s", &key);
                if (r < 0)
                        return r;
                if (strcmp(key, "signal") == 0)
                        r = sd_bus_message_read(m, "v", "i", &ret->ending.signal);
                else if (strcmp(key, "kill-after-usec") == 0)
                        r = sd_bus_message_read(m, "v", "t", &ret->ending.kill_after_usec);
                else if (strcmp(key, "attached-by") == 0)
                        r = sd_bus_message_read(m, "v", "u", &ret->ending.attached_by);
                else if (strcmp(key, "context") == 0)
                        r = sd_bus_message_read(m, "v", "s", &ret->context);
                else if (strcmp(key, "command") == 0)
                        r = sd_bus_message_read(m, "v", "s", &ret->comm);
                else if (strcmp(key, "threads") == 0)
                        r = sd_bus_message_read(m, "v", "u", &ret->ending.n_threads);
                else if (strcmp(key, "unsignalled") == 0) {
                        r = sd_bus_message_read(m, "v", "s", &why);
                        if (r >= 0)
                                snprintf(ret->ending.unsignalled, sizeof ret->ending.unsignalled, "%s", why);
                } else {
                        r = sd_bus_message_skip(m, "v");
                }
                if (r < 0 || (r = sd_bus_message_exit_container(m)) < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_rows(sd_bus_message *m, int (*cb)(void *userdata, const struct ending_row *row),
                void *userdata, bool *ret_all)
{
        int truncated, r = sd_bus_message_enter_container(m, 'a', "(uta{sv})");

        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'r', "uta{sv}")) > 0) {
                struct ending_row row = {.context = "",
                                .comm = "",
                                .ending = {.known = true, .kill_after_usec = UINT64_MAX}};

                if ((r = sd_bus_message_read(m, "ut", &row.pid, &row.start_usec)) < 0 ||
                                (r = read_fields(m, &row)) < 0 ||
                                (r = sd_bus_message_exit_container(m)) < 0 || (r = cb(userdata, &row)) < 0)
                        return r;
        }
        if (r < 0 || (r = sd_bus_message_exit_container(m)) < 0 ||
                        (r = sd_bus_message_read(m, "b", &truncated)) < 0)
                return r;
        *ret_all = !truncated;
        return 0;
}

int endings_each(struct ctl *ctl, const char *path, bool recursive,
                int (*cb)(void *userdata, const struct ending_row *row), void *userdata, bool *ret_all)
{
        _cleanup_message_ sd_bus_message *reply = NULL;
        int r = bus_call(ctl, &reply, "Endings", "sbu", path, (int) recursive, (uint32_t) PROCESSES_MAX);

        if (r > 0)
                return r;
        r = read_rows(reply, cb, userdata, ret_all);
        return r < 0 ? bus_broken(r) : 0;
}

struct merge {
        const struct ctl *ctl;
        struct process_list *list;
        size_t next;
};

int endings_add(struct process_list *list, const struct process *process)
{
        struct process *items;

        for (size_t i = list->n_entered; i-- > 0;)
                if (process_is_same(list->entered + i, process)) {
                        list->entered[i].ending.n_threads += process->ending.n_threads;
                        return 0;
                }
        items = reallocarray(list->entered, list->n_entered + 1, sizeof *items);
        if (!items)
                return -ENOMEM;
        list->entered = items;
        items[list->n_entered++] = *process;
        return 0;
}

static int add_row(const struct ctl *ctl, struct process_list *list, const struct ending_row *row)
{
        struct process process = {
                        .pid = row->pid,
                        .start_usec = row->start_usec,
                        .uid = UINT32_MAX,
                        .ending = row->ending,
        };

        if (ctl->json == JSON_OFF)
                (void) printable(row->comm, false, process.comm, sizeof process.comm);
        else
                snprintf(process.comm, sizeof process.comm, "%s", row->comm);
        return endings_add(list, &process);
}

/* It may be a member of a context below, while its thread has entered another one: then it has its signal. */
static bool is_member(const struct merge *m, const struct ending_row *row)
{
        struct process process = {.pid = row->pid, .start_usec = row->start_usec};

        for (size_t i = m->next > 0 ? m->next - 1 : 0; i < m->list->n && i <= m->next; i++)
                if (process_is_same(m->list->items + i, &process))
                        return true;
        return false;
}

/* Both are in the order of their pids. A process may be in two contexts, by its threads. */
static int merge_row(void *userdata, const struct ending_row *row)
{
        struct merge *m = userdata;
        struct process_list *list = m->list;

        while (m->next < list->n && list->items[m->next].pid < row->pid)
                m->next++;
        if (row->ending.n_threads > 0)
                return is_member(m, row) ? 0 : add_row(m->ctl, list, row);
        if (m->next < list->n && list->items[m->next].pid == row->pid &&
                        list->items[m->next].start_usec == row->start_usec)
                list->items[m->next++].ending = row->ending;
        return 0;
}

int endings_read(struct ctl *ctl, const char *path, bool recursive, struct process_list *list)
{
        struct merge merge = {.ctl = ctl, .list = list};
        bool all;
        int r;

        list->with_endings = true;
        list->n_entered = 0;
        ctl->is_extra = true;
        r = endings_each(ctl, path, recursive, merge_row, &merge, &all);
        ctl->is_extra = false;
        return r == EXIT_NO_SUCH_CONTEXT ? 0 : r;
}

const char *signal_name(int number, char *buffer)
{
        const char *name = sigabbrev_np(number);

        if (name)
                snprintf(buffer, 32, "SIG%s", name);
        else
                snprintf(buffer, 32, "signal %d", number);
        return buffer;
}

void ending_add_kill(const struct process *process, char *buffer)
{
        size_t n = strlen(buffer);
        char span[FORMAT_MAX];

        /* Pid 1 of our own namespace cannot even be killed. */
        if (process->ending.known && process->ending.kill_after_usec != UINT64_MAX && process->pid != 1)
                snprintf(buffer + n, WHY_MAX - n, "; SIGKILL comes %s after the end",
                                format_timespan(span, process->ending.kill_after_usec));
}

/* The uid by which it is another's: the effective one tells most. */
static uint32_t foreign_uid(const struct process *process)
{
        uint32_t by = process->ending.attached_by;
        struct proc_status status;
        const uid_t *uids = status.uids;

        if (process->uid == by && proc_status_read((pid_t) process->pid, &status) >= 0)
                for (int i = 1; i <= 3; i++)
                        if (uids[i % 3] != by && !subuid_is_of(uids[i % 3], by))
                                return uids[i % 3];
        return process->uid;
}

const char *ending_why(const struct process *process, char *buffer)
{
        const char *why = process->ending.unsignalled;
        char name[FORMAT_MAX], by[FORMAT_MAX];

        buffer[0] = '\0';
        if (!*why)
                return buffer;
        if (strcmp(why, "user") == 0) {
                snprintf(buffer, WHY_MAX, "runs as %s, so a signal of %s does not reach it",
                                format_user(name, foreign_uid(process)),
                                format_user(by, process->ending.attached_by));
                return buffer;
        }
        if (process->ending.n_threads > 0) {
                snprintf(buffer, WHY_MAX, "no member, but %u of its threads ha%s entered",
                                process->ending.n_threads, process->ending.n_threads == 1 ? "s" : "ve");
                return buffer;
        }
        if (strcmp(why, "refused") == 0) {
                snprintf(buffer, WHY_MAX, "the kernel does not let ctxd signal it");
                return buffer;
        }
        if (strcmp(why, "helper") == 0)
                snprintf(buffer, WHY_MAX, "forked to clean up by a process that had its signal");
        else if (strcmp(why, "missed") == 0)
                snprintf(buffer, WHY_MAX, "could not be signalled when its context ended");
        else
                snprintf(buffer, WHY_MAX, "attached without a signal");
        ending_add_kill(process, buffer);
        return buffer;
}

size_t endings_count_unsignalled(const struct process_list *list)
{
        size_t n = 0;

        for (size_t i = 0; i < list->n; i++)
                n += *list->items[i].ending.unsignalled != '\0';
        return n;
}

void endings_print_unsignalled(const struct process_list *list, const char *const verb[2])
{
        size_t left = endings_count_unsignalled(list), entered = process_list_entered(list);
        char why[WHY_MAX];

        if (left > 0)
                printf("%zu process%s %s no signal:\n", left, left_plural(left), verb[left > 1]);
        for (size_t i = 0; i < list->n; i++)
                if (*ending_why(list->items + i, why))
                        left_print_process(stdout, list->items + i, --left == 0, why);
        if (entered > 0)
                printf("%zu thread%s of other processes %s no signal:\n", entered, entered == 1 ? "" : "s",
                                verb[entered > 1]);
        endings_print_entered(list);
}

void endings_print_entered(const struct process_list *list)
{
        char why[WHY_MAX];

        for (size_t i = 0; i < list->n_entered; i++)
                left_print_process(stdout, list->entered + i, i + 1 == list->n_entered,
                                ending_why(list->entered + i, why));
}

void endings_add_entered(const struct process_list *list, json_object *array)
{
        for (size_t i = 0; i < list->n_entered; i++)
                json_object_array_add(array, process_to_json(list->entered + i, true));
}

json_object *endings_unsignalled_to_json(const struct process_list *list)
{
        json_object *array = json_object_new_array();

        for (size_t i = 0; i < list->n; i++)
                if (*list->items[i].ending.unsignalled)
                        json_object_array_add(array, process_to_json(list->items + i, true));
        endings_add_entered(list, array);
        return array;
}
