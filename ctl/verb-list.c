/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/pager.h"
#include "ctl/table.h"

static const char *const header[] = {"CONTEXT", "-ID", "STATE", "DEADLINE", "CREATED", "~CAUSE", NULL};

/* Sorts by path; "/" sorts first, so that each context comes before those below it. */
static int compare_paths(const void *a, const void *b)
{
        const unsigned char *p = (const unsigned char *) ((const struct listed *) a)->path;
        const unsigned char *q = (const unsigned char *) ((const struct listed *) b)->path;

        for (; *p && *p == *q; p++, q++)
                ;
        if (*p != *q)
                return (*p == '/' ? 1 : *p) - (*q == '/' ? 1 : *q);
        /* The one that has the path by now comes first. */
        return (((const struct listed *) a)->id < ((const struct listed *) b)->id) -
               (((const struct listed *) a)->id > ((const struct listed *) b)->id);
}

static int print_json(struct ctl *ctl, const struct listing *listing)
{
        json_object *array = json_object_new_array();

        for (size_t i = 0; i < listing->n; i++)
                json_object_array_add(array, listed_to_json(listing->items + i));
        return json_print(ctl, array);
}

static int print_table(struct ctl *ctl, const struct listing *listing)
{
        _cleanup_(table_freep) struct table *table = table_new(header);
        char text[FORMAT_MAX], name[CTXD_PATH_ID_MAX + 1];
        int r;

        if (!table)
                return bus_broken(-ENOMEM);
        for (size_t i = 0; i < listing->n; i++) {
                const struct listed *c = listing->items + i;

                table_add(table, listed_name(c, name));
                table_addf(table, "%" PRIu64, c->id);
                table_add_colored(table, c->state, state_color(c->state));
                /* A context that is done has no time left. */
                table_add(table, c->deadline_usec == UINT64_MAX || strcmp(c->state, "active") != 0
                                                 ? NULL
                                                 : format_relative(text, c->deadline_usec));
                table_add(table, format_relative(text, c->created_usec));
                table_add(table, c->cause);
        }
        pager_open(ctl);
        r = table_print(table, ctl->legend);
        if (r < 0)
                return bus_broken(r);
        if (ctl->legend)
                printf("\n%zu context%s listed.\n", listing->n, listing->n == 1 ? "" : "s");
        return EXIT_DONE;
}

int verb_list(struct ctl *ctl, int argc, char *argv[])
{
        struct listing listing = {};
        int r;

        if (!read_arguments(ctl, argc, argv, 0, 1, &r))
                return r;
        r = contexts_list(ctl, optind < argc ? argv[optind] : "/", &listing);
        if (r > 0)
                return r;
        if (listing.n > 0)
                qsort(listing.items, listing.n, sizeof *listing.items, compare_paths);
        r = ctl->json == JSON_OFF ? print_table(ctl, &listing) : print_json(ctl, &listing);
        listing_deinit(&listing);
        return r;
}
