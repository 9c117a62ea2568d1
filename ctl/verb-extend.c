/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "util/clock.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/parse.h"

/* TIME counts from now, or with a + from the present deadline. "infinity" means no deadline of its own. */
static int read_deadline(const char *text, uint64_t deadline_usec, uint64_t *ret)
{
        bool later = *text == '+';
        uint64_t span, from = later ? deadline_usec : now_boottime_usec();
        int r = read_timespan("TIME", text + later, &span);

        if (r > 0)
                return r;
        if (from == UINT64_MAX) {
                print_error("there is no deadline to which '%s' could be added; without the + it is a new "
                            "one, from now",
                                text);
                return EXIT_FAILED;
        }
        *ret = span > UINT64_MAX - from ? UINT64_MAX : from + span;
        return 0;
}

static int print_extended(struct ctl *ctl, const struct listed *item)
{
        char text[FORMAT_MAX];

        if (ctl->json != JSON_OFF)
                return json_print(ctl, listed_to_json(item));
        if (strcmp(item->state, "active") != 0)
                printf("%s is %s: the time was already over.\n", item->path, item->state);
        else if (item->deadline_usec == UINT64_MAX)
                printf("%s has no deadline.\n", item->path);
        else
                printf("%s has its deadline at %s", item->path, format_timestamp(text, item->deadline_usec));
        if (strcmp(item->state, "active") == 0 && item->deadline_usec != UINT64_MAX)
                printf(", %s.\n", format_relative(text, item->deadline_usec));
        return EXIT_DONE;
}

static int extend_context(struct ctl *ctl, const char *path, const char *time)
{
        char reference[CTXD_PATH_ID_MAX + 1];
        struct listing listing = {};
        uint64_t deadline_usec;
        int r;

        /* All three calls mean the context that has this path now. */
        r = contexts_get(ctl, path, &listing);
        if (r > 0)
                return r;
        r = read_deadline(time, listing.items->deadline_usec, &deadline_usec);
        listed_reference(listing.items, reference);
        listing_deinit(&listing);
        if (r == 0)
                r = bus_call(ctl, NULL, "Extend", "st", reference, deadline_usec);
        if (r == 0)
                r = contexts_get(ctl, reference, &listing);
        if (r == 0)
                r = print_extended(ctl, listing.items);
        listing_deinit(&listing);
        return r;
}

int verb_extend(struct ctl *ctl, int argc, char *argv[])
{
        uint64_t unused;
        const char *time;
        int r;

        if (!read_arguments(ctl, argc, argv, 2, 2, &r))
                return r;
        time = argv[optind + 1];
        r = read_timespan("TIME", time + (*time == '+'), &unused);
        if (r > 0)
                return r;
        /* ctxd refuses this, and its error message says why. */
        if (strcmp(argv[optind], "/") == 0)
                return bus_call(ctl, NULL, "Extend", "st", "/", UINT64_MAX);
        return extend_context(ctl, argv[optind], time);
}
