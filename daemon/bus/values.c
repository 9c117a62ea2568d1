/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The values of a context, with those that it inherits. Of a key the nearest value counts, so the keys that
 * were shown are kept in a table: they are up to 64 for each of 64 levels. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/bus/vtables.h"
#include "daemon/bus/walk.h"
#include "proto/path.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define PROPERTIES "org.freedesktop.DBus.Properties"
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

/* -- The verb, and the property. That may be megabytes, and a getter cannot reply later. So this answers
 * those who ask for it, before sd-bus asks a getter. */

enum asked {
        ASKED_NOTHING,
        ASKED_VERB,
        ASKED_GET,
        ASKED_GET_ALL,
};

static enum asked what_is_asked(sd_bus_message *m)
{
        const char *interface, *property;

        if (sd_bus_message_is_method_call(m, PROPERTIES, NULL) <= 0 ||
                        sd_bus_message_read(m, "s", &interface) <= 0 ||
                        (interface[0] != '\0' && strcmp(interface, CTXD_CONTEXT_INTERFACE) != 0))
                return ASKED_NOTHING;
        if (strcmp(sd_bus_message_get_member(m), "GetAll") == 0)
                return ASKED_GET_ALL;
        if (strcmp(sd_bus_message_get_member(m), "Get") == 0 && sd_bus_message_read(m, "s", &property) > 0 &&
                        strcmp(property, "Values") == 0)
                return ASKED_GET;
        return ASKED_NOTHING;
}

/* The other properties are not large. Their getters have to be called while the message is the current
 * one. */
static int begin(struct walk *w)
{
        enum asked asked = (enum asked) w->limit;
        int r = sd_bus_message_new_method_return(w->request.message, &w->reply);

        if (r >= 0 && asked == ASKED_GET_ALL) {
                r = sd_bus_message_open_container(w->reply, SD_BUS_TYPE_ARRAY, "{sv}");
                if (r >= 0)
                        r = context_append_others(w->request.endpoint->bus, w->reply, w->request.context);
                if (r >= 0)
                        r = sd_bus_message_open_container(w->reply, SD_BUS_TYPE_DICT_ENTRY, "sv");
                if (r >= 0)
                        r = sd_bus_message_append(w->reply, "s", "Values");
        }
        if (r >= 0 && asked != ASKED_VERB)
                r = sd_bus_message_open_container(w->reply, SD_BUS_TYPE_VARIANT, "a{ss}");
        return r < 0 ? r : sd_bus_message_open_container(w->reply, SD_BUS_TYPE_ARRAY, "{ss}");
}

static int finish(struct walk *w)
{
        static const unsigned levels[] = {[ASKED_VERB] = 1, [ASKED_GET] = 2, [ASKED_GET_ALL] = 4};
        int r = 0;

        for (unsigned i = 0; i < levels[w->limit] && r >= 0; i++)
                r = sd_bus_message_close_container(w->reply);
        return r < 0 ? r : walk_send(w);
}

static int step(struct walk *w, uint32_t budget)
{
        int r = 0;

        if (!w->reply) {
                w->shown = shown_new(w->request.context);
                r = w->shown ? begin(w) : -ENOMEM;
        }
        if (r >= 0)
                r = append_some(w->request.service->tree, &w->request.caller, w->shown, w->reply, budget);
        w->bytes = w->shown ? w->shown->bytes : 0;
        return r > 0 ? finish(w) : r;
}

static int show(const struct request *q, enum asked asked)
{
        struct walk *w = walk_new(q, q->context, NULL, step);

        if (!w)
                return -ENOMEM;
        w->limit = asked;
        return walk_begin(w);
}

int verb_values(struct request *q)
{
        return show(q, ASKED_VERB);
}

int values_property(sd_bus_message *m, sd_bus_error *error)
{
        enum asked asked = what_is_asked(m);
        _cleanup_free_ char *name = NULL;
        struct refused refused;
        struct request q;
        int r;

        if (asked == ASKED_NOTHING || path_from_object(sd_bus_message_get_path(m), &name) < 0)
                return 0;
        r = request_init(&q, m, error);
        if (r < 0)
                return r;
        tree_settle(q.service->tree, now_boottime_usec());
        /* What is not found is refused where all properties are. */
        if (tree_find(q.service->tree, &q.caller, name, &q.context, &refused) < 0)
                return 0;
        return request_end(&q, 0, show(&q, asked));
}
