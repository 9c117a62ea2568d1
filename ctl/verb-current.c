/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/json.h"

int verb_current(struct ctl *ctl, int argc, char *argv[])
{
        _cleanup_message_ sd_bus_message *reply = NULL;
        json_object *json;
        const char *path;
        int r;

        if (!read_arguments(ctl, argc, argv, 0, 0, &r))
                return r;
        r = bus_call(ctl, &reply, "Current", "");
        if (r > 0)
                return r;
        r = sd_bus_message_read(reply, "s", &path);
        if (r < 0)
                return bus_broken(r);
        if (ctl->json == JSON_OFF) {
                puts(path);
                return EXIT_DONE;
        }
        json = json_object_new_object();
        json_add_text(json, "path", path);
        return json_print(ctl, json);
}
