/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/bus/error.h"
#include "daemon/bus/polkit.h"
#include "daemon/bus/request.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "proto/path.h"

int request_init(struct request *q, sd_bus_message *m, sd_bus_error *error)
{
        struct peer *p = peer_of_message(m);

        *q = (struct request){.message = m, .error = error};
        if (!p)
                return error_gone(error);
        q->service = p->endpoint->service;
        q->endpoint = p->endpoint;
        q->peer = p;
        q->caller = p->caller;
        q->caller.privileges = polkit_granted(q->service->polkit, m);
        return 0;
}

static int init_path(struct request *q, sd_bus_message *m, bool empty_is_all, sd_bus_error *error)
{
        struct refused refused = {};
        const char *path;
        int r;

        r = request_init(q, m, error);
        if (r < 0)
                return r;
        r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &path);
        if (r < 0)
                return error_malformed(error, r);
        if (empty_is_all && path[0] == '\0')
                path = "/";
        tree_settle(q->service->tree, now_boottime_usec());
        r = tree_find(q->service->tree, &q->caller, path, &q->context, &refused);
        return r < 0 ? request_refused(q, &refused, r) : 0;
}

int request_init_path(struct request *q, sd_bus_message *m, sd_bus_error *error)
{
        return init_path(q, m, false, error);
}

int request_init_prefix(struct request *q, sd_bus_message *m, sd_bus_error *error)
{
        return init_path(q, m, true, error);
}

int request_init_context(struct request *q, sd_bus_message *m, struct context *c, sd_bus_error *error)
{
        int r = request_init(q, m, error);

        if (r < 0)
                return r;
        q->context = c;
        return 0;
}

uint32_t request_limit(uint32_t limit)
{
        return limit == 0 || limit > LIST_LIMIT_MAX ? LIST_LIMIT_MAX : limit;
}

int request_read_limit(struct request *q, uint32_t *ret)
{
        int r = sd_bus_message_read(q->message, "u", ret);

        if (r < 0)
                return error_malformed(q->error, r);
        *ret = request_limit(*ret);
        return 0;
}

bool request_allows(const struct request *q, const struct context *c, enum verb verb)
{
        return tree_allows(q->service->tree, &q->caller, c, verb);
}

int request_refused(struct request *q, const struct refused *refused, int r)
{
        q->privilege = refused->privilege;
        return error_refused(q->error, refused, r);
}

/* The context that the call names, for polkit's rules and for the person who is asked. */
static int named_context(struct request *q, struct reference *ret)
{
        const char *text, *why;
        int r;

        if (q->context) {
                context_path(q->context, ret->path);
                return 0;
        }
        r = sd_bus_message_rewind(q->message, true);
        if (r >= 0)
                r = sd_bus_message_read(q->message, "s", &text);
        if (r < 0)
                return r;
        r = reference_parse(text, q->caller.uid, false, ret, &why);
        /* Create takes paths that others do not. */
        return r < 0 ? reference_parse(text, q->caller.uid, true, ret, &why) : r;
}

/* sd-bus says nothing where there is no memory for the error, and the caller would wait for ever. So it is
 * disconnected then. */
static int no_memory(struct request *q)
{
        reserve_note(&q->service->reserve, &q->service->tree->users, -ENOMEM);
        if (sd_bus_reply_method_errno(q->message, -ENOMEM, q->error) < 0 && q->endpoint->is_direct)
                sd_bus_close(q->endpoint->bus);
        return 1;
}

int request_end(struct request *q, unsigned lacks, int r)
{
        struct polkit *polkit = r < 0 && q->privilege != 0 ? q->service->polkit : NULL;
        struct reference named;

        if (r == -ENOMEM && q->service)
                return no_memory(q);
        if (!polkit || named_context(q, &named) < 0)
                return r;
        return polkit_refused(polkit, q->peer, q->message,
                        q->privilege == PRIVILEGE_READ ? lacks : q->privilege, named.path, q->error, r);
}

int request_want(struct request *q, enum verb verb)
{
        struct refused refused = {};
        int r = tree_want(q->service->tree, now_boottime_usec(), &q->caller, q->context, verb, &refused);

        return r < 0 ? request_refused(q, &refused, r) : 0;
}

uint32_t request_commit(struct request *q)
{
        return service_drain(q->service, NULL);
}

int request_reply(struct request *q, const char *types, ...)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        va_list ap;
        int r;

        do {
                reply = sd_bus_message_unref(reply);
                r = sd_bus_message_new_method_return(q->message, &reply);
                if (r >= 0) {
                        va_start(ap, types);
                        r = sd_bus_message_appendv(reply, types, ap);
                        va_end(ap);
                }
        } while (r == -EMFILE && engine_give_back_descriptors(q->service->engine));
        request_commit(q);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

void endpoint_reply_lost(struct endpoint *e, const struct peer *p, int r)
{
        log_debug("A reply to %s was lost: %s", p->name, strerror(-r));
        reserve_note(&e->service->reserve, &e->service->tree->users, r);
        if (e->is_direct) /* the connection's next turn meets the end */
                (void) shutdown(sd_bus_get_fd(e->bus), SHUT_RDWR);
}
