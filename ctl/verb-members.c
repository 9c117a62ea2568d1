/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/endings.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/pager.h"
#include "ctl/processes.h"
#include "ctl/table.h"

static const char *const header[] = {"-PID", "USER", "STARTED", "SIGNAL", "~COMMAND", NULL};

/* The one that the end of its context sends it, or why none. */
static const char *signal_of(const struct process *process, char *buffer)
{
        char why[WHY_MAX], name[32];

        if (*ending_why(process, why))
                snprintf(buffer, WHY_MAX + 8, "none: %s", why);
        else
                snprintf(buffer, WHY_MAX + 8, "%s",
                                process->ending.signal > 0 ? signal_name(process->ending.signal, name) : "");
        return buffer;
}

int verb_members(struct ctl *ctl, int argc, char *argv[])
{
        _cleanup_(table_freep) struct table *table = NULL;
        _cleanup_(process_list_deinit) struct process_list list = {};
        char text[FORMAT_MAX], command[COMMAND_MAX], signal[WHY_MAX + 8];
        char count[PROCESS_COUNT_MAX];
        size_t unsignalled;
        int r;

        if (!read_arguments(ctl, argc, argv, 1, 1, &r))
                return r;
        r = process_list_read(ctl, argv[optind], true, &list);
        if (r == 0)
                r = endings_read(ctl, argv[optind], true, &list);
        if (r > 0)
                return r;
        if (ctl->json != JSON_OFF)
                return json_print(ctl, process_list_to_json(&list));
        table = table_new(header);
        if (!table)
                return bus_broken(-ENOMEM);
        for (size_t i = 0; i < process_list_rows(&list); i++) {
                const struct process *p = process_list_row(&list, i);

                table_addf(table, "%u", p->pid);
                table_add(table, p->uid == UINT32_MAX ? "" : format_user(text, p->uid));
                table_add(table, format_relative(text, p->start_usec));
                table_add(table, signal_of(p, signal));
                table_add(table, process_command(p, command));
        }
        pager_open(ctl);
        r = table_print(table, ctl->legend);
        if (r < 0)
                return bus_broken(r);
        unsignalled = endings_count_unsignalled(&list);
        if (ctl->legend)
                printf("\n%s listed", process_count(ctl, &list, 0, count));
        if (ctl->legend && unsignalled > 0)
                printf(", %zu without a signal", unsignalled);
        if (ctl->legend)
                puts(".");
        return EXIT_DONE;
}
