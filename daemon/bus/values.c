/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The values of a context, with those that it inherits. Of a key the nearest value counts, so the keys that
 * were shown are kept in a table: they are up to 64 for each of 64 levels. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/bus/walk.h"

#define ENTRY_BYTES 16 /* beside its texts */

struct shown {
        const struct context *at; /* NULL: all was shown */
        uint8_t i;                /* of its values: the next one */
        uint32_t mask;
        uint64_t bytes;
        const char *keys[];
};

/* For the values of c and of the contexts above it. NULL: there is no memory. */
static struct shown *shown_new(const struct context *c)
{
        struct shown *s;
        uint32_t n = 0, size = 2;

        for (const struct context *a = c; a; a = a->parent)
                n += a->n_values;
        while (size < 2 * n)
                size *= 2;
        s = calloc(1, sizeof *s + size * sizeof s->keys[0]);
        if (s)
                *s = (struct shown){.at = c, .mask = size - 1};
        return s;
}

/* Whether this is the first with that key. */
static bool shown_add(const struct tree *t, struct shown *s, const char *key)
{
        uint64_t i = index_siphash24(t->by_name.key, 0, key, strlen(key));

        for (;; i++) {
                const char **place = &s->keys[i & s->mask];

                if (!*place) {
                        *place = key;
                        return true;
                }
                if (strcmp(*place, key) == 0)
                        return false;
        }
}

/* Appends so many values. 0: there are more; 1: all are there. */
static int append_some(const struct tree *t, const struct caller *caller, struct shown *s, sd_bus_message *m,
                uint32_t budget)
{
        for (; s->at; s->at = s->at->parent, s->i = 0)
                for (; s->i < s->at->n_values; s->i++) {
                        const struct value *v = &s->at->values[s->i];
                        int r = 0;

                        if (budget-- == 0)
                                return 0;
                        if (!shown_add(t, s, v->key) || !access_shows_values(t, caller, s->at))
                                continue; /* one that the caller is not shown still hides those above */
                        s->bytes += ENTRY_BYTES + strlen(v->key) + strlen(v->value);
                        r = sd_bus_message_append(m, "{ss}", v->key, v->value);
                        if (r < 0)
                                return r;
                }
        return 1;
}

int message_append_values(
                sd_bus_message *m, struct endpoint *e, const struct caller *caller, const struct context *c)
{
        const struct tree *t = e->service->tree;
        struct shown *s = shown_new(c);
        int r = s ? sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "{ss}") : -ENOMEM;

        if (r >= 0)
                r = append_some(t, caller, s, m, UINT32_MAX);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (s)
                endpoint_replies(e, s->bytes);
        free(s);
        return r;
}

static int step(struct walk *w, uint32_t budget)
{
        int r = 0;

        if (!w->reply) {
                w->shown = shown_new(w->request.context);
                r = w->shown ? sd_bus_message_new_method_return(w->request.message, &w->reply) : -ENOMEM;
                if (r >= 0)
                        r = sd_bus_message_open_container(w->reply, SD_BUS_TYPE_ARRAY, "{ss}");
        }
        if (r >= 0)
                r = append_some(w->request.service->tree, &w->request.caller, w->shown, w->reply, budget);
        if (r <= 0)
                return r;
        r = sd_bus_message_close_container(w->reply);
        return r < 0 ? r : request_send(&w->request, w->reply, w->shown->bytes);
}

int verb_values(struct request *q)
{
        struct walk *w = walk_new(q, q->context, NULL, step);

        return w ? walk_begin(w) : -ENOMEM;
}
