/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/pager.h"
#include "ctl/processes.h"
#include "ctl/table.h"

static const char *const header[] = {"-PID", "USER", "STARTED", "~COMMAND", NULL};

int verb_members(struct ctl *ctl, int argc, char *argv[])
{
        _cleanup_(table_freep) struct table *table = NULL;
        _cleanup_(process_list_deinit) struct process_list list = {};
        char text[FORMAT_MAX], command[COMMAND_MAX];
        int r;

        if (!read_arguments(ctl, argc, argv, 1, 1, &r))
                return r;
        r = process_list_read(ctl, argv[optind], true, &list);
        if (r > 0)
                return r;
        if (ctl->json != JSON_OFF)
                return json_print(ctl, process_list_to_json(&list));
        table = table_new(header);
        if (!table)
                return bus_broken(-ENOMEM);
        for (size_t i = 0; i < list.n; i++) {
                table_addf(table, "%u", list.items[i].pid);
                table_add(table, format_user(text, list.items[i].uid));
                table_add(table, format_relative(text, list.items[i].start_usec));
                table_add(table, process_command(list.items + i, command));
        }
        pager_open(ctl);
        r = table_print(table, ctl->legend);
        if (r < 0)
                return bus_broken(r);
        if (ctl->legend)
                printf("\n%zu process%s listed.\n", list.n, list.n == 1 ? "" : "es");
        return EXIT_DONE;
}
