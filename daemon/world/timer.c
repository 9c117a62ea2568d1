/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/world/timer.h"
#include "daemon/world/world.h"

struct timer {
        struct world *world;
        sd_event_source *source;
        struct fact elapsed;
};

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct timer *t = userdata;

        fact_raise(&t->world->facts, &t->elapsed);
        facts_wake(&t->world->facts);
        return 0;
}

int timer_new(struct timer **ret, struct world *world)
{
        struct timer *t = calloc(1, sizeof *t);
        int r;

        if (!t)
                return -ENOMEM;
        t->world = world;
        t->elapsed.kind = FACT_TIME;
        /* An accuracy of 1 µs: 0 would stand for a quarter of a second. */
        r = sd_event_add_time(world->event, &t->source, CLOCK_BOOTTIME, UINT64_MAX, 1, on_time, t);
        if (r < 0) {
                free(t);
                return r;
        }
        (void) sd_event_source_set_description(t->source, "tree");
        (void) sd_event_source_set_enabled(t->source, SD_EVENT_OFF);
        *ret = t;
        return 0;
}

struct timer *timer_free(struct timer *t)
{
        if (!t)
                return NULL;
        fact_withdraw(&t->world->facts, &t->elapsed);
        sd_event_source_disable_unref(t->source);
        free(t);
        return NULL;
}

void timer_set(struct timer *t, uint64_t usec)
{
        if (usec == UINT64_MAX) {
                (void) sd_event_source_set_enabled(t->source, SD_EVENT_OFF);
                return;
        }
        (void) sd_event_source_set_time(t->source, usec);
        (void) sd_event_source_set_enabled(t->source, SD_EVENT_ONESHOT);
}
