/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/json.h"
#include "ctl/pager.h"
#include "ctl/table.h"

static const char *const header[] = {"KEY", "VALUE", NULL};

static int print_table(struct ctl *ctl, json_object *values)
{
        _cleanup_(table_freep) struct table *table = table_new(header);
        int r;

        if (!table)
                return bus_broken(-ENOMEM);
        json_object_object_foreach(values, key, value)
        {
                table_add(table, key);
                table_add(table, json_object_get_string(value));
        }
        pager_open(ctl);
        r = table_print(table, ctl->legend);
        return r < 0 ? bus_broken(r) : EXIT_DONE;
}

int verb_values(struct ctl *ctl, int argc, char *argv[])
{
        _cleanup_message_ sd_bus_message *reply = NULL;
        json_object *values;
        int r, status;

        if (!read_arguments(ctl, argc, argv, 1, 1, &r))
                return r;
        r = bus_call(ctl, &reply, "Values", "s", argv[optind]);
        if (r > 0)
                return r;
        values = json_object_new_object();
        r = json_from_dictionary(reply, "{ss}", values);
        if (r < 0) {
                json_object_put(values);
                return bus_broken(r);
        }
        if (ctl->json != JSON_OFF)
                return json_print(ctl, values);
        status = print_table(ctl, values);
        json_object_put(values);
        return status;
}
