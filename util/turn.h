/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

/* Work that goes on in another event, with others served between. A defer source that enables itself again while it
 * runs does not do: to sd-event it is pending since it was enabled for the first time, and so comes before whatever
 * became ready later, for as long as it goes on. So each turn is a new source. */
struct turn {
        sd_event *event; /* borrowed */
        sd_event_source *source;
        sd_event_handler_t run;
        void *userdata;
};

/* 0 or a negative errno. After that asking for a turn cannot fail: without memory for a new source it is the old one,
 * and comes too early. */
int turn_init(struct turn *t, sd_event *event, const char *name, sd_event_handler_t run, void *userdata);
void turn_deinit(struct turn *t);
/* One more, if there is none to come. Also while it runs. */
void turn_again(struct turn *t);
