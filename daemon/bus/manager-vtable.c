/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* org.ctxd1.Manager. Each member only calls its verb, which does the work. proto/org.ctxd1.xml documents the
 * members. */

#include <inttypes.h>
#include <stdio.h>

#include "daemon/bus/request.h"
#include "daemon/bus/vtables.h"

/* Three kinds of members: without a path, with a path as the first argument, with a prefix of paths as the
 * first argument. What polkit has to grant for a context of somebody else, the model says of the verb. */
#define METHOD_WITH(init, name, verb)                                                      \
        static int method_##name(sd_bus_message *m, void *userdata, sd_bus_error *error)   \
        {                                                                                  \
                struct request q;                                                          \
                int r = init(&q, m, error);                                                \
                return request_end(&q, verb_privilege(verb), r < 0 ? r : verb_##name(&q)); \
        }
#define METHOD(name) METHOD_WITH(request_init, name, VERB_CANCEL)
#define METHOD_ON(name, verb) METHOD_WITH(request_init_path, name, verb)
#define METHOD_BELOW(name) METHOD_WITH(request_init_prefix, name, VERB_LOOK)

METHOD(alive)
METHOD(create)
METHOD(create_and_open)
METHOD(current)
METHOD(subscribe)
METHOD(unsubscribe)
METHOD_ON(cancel, VERB_CANCEL)
METHOD_ON(cancel_cause, VERB_CANCEL)
METHOD_ON(extend, VERB_EXTEND)
METHOD_ON(release, VERB_RELEASE)
METHOD_ON(done, VERB_DONE)
METHOD_ON(undone, VERB_LOOK)
METHOD_ON(drained, VERB_DRAINED)
METHOD_ON(lifeline, VERB_LIFELINE)
METHOD_ON(threads, VERB_ENTER)
METHOD_ON(attach, VERB_ATTACH)
METHOD_ON(processes, VERB_LOOK)
METHOD_ON(endings, VERB_LOOK)
METHOD_ON(process, VERB_LOOK)
METHOD_ON(members, VERB_LOOK)
METHOD_ON(values, VERB_LOOK)
METHOD_ON(err, VERB_LOOK)
METHOD_BELOW(list)
METHOD_ON(preview, VERB_LOOK)
METHOD_BELOW(leaks)
METHOD_ON(page, VERB_PAGE)
METHOD_ON(open, VERB_LOOK)

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        return sd_bus_message_append(reply, "s", CTXD_VERSION);
}

static int get_contexts(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const struct endpoint *e = userdata;

        return sd_bus_message_append(reply, "u", e->contexts);
}

static int get_members(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const struct endpoint *e = userdata;

        return sd_bus_message_append(reply, "u", e->members);
}

static int get_leaks_found(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const struct endpoint *e = userdata;

        return sd_bus_message_append(reply, "t", e->leaks);
}

static int get_membership_backend(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const struct endpoint *e = userdata;

        return sd_bus_message_append(reply, "s", engine_membership_backend(e->service->engine));
}

static int get_probe_backend(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const struct endpoint *e = userdata;

        return sd_bus_message_append(reply, "s", engine_probe_backend(e->service->engine));
}

static int get_probe_reason(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const struct endpoint *e = userdata;

        return sd_bus_message_append(reply, "s", engine_probe_reason(e->service->engine));
}

static int get_last_sweep(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const struct endpoint *e = userdata;

        return sd_bus_message_append(reply, "t", engine_probe_last_sweep_usec(e->service->engine));
}

static int get_epoch(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const struct endpoint *e = userdata;
        char text[17];

        snprintf(text, sizeof text, "%016" PRIx64, engine_epoch(e->service->engine));
        return sd_bus_message_append(reply, "s", text);
}

/* Everybody may call. The model decides who may do what. */
#define U SD_BUS_VTABLE_UNPRIVILEGED

#define OPENED                                                                                        \
        SD_BUS_RESULT("s", path, "t", id, "b", made, "u", state, "t", deadline_usec, "ah", page, "t", \
                        number, "t", offset, "t", word)

const sd_bus_vtable manager_vtable[] = {
                SD_BUS_VTABLE_START(0),
                SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_PROPERTY("Contexts", "u", get_contexts, 0, 0),
                SD_BUS_PROPERTY("Members", "u", get_members, 0, 0),
                SD_BUS_PROPERTY("LeaksFound", "t", get_leaks_found, 0, 0),
                SD_BUS_PROPERTY("MembershipBackend", "s", get_membership_backend, 0, 0),
                SD_BUS_PROPERTY("ProbeBackend", "s", get_probe_backend, 0, 0),
                SD_BUS_PROPERTY("ProbeReason", "s", get_probe_reason, 0, 0),
                SD_BUS_PROPERTY("LastSweepUSec", "t", get_last_sweep, 0, 0),
                SD_BUS_PROPERTY("Epoch", "s", get_epoch, 0, SD_BUS_VTABLE_PROPERTY_CONST),

                SD_BUS_METHOD_WITH_ARGS("Create", SD_BUS_ARGS("s", path, "a{sv}", options),
                                SD_BUS_RESULT("s", path, "t", id, "o", object), method_create, U),
                SD_BUS_METHOD_WITH_ARGS("CreateAndOpen",
                                SD_BUS_ARGS("s", path, "a{sv}", options, "b", send_page), OPENED,
                                method_create_and_open, U),
                SD_BUS_METHOD_WITH_ARGS("Cancel", SD_BUS_ARGS("s", path, "s", reason),
                                SD_BUS_RESULT("b", first, "u", contexts, "u", members), method_cancel, U),
                SD_BUS_METHOD_WITH_ARGS("CancelCause", SD_BUS_ARGS("s", path, "i", error, "s", message),
                                SD_BUS_RESULT("b", first, "u", contexts, "u", members), method_cancel_cause,
                                U),
                SD_BUS_METHOD_WITH_ARGS("Extend", SD_BUS_ARGS("s", path, "t", deadline_usec),
                                SD_BUS_NO_RESULT, method_extend, U),
                SD_BUS_METHOD_WITH_ARGS(
                                "Release", SD_BUS_ARGS("s", path), SD_BUS_NO_RESULT, method_release, U),
                SD_BUS_METHOD_WITH_ARGS(
                                "Done", SD_BUS_ARGS("s", path), SD_BUS_RESULT("h", done), method_done, U),
                SD_BUS_METHOD_WITH_ARGS("Undone", SD_BUS_ARGS("s", path), SD_BUS_NO_RESULT, method_undone, U),
                SD_BUS_METHOD_WITH_ARGS("Drained", SD_BUS_ARGS("s", path), SD_BUS_RESULT("h", drained),
                                method_drained, U),
                SD_BUS_METHOD_WITH_ARGS("Lifeline", SD_BUS_ARGS("s", path), SD_BUS_RESULT("h", lifeline),
                                method_lifeline, U),
                SD_BUS_METHOD_WITH_ARGS("Threads", SD_BUS_ARGS("s", path),
                                SD_BUS_RESULT("h", page, "h", kick), method_threads, U),
                SD_BUS_METHOD_WITH_ARGS("Attach", SD_BUS_ARGS("s", path, "h", pidfd, "a{sv}", options),
                                SD_BUS_NO_RESULT, method_attach, U),
                SD_BUS_METHOD_WITH_ARGS(
                                "Current", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", path), method_current, U),
                SD_BUS_METHOD_WITH_ARGS("Processes", SD_BUS_ARGS("s", path, "b", recursive, "u", limit),
                                SD_BUS_RESULT("a(utus)", processes, "b", truncated), method_processes, U),
                SD_BUS_METHOD_WITH_ARGS("Endings", SD_BUS_ARGS("s", path, "b", recursive, "u", limit),
                                SD_BUS_RESULT("a(uta{sv})", endings, "b", truncated), method_endings, U),
                SD_BUS_METHOD_WITH_ARGS("Process", SD_BUS_ARGS("s", path, "u", pid),
                                SD_BUS_RESULT("h", pidfd), method_process, U),
                SD_BUS_METHOD_WITH_ARGS("Members", SD_BUS_ARGS("s", path, "u", limit),
                                SD_BUS_RESULT("a(uusst)", members, "b", truncated), method_members, U),
                SD_BUS_METHOD_WITH_ARGS("Values", SD_BUS_ARGS("s", path), SD_BUS_RESULT("a{ss}", values),
                                method_values, U),
                SD_BUS_METHOD_WITH_ARGS("Err", SD_BUS_ARGS("s", path),
                                SD_BUS_RESULT("s", err, "i", code, "i", error, "s", cause), method_err, U),
                SD_BUS_METHOD_WITH_ARGS("List", SD_BUS_ARGS("s", prefix, "s", after, "u", limit),
                                SD_BUS_RESULT("a(ststts)", contexts, "b", truncated), method_list, U),
                SD_BUS_METHOD_WITH_ARGS("Preview", SD_BUS_ARGS("s", path, "u", limit),
                                SD_BUS_RESULT("u", contexts, "u", members, "a(uusst)", tasks, "b", truncated),
                                method_preview, U),
                SD_BUS_METHOD_WITH_ARGS("Leaks", SD_BUS_ARGS("s", prefix, "u", limit),
                                SD_BUS_RESULT("a(sta{sv})", leaks, "b", truncated), method_leaks, U),
                SD_BUS_METHOD_WITH_ARGS("Page", SD_BUS_ARGS("s", path),
                                SD_BUS_RESULT("h", page, "t", offset, "t", word), method_page, U),
                SD_BUS_METHOD_WITH_ARGS(
                                "Open", SD_BUS_ARGS("s", path, "b", send_page), OPENED, method_open, U),
                SD_BUS_METHOD_WITH_ARGS("Alive", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", alive, "t", epoch),
                                method_alive, U),
                SD_BUS_METHOD_WITH_ARGS(
                                "Subscribe", SD_BUS_ARGS("s", prefix), SD_BUS_NO_RESULT, method_subscribe, U),
                SD_BUS_METHOD_WITH_ARGS("Unsubscribe", SD_BUS_ARGS("s", prefix), SD_BUS_NO_RESULT,
                                method_unsubscribe, U),

                SD_BUS_SIGNAL_WITH_ARGS("ContextNew", SD_BUS_ARGS("s", path, "t", id), 0),
                SD_BUS_SIGNAL_WITH_ARGS(
                                "ContextDone", SD_BUS_ARGS("s", path, "t", id, "s", err, "s", cause), 0),
                SD_BUS_SIGNAL_WITH_ARGS("ContextRemoved", SD_BUS_ARGS("s", path, "t", id), 0),
                SD_BUS_SIGNAL_WITH_ARGS("LeakFound", SD_BUS_ARGS("s", path, "t", id, "a{sv}", report), 0),
                SD_BUS_SIGNAL_WITH_ARGS("LeakResolved", SD_BUS_ARGS("s", path, "t", id, "a{sv}", report), 0),
                SD_BUS_VTABLE_END,
};
