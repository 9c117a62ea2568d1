/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "ctl/bus.h"
#include "ctl/contexts.h"
#include "ctl/line.h"
#include "ctl/json.h"
#include "ctl/terminal.h"
#include "proto/path.h"

/* A reply with this many contexts stays far below the bus's limit for a message. */
#define PAGE_CONTEXTS 1000

static int add_listed(struct listing *listing, const struct listed *found)
{
        struct listed *item;

        if (listing->n == listing->allocated) {
                size_t n = listing->allocated ? 2 * listing->allocated : 64;
                struct listed *items = reallocarray(listing->items, n, sizeof *items);

                if (!items)
                        return -ENOMEM;
                listing->items = items;
                listing->allocated = n;
        }
        item = listing->items + listing->n;
        *item = *found;
        item->path = strdup(found->path);
        item->state = strdup(found->state);
        item->cause = strdup(found->cause);
        listing->n++;
        return item->path && item->state && item->cause ? 0 : -ENOMEM;
}

void listing_deinit(struct listing *listing)
{
        for (size_t i = 0; i < listing->n; i++) {
                free(listing->items[i].path);
                free(listing->items[i].state);
                free(listing->items[i].cause);
        }
        free(listing->items);
        *listing = (struct listing){};
}

static int read_listing(sd_bus_message *m, struct listing *listing, bool *ret_truncated)
{
        struct listed found = {};
        int r, truncated;

        r = sd_bus_message_enter_container(m, 'a', "(ststts)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(ststts)", &found.path, &found.id, &found.state,
                                &found.deadline_usec, &found.created_usec, &found.cause)) > 0) {
                if (strcmp(found.path, "/") == 0)
                        continue;
                r = add_listed(listing, &found);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        r = sd_bus_message_exit_container(m);
        if (r < 0)
                return r;
        r = sd_bus_message_read(m, "b", &truncated);
        if (r < 0)
                return r;
        *ret_truncated = truncated;
        return 0;
}

static int read_pages(struct ctl *ctl, const char *prefix, uint32_t limit, struct listing *ret)
{
        struct listing listing = {};
        bool truncated;
        int r;

        do {
                _cleanup_message_ sd_bus_message *reply = NULL;
                char after[CTXD_PATH_ID_MAX + 1] = "";
                size_t before = listing.n;

                /* The daemon goes on after this path#id, even if that context is gone by then. */
                if (before > 0)
                        listed_reference(listing.items + before - 1, after);
                r = bus_call(ctl, &reply, "List", "ssu", prefix, after, limit);
                if (r == 0) {
                        r = read_listing(reply, &listing, &truncated);
                        if (r < 0)
                                r = bus_broken(r);
                }
                if (r > 0) {
                        listing_deinit(&listing);
                        return r;
                }
                if (listing.n == before)
                        break;
        } while (truncated && limit != 1);
        *ret = listing;
        return 0;
}

/* The newest of those with one path comes first. */
static int compare_names(const void *a, const void *b)
{
        const struct listed *p = *(const struct listed *const *) a, *q = *(const struct listed *const *) b;
        int r = strcmp(p->path, q->path);

        return r != 0 ? r : (p->id < q->id) - (p->id > q->id);
}

/* One that is done and has members is listed, though its path may have a new one. */
static int find_lost_paths(struct listing *listing)
{
        _cleanup_free_ struct listed **sorted = NULL;
        bool any = false;

        for (size_t i = 0; i < listing->n && !any; i++)
                any = strcmp(listing->items[i].state, "active") != 0;
        if (!any)
                return 0;
        sorted = calloc(listing->n, sizeof *sorted);
        if (!sorted)
                return -ENOMEM;
        for (size_t i = 0; i < listing->n; i++)
                sorted[i] = listing->items + i;
        qsort(sorted, listing->n, sizeof *sorted, compare_names);
        for (size_t i = 1; i < listing->n; i++)
                sorted[i]->lost_path = strcmp(sorted[i]->path, sorted[i - 1]->path) == 0;
        return 0;
}

int contexts_list(struct ctl *ctl, const char *prefix, struct listing *ret)
{
        int r = read_pages(ctl, prefix, PAGE_CONTEXTS, ret);

        if (r != 0 || find_lost_paths(ret) >= 0)
                return r;
        listing_deinit(ret);
        return bus_broken(-ENOMEM);
}

/* A context that was released is not listed any more, but the daemon still answers to its path#id. */
static int get_released(struct ctl *ctl, const char *path, struct listing *ret)
{
        struct listed found = {.deadline_usec = UINT64_MAX, .created_usec = UINT64_MAX};
        struct reference reference;
        struct context_end end;
        int r;

        r = contexts_end(ctl, path, &end);
        if (r > 0)
                return r;
        if (reference_parse(path, getuid(), false, &reference, NULL) < 0 || reference.id == 0) {
                print_error("There is no context %s", path);
                return EXIT_NO_SUCH_CONTEXT;
        }
        found.path = reference.path;
        found.id = reference.id;
        found.state = end.code == 0 ? "active" : end.code == ETIMEDOUT ? "deadline-exceeded" : "canceled";
        found.cause = end.cause;
        r = add_listed(ret, &found);
        return r < 0 ? bus_broken(r) : 0;
}

int contexts_get(struct ctl *ctl, const char *path, struct listing *ret)
{
        int r = read_pages(ctl, path, 1, ret);

        return r == 0 && ret->n == 0 ? get_released(ctl, path, ret) : r;
}

int contexts_pin(struct ctl *ctl, const char *path, char *ret_reference)
{
        struct listing listing = {};
        int r;

        if (strchr(path, '#') || strcmp(path, "/") == 0) {
                snprintf(ret_reference, CTXD_PATH_ID_MAX + 1, "%s", path);
                return 0;
        }
        r = contexts_get(ctl, path, &listing);
        if (r > 0)
                return r;
        listed_reference(listing.items, ret_reference);
        listing_deinit(&listing);
        return 0;
}

void contexts_add_reference(json_object *object, const char *reference)
{
        struct reference parsed;
        bool has_id = strchr(reference, '#') &&
                      reference_parse(reference, getuid(), false, &parsed, NULL) >= 0;

        json_add_text(object, "path", has_id ? parsed.path : reference);
        json_add_number(object, "id", has_id ? parsed.id : UINT64_MAX);
}

static int get_number(struct ctl *ctl, const char *object, const char *property, char type, void *ret)
{
        return sd_bus_get_property_trivial(
                        ctl->bus, CTXD_BUS_NAME, object, CTXD_CONTEXT_INTERFACE, property, NULL, type, ret);
}

/* Of that context, and not of a newcomer that has its path. */
static bool get_property(struct ctl *ctl, const char *path, const char *property, char type, void *ret)
{
        _cleanup_free_ char *object = NULL;
        struct reference reference;
        uint64_t id;

        return reference_parse(path, getuid(), false, &reference, NULL) >= 0 &&
               path_to_object(reference.path, &object) >= 0 && get_number(ctl, object, "Id", 't', &id) >= 0 &&
               (reference.id == 0 || reference.id == id) && get_number(ctl, object, property, type, ret) >= 0;
}

uint64_t context_done_usec(struct ctl *ctl, const char *path)
{
        uint64_t usec;

        return get_property(ctl, path, "DoneUSec", 't', &usec) ? usec : UINT64_MAX;
}

char *listed_reference(const struct listed *item, char *buffer)
{
        snprintf(buffer, CTXD_PATH_ID_MAX + 1, "%s#%" PRIu64, item->path, item->id);
        return buffer;
}

const char *listed_name(const struct listed *item, char *buffer)
{
        return item->lost_path ? listed_reference(item, buffer) : item->path;
}

json_object *listed_to_json(const struct listed *item)
{
        json_object *object = json_object_new_object();

        json_add_text(object, "path", item->path);
        json_add_number(object, "id", item->id);
        json_add_text(object, "state", item->state);
        json_add_number(object, "deadline_usec", item->deadline_usec);
        json_add_number(object, "created_usec", item->created_usec);
        json_add_text(object, "cause", item->cause);
        return object;
}

static int ask_end(struct ctl *ctl, const char *path, sd_bus_message **reply, const char **ret_err,
                int *ret_code, const char **ret_cause)
{
        int error, r = bus_call(ctl, reply, "Err", "s", path);

        if (r > 0)
                return r;
        r = sd_bus_message_read(*reply, "siis", ret_err, ret_code, &error, ret_cause);
        return r < 0 ? bus_broken(r) : 0;
}

int contexts_end(struct ctl *ctl, const char *path, struct context_end *ret)
{
        _cleanup_message_ sd_bus_message *reply = NULL;
        int code, r = LINE_REFUSED;
        const char *err, *cause;

        if (ctl->line)
                r = line_end(ctl, path, &err, &code, &cause);
        if (r == LINE_REFUSED)
                r = ask_end(ctl, path, &reply, &err, &code, &cause);
        if (r != 0)
                return r;
        ret->code = code;
        snprintf(ret->err, sizeof ret->err, "%s", err);
        if (ctl->json == JSON_OFF)
                (void) printable(cause, false, ret->cause, sizeof ret->cause);
        else
                snprintf(ret->cause, sizeof ret->cause, "%s", cause);
        return 0;
}

void print_end(const char *err, const char *cause)
{
        printf("%s", err);
        if (*cause && strcmp(cause, err) != 0)
                printf(" (%s)", cause);
}
