/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/turn.h"

int turn_init(struct turn *t, sd_event *event, const char *name, sd_event_handler_t run, void *userdata)
{
        int r;

        *t = (struct turn){.event = event, .run = run, .userdata = userdata};
        r = sd_event_add_defer(event, &t->source, run, userdata);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(t->source, name);
        return sd_event_source_set_enabled(t->source, SD_EVENT_OFF);
}

void turn_deinit(struct turn *t)
{
        t->source = sd_event_source_disable_unref(t->source);
}

void turn_again(struct turn *t)
{
        sd_event_source *next;

        if (!t->source || sd_event_source_get_enabled(t->source, NULL) != 0)
                return;
        if (sd_event_add_defer(t->event, &next, t->run, t->userdata) < 0) {
                (void) sd_event_source_set_enabled(t->source, SD_EVENT_ONESHOT);
                return;
        }
        sd_event_source_unref(t->source);
        t->source = next;
}
