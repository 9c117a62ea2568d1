/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/endings.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/pager.h"
#include "ctl/table.h"

#define TASKS_MAX 10000

static const char *const header[] = {"-PID", "-TID", "KIND", "SINCE", "COMMAND", NULL};

struct task {
        uint32_t pid, tid;
        const char *comm, *kind; /* the message owns them */
        uint64_t since_usec;
};

static void add_row(struct table *table, const struct task *task)
{
        char text[FORMAT_MAX];

        table_addf(table, "%" PRIu32, task->pid);
        table_addf(table, "%" PRIu32, task->tid);
        table_add(table, task->kind);
        table_add(table, format_relative(text, task->since_usec));
        table_add(table, task->comm);
}

static void add_object(json_object *array, const struct task *task)
{
        json_object *object = json_object_new_object();

        json_add_number(object, "pid", task->pid);
        json_add_number(object, "tid", task->tid);
        json_add_text(object, "command", task->comm);
        json_add_text(object, "kind", task->kind);
        json_add_number(object, "since_usec", task->since_usec);
        json_object_array_add(array, object);
}

/* Adds the tasks to the table or to the array; the other one is NULL. */
static int read_tasks(sd_bus_message *m, struct table *table, json_object *array)
{
        struct task task;
        int r = sd_bus_message_enter_container(m, 'a', "(uusst)");

        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(uusst)", &task.pid, &task.tid, &task.comm, &task.kind,
                                &task.since_usec)) > 0)
                if (array)
                        add_object(array, &task);
                else
                        add_row(table, &task);
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int print_json(struct ctl *ctl, const char *path, sd_bus_message *m, const struct process_list *list)
{
        json_object *object = json_object_new_object(), *tasks = json_object_new_array();
        uint32_t contexts, members;
        int r, truncated;

        json_object_object_add(object, "tasks", tasks);
        if ((r = sd_bus_message_read(m, "uu", &contexts, &members)) < 0 ||
                        (r = read_tasks(m, NULL, tasks)) < 0 ||
                        (r = sd_bus_message_read(m, "b", &truncated)) < 0) {
                json_object_put(object);
                return bus_broken(r);
        }
        json_add_text(object, "path", path);
        json_add_number(object, "contexts", contexts);
        json_add_number(object, "members", members);
        json_object_object_add(object, "unsignalled", endings_unsignalled_to_json(list));
        json_object_object_add(object, "truncated", json_object_new_boolean(truncated));
        return json_print(ctl, object);
}

static int print_table(struct ctl *ctl, const char *path, sd_bus_message *m, const struct process_list *list)
{
        _cleanup_(table_freep) struct table *table = table_new(header);
        uint32_t contexts, members;
        int r, truncated;

        if (!table)
                return bus_broken(-ENOMEM);
        if ((r = sd_bus_message_read(m, "uu", &contexts, &members)) < 0 ||
                        (r = read_tasks(m, table, NULL)) < 0 ||
                        (r = sd_bus_message_read(m, "b", &truncated)) < 0)
                return bus_broken(r);
        pager_open(ctl);
        if (table_rows(table) > 0) {
                r = table_print(table, ctl->legend);
                if (r < 0)
                        return bus_broken(r);
                if (ctl->legend)
                        putchar('\n');
        }
        if (ctl->legend)
                printf("A cancel of %s would make %" PRIu32 " context%s done; %" PRIu32
                       " member%s would have to leave%s.\n",
                                path, contexts, contexts == 1 ? "" : "s", members, members == 1 ? "" : "s",
                                truncated ? ", not all of which are shown" : "");
        endings_print_unsignalled(list, (const char *const[]){"would get", "would get"});
        return EXIT_DONE;
}

int verb_preview(struct ctl *ctl, int argc, char *argv[])
{
        _cleanup_(process_list_deinit) struct process_list list = {};
        _cleanup_message_ sd_bus_message *reply = NULL;
        int r;

        if (!read_arguments(ctl, argc, argv, 1, 1, &r))
                return r;
        r = bus_call(ctl, &reply, "Preview", "su", argv[optind], (uint32_t) TASKS_MAX);
        if (r == 0)
                r = process_list_read(ctl, argv[optind], true, &list);
        if (r == 0)
                r = endings_read(ctl, argv[optind], true, &list);
        if (r > 0)
                return r;
        return ctl->json != JSON_OFF ? print_json(ctl, argv[optind], reply, &list)
                                     : print_table(ctl, argv[optind], reply, &list);
}
