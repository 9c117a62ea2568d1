/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

/* Long work in turns: it goes on in another event, and others are served between. One defer source that
 * enables itself again while it runs is not enough. For sd-event such a source is pending since it was first
 * enabled, so it comes before everything that became ready later, until the work is over. So each turn is a
 * new source. */
struct turn {
        sd_event *event; /* borrowed */
        sd_event_source *source;
        sd_event_handler_t run;
        void *userdata;
};

/* 0 or a negative errno. After that a turn can always be had: if there is no memory for a new source the old
 * one is used, and the turn comes too early. */
int turn_init(struct turn *t, sd_event *event, const char *name, sd_event_handler_t run, void *userdata);
void turn_deinit(struct turn *t);
/* Asks for one more turn, unless one is to come already. It may be called during a turn. */
void turn_again(struct turn *t);
