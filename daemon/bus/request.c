/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdarg.h>

#include "daemon/bus/error.h"
#include "daemon/bus/request.h"
#include "daemon/util/cleanup.h"
#include "daemon/util/clock.h"

int request_init(struct request *q, sd_bus_message *m, sd_bus_error *error)
{
        struct peer *p = peer_of_message(m);

        if (!p)
                return error_gone(error);
        *q = (struct request){
                        .service = p->endpoint->service,
                        .endpoint = p->endpoint,
                        .peer = p,
                        .message = m,
                        .error = error,
        };
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
        r = sd_bus_message_read(m, "s", &path);
        if (r < 0)
                return error_malformed(error, r);
        if (empty_is_all && path[0] == '\0')
                path = "/";
        tree_settle(q->service->tree, now_boottime_usec());
        r = tree_find(q->service->tree, &q->peer->caller, path, &q->context, &refused);
        return r < 0 ? error_refused(error, &refused, r) : 0;
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

bool request_may_read(const struct request *q, const struct context *c)
{
        return context_may_read(q->service->tree, c, &q->peer->caller);
}

static int refuse(struct request *q, enum refusal reason, const char *detail, int r)
{
        struct refused refused = {.reason = reason, .detail = detail};

        context_reference(q->context, refused.path);
        return error_refused(q->error, &refused, r);
}

static int want_write(struct request *q)
{
        if (context_may_write(q->service->tree, q->context, &q->peer->caller))
                return 0;
        return refuse(q, REFUSED_ACCESS, "you may read it, but not change it", -EACCES);
}

int request_want_cancelable(struct request *q)
{
        if (!context_is_background(q->context))
                return 0;
        return refuse(q, REFUSED_NOT_CANCELABLE, NULL, -EPERM);
}

int request_want_change(struct request *q)
{
        int r = request_want_cancelable(q);

        return r < 0 ? r : want_write(q);
}

uint32_t request_commit(struct request *q)
{
        return effects_drain(q->service->effects);
}

int request_reply(struct request *q, const char *types, ...)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        va_list ap;
        int r;

        r = sd_bus_message_new_method_return(q->message, &reply);
        if (r >= 0) {
                va_start(ap, types);
                r = sd_bus_message_appendv(reply, types, ap);
                va_end(ap);
        }
        request_commit(q);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}
