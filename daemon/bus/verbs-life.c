/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The members that make, change and end contexts. Each parses and validates its arguments and calls one verb
 * of the model, which authorises before it changes anything. Then the effects are carried out, and the reply
 * is sent. So a refused call has changed nothing, and a reply comes after what it promises. */

#include <errno.h>
#include <string.h>

#include "daemon/bus/error.h"
#include "daemon/bus/later.h"
#include "daemon/bus/options.h"
#include "daemon/bus/walk.h"
#include "util/cleanup.h"
#include "proto/path.h"
#include "util/clock.h"

static struct cause *cause_of(const struct peer *p, int error, const char *message)
{
        return cause_new(error, message, p->caller.uid, p->caller.pid, p->caller.comm);
}

/* The processes that the options of a Create name. */
struct parties {
        struct process *owner, *member; /* NULL: none */
        struct attachment attachment;   /* of the member */
};

static void parties_done(struct parties *p)
{
        engine_process_close(p->owner);
        engine_process_close(p->member);
}

static int parties_find(struct request *q, const struct create_request *req, struct parties *ret)
{
        int r = 0;

        if (req->bind_caller) {
                struct process *peer;

                r = peer_process(q->peer, &peer);
                if (r < 0)
                        return error_caller(q->error, r);
                ret->owner = engine_process_hold(peer);
        } else if (req->owner_pidfd >= 0) {
                r = engine_process_open(q->service->engine, req->owner_pidfd, &ret->owner);
                if (r == -ESRCH)
                        return error_no_such_process(q->error, "The owner has exited already");
                if (r == -EBUSY)
                        return error_busy(q->error);
                if (r < 0)
                        return error_invalid_args(q->error, "Option owner is no pidfd of a process");
        }
        if (req->attach_pidfd >= 0)
                r = request_attachment(q, req->attach_pidfd, &req->attach, &ret->member, &ret->attachment);
        return r;
}

/* What the call has made or found is q->context then. Returns 1 if it was made. page: NULL if it is not
 * wanted. */
static int create(struct request *q, const char *path, struct create_request *req, struct page_place *page)
{
        _cleanup_(parties_done) struct parties parties = {};
        struct refused refused = {};
        uint64_t now, deadline;
        int r;

        r = parties_find(q, req, &parties);
        if (r < 0)
                return r;
        if (parties.member)
                req->options.attach = &parties.attachment;
        now = now_boottime_usec();
        if (req->timeout_usec != CTXD_USEC_INFINITY &&
                        !__builtin_add_overflow(now, req->timeout_usec, &deadline) &&
                        deadline < req->options.deadline_usec)
                req->options.deadline_usec = deadline;

        r = engine_create(q->service->engine, now, &q->caller, path, &req->options, parties.owner,
                        parties.member, page, &q->context, &refused);
        if (r < 0) {
                request_commit(q);
                return r == -EOWNERDEAD ? error_no_such_process(q->error, "The owner has exited already")
                                        : request_attach_error(q, &refused, r);
        }
        return r;
}

static int create_and_reply(struct request *q, const char *path, struct create_request *req)
{
        _cleanup_free_ char *object = NULL;
        char reference[CTXD_PATH_MAX + 1];
        int r;

        r = create(q, path, req, NULL);
        if (r < 0)
                return r;
        context_path(q->context, reference);
        r = path_to_object(reference, &object);
        if (r < 0) {
                request_commit(q);
                return r;
        }
        return request_reply(q, "sto", reference, q->context->id, object);
}

int verb_create(struct request *q)
{
        struct create_request req;
        const char *path;
        int r;

        r = sd_bus_message_read(q->message, "s", &path);
        if (r < 0)
                return error_malformed(q->error, r);
        r = options_read_create(q->message, &req, q->error);
        if (r < 0)
                return r;
        return create_and_reply(q, path, &req);
}

int verb_create_and_open(struct request *q)
{
        struct create_request req;
        struct page_place page;
        const char *path;
        int send_page, r;

        r = sd_bus_message_read_basic(q->message, SD_BUS_TYPE_STRING, &path);
        if (r < 0)
                return error_malformed(q->error, r);
        r = options_read_create(q->message, &req, q->error);
        if (r < 0)
                return r;
        r = sd_bus_message_read_basic(q->message, SD_BUS_TYPE_BOOLEAN, &send_page);
        if (r < 0)
                return error_malformed(q->error, r);
        r = send_page ? request_want_to_send(q, 1) : 0;
        if (r < 0)
                return r;
        r = create(q, path, &req, &page);
        return r < 0 ? r : request_reply_open(q, q->context, &page, r > 0, send_page);
}

int verb_derive(struct request *q)
{
        char path[CTXD_PATH_MAX + 1 + CTXD_LABEL_MAX + 2];
        struct create_request req;
        const char *label;
        size_t length;
        int r;

        r = sd_bus_message_read(q->message, "s", &label);
        if (r < 0)
                return error_malformed(q->error, r);
        r = options_read_create(q->message, &req, q->error);
        if (r < 0)
                return r;
        /* An empty label means that one is made up. */
        if (label[0] != '\0' && !label_is_valid(label, strlen(label))) {
                struct refused refused = {.reason = REFUSED_NAME,
                                .detail = "a label is 1 to 128 of A-Z a-z 0-9 _ . : @ -, not . or .., and "
                                          "does not "
                                          "begin with @"};

                return request_refused(q, &refused, -EINVAL);
        }
        if (context_is_background(q->context))
                path[0] = '\0';
        else
                context_path(q->context, path);
        length = strlen(path);
        if (length > 0 || label[0] == '\0')
                path[length++] = '/';
        strcpy(path + length, label);
        return create_and_reply(q, path, &req);
}

static int cancel(struct request *q, int error, const char *message)
{
        struct refused refused = {};
        uint32_t contexts = 0;
        struct cause *cause;
        struct later *later;
        int r;

        if (strlen(message) > CTXD_REASON_MAX)
                return error_invalid_args(q->error, "A reason has at most %d bytes", CTXD_REASON_MAX);
        if (error < 0)
                return error_invalid_args(q->error, "An error is an errno value, 0 or more, not %d", error);
        r = later_new(q, &later);
        if (r < 0)
                return r;
        cause = cause_of(q->peer, error, message);
        if (!cause) {
                later_free(later);
                return -ENOMEM;
        }
        r = tree_cancel(q->service->tree, now_boottime_usec(), &q->caller, q->context, cause, &contexts,
                        &refused);
        if (r < 0) {
                later_free(later);
                return request_refused(q, &refused, r);
        }
        return later_reply_cancel(q, later, r, contexts);
}

int verb_cancel(struct request *q)
{
        const char *reason;
        int r = sd_bus_message_read_basic(q->message, SD_BUS_TYPE_STRING, &reason);

        return r < 0 ? error_malformed(q->error, r) : cancel(q, 0, reason);
}

int verb_cancel_cause(struct request *q)
{
        const char *message;
        int error, r;

        r = sd_bus_message_read(q->message, "is", &error, &message);
        return r < 0 ? error_malformed(q->error, r) : cancel(q, error, message);
}

static int extend(struct walk *w, uint32_t budget)
{
        struct service *s = w->request.service;
        bool more = tree_extend_some(s->tree, now_boottime_usec(), &w->cursor, budget);
        int r;

        request_commit(&w->request);
        if (more)
                return 0;
        if (!w->request.peer)
                return 1;
        r = sd_bus_message_new_method_return(w->request.message, &w->reply);
        return r < 0 ? r : walk_send(w);
}

int verb_extend(struct request *q)
{
        struct refused refused = {};
        uint64_t deadline;
        struct walk *w;
        int r;

        r = sd_bus_message_read(q->message, "t", &deadline);
        if (r < 0)
                return error_malformed(q->error, r);
        w = walk_new(q, q->context, NULL, extend);
        if (!w)
                return -ENOMEM;
        r = tree_extend_begin(q->service->tree, now_boottime_usec(), &q->caller, q->context, deadline,
                        &w->cursor, &refused);
        w->may_go = w->stays = true;
        if (r >= 0)
                return walk_begin(w);
        walk_free(w);
        return request_refused(q, &refused, r);
}

int verb_release(struct request *q)
{
        struct refused refused = {};
        struct later *later;
        int r;

        r = later_new(q, &later);
        if (r < 0)
                return r;
        r = tree_release(q->service->tree, now_boottime_usec(), &q->caller, q->context, &refused);
        if (r < 0) {
                later_free(later);
                return request_refused(q, &refused, r);
        }
        return later_reply_release(q, later);
}
