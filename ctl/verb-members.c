/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/pager.h"
#include "ctl/table.h"

static const char *const header[] = {"-PID", "USER", "STARTED", "COMMAND", NULL};

int verb_members(struct ctl *ctl, int argc, char *argv[])
{
        _cleanup_(table_freep) struct table *table = NULL;
        _cleanup_free_ struct running *running = NULL;
        char text[FORMAT_MAX], command[4096];
        size_t n = 0;
        int r;

        if (read_arguments(ctl, argc, argv, 1, 1, &r) != 0)
                return r;
        r = contexts_processes(ctl, argv[optind], true, &running, &n);
        if (r > 0)
                return r;
        if (ctl->json != JSON_OFF)
                return json_print(ctl, running_to_json(running, n));
        table = table_new(header);
        if (!table)
                return bus_broken(-ENOMEM);
        for (size_t i = 0; i < n; i++) {
                table_addf(table, "%u", running[i].pid);
                table_add(table, format_user(text, running[i].uid));
                table_add(table, format_relative(text, running[i].start_usec));
                table_add(table, format_command(command, sizeof command, (pid_t) running[i].pid,
                                                 running[i].comm));
        }
        pager_open(ctl);
        r = table_print(table, ctl->legend);
        if (r < 0)
                return bus_broken(r);
        if (ctl->legend)
                printf("\n%zu process%s listed.\n", n, n == 1 ? "" : "es");
        return EXIT_DONE;
}
