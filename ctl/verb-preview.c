/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/endings.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/pager.h"
#include "ctl/processes.h"
#include "ctl/table.h"

#define TASKS_MAX 10000

struct task {
        uint32_t pid, tid;
        const char *comm, *kind; /* the message owns them */
        uint64_t since_usec;
};

struct preview {
        const char *path;
        bool is_done;
        uint32_t contexts, members;
        struct task *tasks;
        size_t n;
        struct process_list processes; /* and how it would reach them */
        bool is_truncated;             /* the tasks */
};

static int compare_tasks(const void *a, const void *b)
{
        const struct task *p = a, *q = b;

        if (p->pid != q->pid)
                return p->pid < q->pid ? -1 : 1;
        /* The leader, or who stands for it, comes first. */
        return (p->tid != p->pid) - (q->tid != q->pid);
}

static bool is_first(const struct preview *p, size_t i)
{
        return i == 0 || p->tasks[i].pid != p->tasks[i - 1].pid;
}

static int read_tasks(sd_bus_message *m, struct preview *p)
{
        struct task task;
        int r = sd_bus_message_enter_container(m, 'a', "(uusst)");

        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(uusst)", &task.pid, &task.tid, &task.comm, &task.kind,
                                &task.since_usec)) > 0) {
                if (p->n % 64 == 0) {
                        struct task *tasks = reallocarray(p->tasks, p->n + 64, sizeof *tasks);

                        if (!tasks)
                                return -ENOMEM;
                        p->tasks = tasks;
                }
                p->tasks[p->n++] = task;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_preview(sd_bus_message *m, struct preview *p)
{
        int r, truncated;

        if ((r = sd_bus_message_read(m, "uu", &p->contexts, &p->members)) < 0 || (r = read_tasks(m, p)) < 0 ||
                        (r = sd_bus_message_read(m, "b", &truncated)) < 0)
                return r;
        if (p->n > 0)
                qsort(p->tasks, p->n, sizeof *p->tasks, compare_tasks);
        p->is_truncated = truncated;
        return 0;
}

static int print_json(struct ctl *ctl, const struct preview *p)
{
        json_object *object = json_object_new_object(), *tasks = json_object_new_array();

        for (size_t i = 0; i < p->n; i++) {
                json_object *task = json_object_new_object();

                json_add_number(task, "pid", p->tasks[i].pid);
                json_add_number(task, "tid", p->tasks[i].tid);
                json_add_text(task, "command", p->tasks[i].comm);
                json_add_text(task, "kind", p->tasks[i].kind);
                json_add_number(task, "since_usec", p->tasks[i].since_usec);
                json_object_array_add(tasks, task);
        }
        json_object_object_add(object, "tasks", tasks);
        contexts_add_reference(object, p->path);
        json_add_number(object, "contexts", p->contexts);
        json_add_number(object, "members", p->members);
        json_add_number(object, "n_processes", p->processes.truncated ? UINT64_MAX : p->processes.n);
        json_object_object_add(object, "unsignalled", endings_unsignalled_to_json(&p->processes));
        json_object_object_add(object, "truncated", json_object_new_boolean(p->is_truncated));
        return json_print(ctl, object);
}

static int print_rows(const struct ctl *ctl, const struct preview *p)
{
        static const char *const of_processes[] = {"-PID", "SINCE", "COMMAND", NULL};
        static const char *const of_threads[] = {"-PID", "-TID", "KIND", "SINCE", "COMMAND", NULL};
        _cleanup_(table_freep) struct table *table = table_new(ctl->full ? of_threads : of_processes);
        char text[FORMAT_MAX];

        if (!table)
                return -ENOMEM;
        for (size_t i = 0; i < p->n; i++) {
                if (!ctl->full && !is_first(p, i))
                        continue;
                table_addf(table, "%" PRIu32, p->tasks[i].pid);
                if (ctl->full) {
                        table_addf(table, "%" PRIu32, p->tasks[i].tid);
                        table_add(table, p->tasks[i].kind);
                }
                table_add(table, format_relative(text, p->tasks[i].since_usec));
                table_add(table, p->tasks[i].comm);
        }
        return p->n > 0 ? table_print(table, ctl->legend) : 0;
}

static void print_sentence(struct ctl *ctl, const struct preview *p)
{
        char count[PROCESS_COUNT_MAX];
        const char *shown = p->is_truncated ? ", not all of which are shown" : "";

        if (p->n > 0)
                putchar('\n');
        (void) process_count(ctl, &p->processes, p->members, count);
        if (p->is_done)
                printf("%s is done already, so a cancel changes nothing; %s still %s to leave%s.\n", p->path,
                                count, process_count_verb(&p->processes), shown);
        else
                printf("A cancel of %s would make %" PRIu32 " context%s done; %s would have to leave%s.\n",
                                p->path, p->contexts, p->contexts == 1 ? "" : "s", count, shown);
}

static int print_preview(struct ctl *ctl, const struct preview *p)
{
        int r;

        pager_open(ctl);
        r = print_rows(ctl, p);
        if (r < 0)
                return bus_broken(r);
        if (!ctl->legend)
                return EXIT_DONE;
        print_sentence(ctl, p);
        endings_print_unsignalled(
                        &p->processes, p->is_done ? (const char *const[]){"got", "got"}
                                                  : (const char *const[]){"would get", "would get"});
        return EXIT_DONE;
}

int verb_preview(struct ctl *ctl, int argc, char *argv[])
{
        _cleanup_message_ sd_bus_message *reply = NULL;
        struct preview preview = {};
        struct context_end end = {};
        char reference[CTXD_PATH_ID_MAX + 1];
        int r;

        if (!read_arguments(ctl, argc, argv, 1, 1, &r))
                return r;
        r = contexts_pin(ctl, argv[optind], reference);
        if (r == 0)
                r = bus_call(ctl, &reply, "Preview", "su", reference, (uint32_t) TASKS_MAX);
        if (r == 0)
                r = process_list_read(ctl, reference, true, &preview.processes);
        if (r == 0)
                r = endings_read(ctl, reference, true, &preview.processes);
        if (r == 0)
                r = contexts_end(ctl, reference, &end);
        preview.path = ctl->json != JSON_OFF ? reference : argv[optind];
        preview.is_done = end.code != 0;
        if (r == 0) {
                r = read_preview(reply, &preview);
                if (r < 0)
                        r = bus_broken(r);
                else
                        r = ctl->json != JSON_OFF ? print_json(ctl, &preview) : print_preview(ctl, &preview);
        }
        free(preview.tasks);
        process_list_deinit(&preview.processes);
        return r;
}
