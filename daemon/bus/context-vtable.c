/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* org.ctxd1.Context: each context as an object, which is found by its path. A context that the caller may not
 * read does not exist for it, also in introspection. There are no PropertiesChanged signals, because those
 * would be broadcast. Clients use Subscribe. */

#include <errno.h>
#include <string.h>

#include "daemon/bus/polkit.h"
#include "daemon/bus/request.h"
#include "daemon/bus/vtables.h"
#include "util/cleanup.h"
#include "proto/path.h"
#include "util/clock.h"

/* Who asks, with what polkit has granted for this call. Returns false if it has gone. */
static bool asking(sd_bus *bus, struct caller *ret)
{
        const struct peer *p = peer_current(bus);

        if (!p)
                return false;
        *ret = p->caller;
        ret->privileges = polkit_granted(p->endpoint->service->polkit, sd_bus_get_current_message(bus));
        return true;
}

int context_find(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret_found,
                sd_bus_error *error)
{
        struct endpoint *e = userdata;
        _cleanup_free_ char *name = NULL;
        sd_bus_message *m = sd_bus_get_current_message(bus);
        struct polkit *polkit = e->service->polkit;
        struct peer *p = peer_current(bus);
        struct refused refused;
        struct caller caller;
        struct context *c;

        if (!asking(bus, &caller) || path_from_object(path, &name) < 0)
                return 0;
        tree_settle(e->service->tree, now_boottime_usec());
        if (tree_find(e->service->tree, &caller, name, &c, &refused) < 0)
                return polkit_object_refused(polkit, p, m, error);
        *ret_found = c;
        return 1;
}

/* So many children are in one introspection, whose names are so long, and so many are looked at: sd-bus makes
 * it in one go, and takes half a microsecond for each, and more for long names. List can show all. */
#define CHILDREN_MAX 100
#define CHILDREN_BYTES_MAX 8192
#define CHILDREN_LOOKS_MAX 1000

int context_enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes, sd_bus_error *error)
{
        struct endpoint *e = userdata;
        _cleanup_free_ char *name = NULL;
        const struct peer *p = peer_current(bus);
        struct refused refused;
        struct context *c;
        size_t n = 0, looks = 0, bytes = 0;
        char **nodes;

        if (!p || path_from_object(prefix, &name) < 0)
                return 0;
        if (tree_find(e->service->tree, &p->caller, name, &c, &refused) < 0)
                return 0;
        nodes = calloc((c->n_children < CHILDREN_MAX ? c->n_children : CHILDREN_MAX) + 1, sizeof *nodes);
        if (!nodes)
                return -ENOMEM;
        for (const struct context *child = LIST_FIRST(&c->children);
                        child && n < CHILDREN_MAX && bytes < CHILDREN_BYTES_MAX && looks < CHILDREN_LOOKS_MAX;
                        child = LIST_NEXT(child, siblings), looks++) {
                char path[CTXD_PATH_MAX + 1];

                if (child->released || !tree_allows(e->service->tree, &p->caller, child, VERB_LOOK))
                        continue;
                if (path_to_object(context_path(child, path), &nodes[n]) < 0)
                        break;
                bytes += strlen(nodes[n++]);
        }
        *ret_nodes = nodes;
        return 0;
}

#define METHOD(name)                                                                     \
        static int method_##name(sd_bus_message *m, void *userdata, sd_bus_error *error) \
        {                                                                                \
                struct request q;                                                        \
                int r = request_init_context(&q, m, userdata, error);                    \
                return request_end(&q, PRIVILEGE_MANAGE, r < 0 ? r : verb_##name(&q));   \
        }

METHOD(cancel)
METHOD(cancel_cause)
METHOD(err)
METHOD(done)
METHOD(undone)
METHOD(drained)
METHOD(lifeline)
METHOD(attach)
METHOD(extend)
METHOD(release)
METHOD(derive)

static struct shown_end shown_end(sd_bus *bus, const struct context *c)
{
        struct shown_end end = {.cause = ""};
        struct caller caller;

        if (asking(bus, &caller))
                access_shown_end(endpoint_current(bus)->service->tree, &caller, c, &end);
        return end;
}

/* A property is a statement that appends something about c to reply. */
#define PROPERTY(name, statement)                                                                         \
        static int get_##name(sd_bus *bus, const char *path, const char *interface, const char *property, \
                        sd_bus_message *reply, void *userdata, sd_bus_error *error)                       \
        {                                                                                                 \
                const struct context *c = userdata;                                                       \
                statement                                                                                 \
        }

PROPERTY(path, {
        char buffer[CTXD_PATH_MAX + 1];
        return sd_bus_message_append(reply, "s", context_path(c, buffer));
})
PROPERTY(id, { return sd_bus_message_append(reply, "t", c->id); })
PROPERTY(parent, {
        char buffer[CTXD_PATH_MAX + 1];
        _cleanup_free_ char *object = NULL;
        int r = path_to_object(context_path(c->parent ? c->parent : c, buffer), &object);
        return r < 0 ? r : sd_bus_message_append(reply, "o", object);
})
PROPERTY(state, { return sd_bus_message_append(reply, "s", context_state_name(c)); })
PROPERTY(err, { return sd_bus_message_append(reply, "s", context_err(c)); })
PROPERTY(cause, { return sd_bus_message_append(reply, "s", shown_end(bus, c).cause); })
PROPERTY(cause_error, { return sd_bus_message_append(reply, "i", shown_end(bus, c).error); })
PROPERTY(cause_path, {
        const struct context *origin = shown_end(bus, c).origin;
        char buffer[CTXD_PATH_ID_MAX + 1] = "";
        if (origin)
                context_reference(origin, buffer);
        return sd_bus_message_append(reply, "s", buffer);
})
PROPERTY(canceled_by, {
        const struct cause *by = shown_end(bus, c).by;
        if (!by)
                return sd_bus_message_append(reply, "(uus)", UINT32_MAX, 0, "");
        return sd_bus_message_append(reply, "(uus)", by->uid, (uint32_t) by->pid, by->comm);
})
PROPERTY(deadline, { return sd_bus_message_append(reply, "t", c->deadline_usec); })
PROPERTY(created, { return sd_bus_message_append(reply, "t", c->created_usec); })
PROPERTY(done, {
        return sd_bus_message_append(reply, "t", context_is_done(c) ? c->done_usec : CTXD_USEC_INFINITY);
})
PROPERTY(quiesce, {
        return sd_bus_message_append(
                        reply, "t", c->drained_usec ? c->drained_usec - c->done_usec : CTXD_USEC_INFINITY);
})
PROPERTY(owner_uid, { return sd_bus_message_append(reply, "u", c->uid); })
PROPERTY(owner_gid, { return sd_bus_message_append(reply, "u", c->gid); })
PROPERTY(mode, { return sd_bus_message_append(reply, "u", c->mode); })

/* values_property() answers who asks for that. */
static int get_values(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        return -EOPNOTSUPP;
}

PROPERTY(description, { return sd_bus_message_append(reply, "s", context_description(c)); })

#define U SD_BUS_VTABLE_UNPRIVILEGED
#define CONST SD_BUS_VTABLE_PROPERTY_CONST

const sd_bus_vtable context_vtable[] = {
                SD_BUS_VTABLE_START(0),
                SD_BUS_PROPERTY("Path", "s", get_path, 0, CONST),
                SD_BUS_PROPERTY("Id", "t", get_id, 0, CONST),
                SD_BUS_PROPERTY("Parent", "o", get_parent, 0, CONST),
                SD_BUS_PROPERTY("State", "s", get_state, 0, 0),
                SD_BUS_PROPERTY("Err", "s", get_err, 0, 0),
                SD_BUS_PROPERTY("Cause", "s", get_cause, 0, 0),
                SD_BUS_PROPERTY("CauseError", "i", get_cause_error, 0, 0),
                SD_BUS_PROPERTY("CausePath", "s", get_cause_path, 0, 0),
                SD_BUS_PROPERTY("CanceledBy", "(uus)", get_canceled_by, 0, 0),
                SD_BUS_PROPERTY("DeadlineUSec", "t", get_deadline, 0, 0),
                SD_BUS_PROPERTY("CreatedUSec", "t", get_created, 0, CONST),
                SD_BUS_PROPERTY("DoneUSec", "t", get_done, 0, 0),
                SD_BUS_PROPERTY("QuiesceUSec", "t", get_quiesce, 0, 0),
                SD_BUS_PROPERTY("OwnerUID", "u", get_owner_uid, 0, CONST),
                SD_BUS_PROPERTY("OwnerGID", "u", get_owner_gid, 0, CONST),
                SD_BUS_PROPERTY("Mode", "u", get_mode, 0, CONST),
                SD_BUS_PROPERTY("Values", "a{ss}", get_values, 0, CONST),
                SD_BUS_PROPERTY("Description", "s", get_description, 0, CONST),

                SD_BUS_METHOD_WITH_ARGS("Cancel", SD_BUS_ARGS("s", reason),
                                SD_BUS_RESULT("b", first, "u", contexts, "u", members), method_cancel, U),
                SD_BUS_METHOD_WITH_ARGS("CancelCause", SD_BUS_ARGS("i", error, "s", message),
                                SD_BUS_RESULT("b", first, "u", contexts, "u", members), method_cancel_cause,
                                U),
                SD_BUS_METHOD_WITH_ARGS("Err", SD_BUS_NO_ARGS,
                                SD_BUS_RESULT("s", err, "i", code, "i", error, "s", cause), method_err, U),
                SD_BUS_METHOD_WITH_ARGS("Done", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", done), method_done, U),
                SD_BUS_METHOD_WITH_ARGS("Undone", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_undone, U),
                SD_BUS_METHOD_WITH_ARGS(
                                "Drained", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", drained), method_drained, U),
                SD_BUS_METHOD_WITH_ARGS(
                                "Lifeline", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", lifeline), method_lifeline, U),
                SD_BUS_METHOD_WITH_ARGS("Attach", SD_BUS_ARGS("h", pidfd, "a{sv}", options), SD_BUS_NO_RESULT,
                                method_attach, U),
                SD_BUS_METHOD_WITH_ARGS("Extend", SD_BUS_ARGS("t", deadline_usec), SD_BUS_NO_RESULT,
                                method_extend, U),
                SD_BUS_METHOD_WITH_ARGS("Release", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_release, U),
                SD_BUS_METHOD_WITH_ARGS("Derive", SD_BUS_ARGS("s", label, "a{sv}", options),
                                SD_BUS_RESULT("s", path, "t", id, "o", object), method_derive, U),
                SD_BUS_VTABLE_END,
};

static int append_property(sd_bus *bus, sd_bus_message *m, const sd_bus_vtable *v, const struct context *c)
{
        int r;

        r = sd_bus_message_open_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", v->x.property.member);
        if (r >= 0)
                r = sd_bus_message_open_container(m, SD_BUS_TYPE_VARIANT, v->x.property.signature);
        if (r >= 0)
                r = v->x.property.get(bus, NULL, NULL, NULL, m, (void *) c, NULL);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int context_append_others(sd_bus *bus, sd_bus_message *m, const struct context *c)
{
        int r = 0;

        for (const sd_bus_vtable *v = context_vtable; v->type != _SD_BUS_VTABLE_END && r >= 0; v++)
                if (v->type == _SD_BUS_VTABLE_PROPERTY && v->x.property.get != get_values)
                        r = append_property(bus, m, v, c);
        return r;
}
