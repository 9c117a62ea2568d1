/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/bus/error.h"
#include "daemon/bus/message-size.h"
#include "daemon/bus/object.h"
#include "daemon/bus/polkit.h"
#include "util/cleanup.h"
#include "util/log.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define POLKIT_OBJECT "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE "org.freedesktop.PolicyKit1.Authority"
#define ALLOW_USER_INTERACTION 1u

/* How long polkit may take: rules are quick, and a person needs time. */
#define TIMEOUT_USEC (20 * UINT64_C(1000000))
#define TIMEOUT_INTERACTIVE_USEC (300 * UINT64_C(1000000))

/* This is well above a Create with all the values that it may have by default. */
#define MESSAGE_MAX (256 * 1024)

static const struct action {
        unsigned privilege;
        const char *id, *message;
} actions[] = {
                {PRIVILEGE_READ, "org.ctxd1.read",
                                "Authentication is required to look at context '$(context)'."},
                {PRIVILEGE_MANAGE, "org.ctxd1.manage",
                                "Authentication is required to manage context '$(context)'."},
                {PRIVILEGE_FIRST_LABEL, "org.ctxd1.create-first-label",
                                "Authentication is required to create context '$(context)'."},
};

/* A message that waits for an answer, or that has one and is being handled again. */
struct question {
        struct polkit *polkit;
        struct peer *peer;
        sd_bus_message *message;
        sd_bus_slot *asking; /* NULL: it is answered */
        uint64_t id;
        unsigned asking_for;                 /* a privilege */
        unsigned asked, granted, challenged; /* privileges */
        struct charge charge;
        LIST_ENTRY(question) questions;
};

struct polkit {
        struct endpoint *endpoint; /* on the system bus */
        LIST_HEAD(, question) asking, answered;
        struct question *running; /* the answered one whose message is handled now, or was handled last */
        sd_event_source *settle;  /* forgets running */
        uint64_t last_id;
        sd_bus_slot *asking_owner, *asking_activatable;
        bool owned, activatable;
        bool complained;
};

static struct question *question_free(struct question *q)
{
        if (!q)
                return NULL;
        if (q->polkit->running == q)
                q->polkit->running = NULL;
        LIST_REMOVE(q, questions);
        sd_bus_slot_unref(q->asking);
        sd_bus_message_unref(q->message);
        charge_deinit(&q->charge);
        free(q);
        return NULL;
}

/* Nobody waits for the answer any more: tells polkit to close its dialog. */
static void call_off(struct question *q)
{
        char id[32];

        snprintf(id, sizeof id, "ctxd-%" PRIu64, q->id);
        (void) sd_bus_call_method_async(q->polkit->endpoint->bus, NULL, POLKIT_NAME, POLKIT_OBJECT,
                        POLKIT_INTERFACE, "CancelCheckAuthorization", NULL, NULL, "s", id);
}

/* There is a limit on how many messages are kept for a uid, and on how large each is. */
static int question_charge(struct question *q, struct refused *ret_refused)
{
        struct tree *t = q->polkit->endpoint->service->tree;
        struct user *user;
        int r;

        if (!message_is_up_to(q->message, MESSAGE_MAX)) {
                *ret_refused = (struct refused){.reason = REFUSED_LIMIT,
                                .limit = "bytes of a message that polkit is asked about",
                                .used = MESSAGE_MAX,
                                .allowed = MESSAGE_MAX};
                return -EDQUOT;
        }
        user = user_ref(&t->users, q->peer->caller.uid);
        if (!user)
                return -ENOMEM;
        r = tree_charge(t, &q->charge, user, RESOURCE_QUESTIONS, 1, ret_refused);
        user_unref(&t->users, user);
        return r;
}

static int question_new(struct polkit *p, struct peer *peer, sd_bus_message *m, struct question **ret,
                struct refused *ret_refused)
{
        struct question *q = calloc(1, sizeof *q);
        int r;

        if (!q)
                return -ENOMEM;
        q->polkit = p;
        q->peer = peer;
        q->message = sd_bus_message_ref(m);
        LIST_INSERT_HEAD(&p->asking, q, questions);
        r = question_charge(q, ret_refused);
        if (r < 0) {
                question_free(q);
                return r;
        }
        *ret = q;
        return 0;
}

static void no_answer(struct question *q, const sd_bus_error *error)
{
        struct polkit *p = q->polkit;

        if (sd_bus_error_has_names(error, SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER)) {
                p->owned = p->activatable = false;
                return;
        }
        if (sd_bus_error_has_names(error, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_TIMEOUT))
                call_off(q);
        if (!p->complained)
                log_warning("polkit does not say what other users may: %s",
                                error->message ? error->message : error->name);
        p->complained = true;
}

static int on_answer(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        struct question *q = userdata;
        struct polkit *p = q->polkit;
        int authorized = false, challenge = false, r = -EIO;

        q->asking = sd_bus_slot_unref(q->asking);
        if (sd_bus_message_is_method_error(reply, NULL))
                no_answer(q, sd_bus_message_get_error(reply));
        else
                r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_STRUCT, "bba{ss}");
        if (r >= 0 && sd_bus_message_read(reply, "bb", &authorized, &challenge) >= 0)
                p->complained = false;
        q->asked |= q->asking_for;
        if (authorized)
                q->granted |= q->asking_for;
        else if (challenge)
                q->challenged |= q->asking_for;

        LIST_REMOVE(q, questions);
        LIST_INSERT_HEAD(&p->answered, q, questions);
        r = sd_bus_enqueue_for_read(p->endpoint->bus, q->message);
        if (r < 0) {
                sd_bus_reply_method_errno(q->message, r, NULL);
                question_free(q);
        }
        return 0;
}

static int question_ask(struct question *q, unsigned privilege, const char *context)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        bool interactive = sd_bus_message_get_allow_interactive_authorization(q->message) > 0;
        sd_bus *bus = q->polkit->endpoint->bus;
        const struct action *a = actions;
        char id[32];
        int r;

        while (a->privilege != privilege)
                a++;
        q->id = ++q->polkit->last_id;
        snprintf(id, sizeof id, "ctxd-%" PRIu64, q->id);
        r = sd_bus_message_new_method_call(
                        bus, &m, POLKIT_NAME, POLKIT_OBJECT, POLKIT_INTERFACE, "CheckAuthorization");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sa{sv})sa{ss}us", "system-bus-name", 1, "name", "s",
                                q->peer->name, a->id, 3, "context", context, "verb",
                                sd_bus_message_get_member(q->message), "polkit.message", a->message,
                                interactive ? ALLOW_USER_INTERACTION : 0, id);
        if (r >= 0)
                r = sd_bus_call_async(bus, &q->asking, m, on_answer, q,
                                interactive ? TIMEOUT_INTERACTIVE_USEC : TIMEOUT_USEC);
        if (r < 0)
                return r;
        q->asking_for = privilege;
        LIST_REMOVE(q, questions);
        LIST_INSERT_HEAD(&q->polkit->asking, q, questions);
        return 0;
}

/* While we do not know yet, it is. */
static bool is_there(const struct polkit *p)
{
        return p->owned || p->activatable || p->asking_owner || p->asking_activatable;
}

static struct question *running(const struct polkit *p, const sd_bus_message *m)
{
        return p && p->running && p->running->message == m ? p->running : NULL;
}

unsigned polkit_granted(const struct polkit *p, const sd_bus_message *m)
{
        const struct question *q = running(p, m);

        return q ? q->granted : 0;
}

static int on_settle(sd_event_source *source, void *userdata)
{
        struct polkit *p = userdata;

        question_free(p->running);
        return 0;
}

static int ask(struct polkit *p, struct peer *peer, sd_bus_message *m, unsigned privilege,
                const char *context, struct refused *ret_refused)
{
        struct question *q = running(p, m);
        int r;

        if (!q) {
                r = question_new(p, peer, m, &q, ret_refused);
                if (r < 0)
                        return r;
        }
        if (p->running == q)
                p->running = NULL;
        r = question_ask(q, privilege, context);
        if (r < 0)
                question_free(q);
        return r;
}

int polkit_refused(struct polkit *p, struct peer *peer, sd_bus_message *m, unsigned privilege,
                const char *context, sd_bus_error *error, int r)
{
        const struct question *q = running(p, m);
        bool direct = peer->endpoint != p->endpoint;
        struct refused refused = {};

        if (q ? (q->asked & privilege & ~q->challenged) != 0 : !is_there(p))
                return r;
        sd_bus_error_free(error);
        if (direct || (q && (q->challenged & privilege)))
                return error_interactive(error, direct);
        r = ask(p, peer, m, privilege, context, &refused);
        return r < 0 ? error_refused(error, &refused, r) : 1;
}

static int object_refused(struct polkit *p, struct peer *peer, sd_bus_message *m, sd_bus_error *error)
{
        struct caller caller = peer->caller;
        struct reference reference;
        unsigned lacks;

        caller.privileges = polkit_granted(p, m);
        lacks = object_privilege(p->endpoint->service->tree, &caller, m, &reference);
        return lacks == 0 ? 0 : polkit_refused(p, peer, m, lacks, reference.path, error, 0);
}

int polkit_object_refused(struct polkit *p, struct peer *peer, sd_bus_message *m, sd_bus_error *error)
{
        return p && peer->endpoint != p->endpoint ? object_refused(p, peer, m, error) : 0;
}

bool polkit_take(struct polkit *p, sd_bus_message *m)
{
        struct question *q;

        if (p->running && p->running->message != m)
                question_free(p->running);
        LIST_FOREACH (q, &p->answered, questions)
                if (q->message == m) {
                        p->running = q;
                        sd_event_source_set_enabled(p->settle, SD_EVENT_ONESHOT);
                        return true;
                }
        return false;
}

int polkit_filter(struct polkit *p, struct peer *peer, sd_bus_message *m)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = object_refused(p, peer, m, &error);

        return r < 0 ? sd_bus_reply_method_errno(m, r, &error) : r;
}

static void drop(struct polkit *p, struct question *first, const struct peer *peer)
{
        struct question *next;

        for (struct question *q = first; q; q = next) {
                next = LIST_NEXT(q, questions);
                if (peer && q->peer != peer)
                        continue;
                if (q->asking)
                        call_off(q);
                question_free(q);
        }
}

void polkit_peer_gone(struct polkit *p, const struct peer *peer)
{
        drop(p, LIST_FIRST(&p->asking), peer);
        drop(p, LIST_FIRST(&p->answered), peer);
}

void polkit_name_changed(struct polkit *p, const char *name, const char *new_owner)
{
        if (strcmp(name, POLKIT_NAME) == 0)
                p->owned = new_owner[0] != '\0';
}

static int on_owner(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        struct polkit *p = userdata;
        int owned;

        p->asking_owner = sd_bus_slot_unref(p->asking_owner);
        if (!sd_bus_message_is_method_error(reply, NULL) && sd_bus_message_read(reply, "b", &owned) >= 0)
                p->owned = owned;
        return 0;
}

static int on_activatable(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        struct polkit *p = userdata;
        const char *name;

        p->asking_activatable = sd_bus_slot_unref(p->asking_activatable);
        if (sd_bus_message_is_method_error(reply, NULL) ||
                        sd_bus_message_enter_container(reply, SD_BUS_TYPE_ARRAY, "s") < 0)
                return 0;
        while (sd_bus_message_read(reply, "s", &name) > 0)
                p->activatable |= strcmp(name, POLKIT_NAME) == 0;
        return 0;
}

static int call_bus(struct polkit *p, sd_bus_slot **slot, const char *member,
                sd_bus_message_handler_t on_reply, const char *types, const char *argument)
{
        return sd_bus_call_method_async(p->endpoint->bus, slot, "org.freedesktop.DBus",
                        "/org/freedesktop/DBus", "org.freedesktop.DBus", member, on_reply, p, types,
                        argument);
}

int polkit_new(struct endpoint *e, struct polkit **ret)
{
        struct polkit *p = calloc(1, sizeof *p);
        int r;

        if (!p)
                return -ENOMEM;
        p->endpoint = e;
        LIST_INIT(&p->asking);
        LIST_INIT(&p->answered);
        if ((r = sd_event_add_defer(e->service->event, &p->settle, on_settle, p)) < 0 ||
                        (r = sd_event_source_set_enabled(p->settle, SD_EVENT_OFF)) < 0 ||
                        (r = call_bus(p, &p->asking_owner, "NameHasOwner", on_owner, "s", POLKIT_NAME)) < 0 ||
                        (r = call_bus(p, &p->asking_activatable, "ListActivatableNames", on_activatable, NULL,
                                         NULL)) < 0) {
                polkit_free(p);
                return r;
        }
        *ret = p;
        return 0;
}

struct polkit *polkit_free(struct polkit *p)
{
        if (!p)
                return NULL;
        drop(p, LIST_FIRST(&p->asking), NULL);
        drop(p, LIST_FIRST(&p->answered), NULL);
        sd_bus_slot_unref(p->asking_owner);
        sd_bus_slot_unref(p->asking_activatable);
        sd_event_source_disable_unref(p->settle);
        free(p);
        return NULL;
}
