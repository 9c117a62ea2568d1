/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The members that only answer questions. Lists show what the caller may read. They stop at a limit, and say
 * so. */

#include <errno.h>
#include <string.h>

#include "daemon/bus/error.h"
#include "daemon/bus/request.h"
#include "util/cleanup.h"
#include "proto/path.h"

#define LIST_LIMIT_MAX 10000 /* it is also the limit if the caller says 0 */

static uint32_t bound(uint32_t limit)
{
        return limit == 0 || limit > LIST_LIMIT_MAX ? LIST_LIMIT_MAX : limit;
}

const char *context_state_name(const struct context *c)
{
        switch ((enum context_state) c->state) {
        case CONTEXT_ACTIVE:
                return "active";
        case CONTEXT_CANCELED:
                return "canceled";
        case CONTEXT_DEADLINE_EXCEEDED:
                return "deadline-exceeded";
        }
        return "active";
}

int verb_err(struct request *q)
{
        const struct context *c = q->context;
        const char *cause = "";
        int error = 0;

        if (context_is_done(c))
                cause = context_cause(c, &error);
        return request_reply(q, "siis", context_err(c), context_err_code(c), error, cause);
}

int message_append_values(sd_bus_message *m, const struct context *c)
{
        int r;

        r = sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "{ss}");
        for (const struct context *a = c; a && r >= 0; a = a->parent)
                for (size_t i = 0; i < a->n_values && r >= 0; i++) {
                        const char *key = a->values[i].key;

                        /* A nearer context may hide this value. */
                        if (context_value(c, key) == a->values[i].value)
                                r = sd_bus_message_append(m, "{ss}", key, a->values[i].value);
                }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int verb_values(struct request *q)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_message_new_method_return(q->message, &reply);
        if (r >= 0)
                r = message_append_values(reply, q->context);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

/* Finds where a list goes on: behind the context "after". If that came with its id it may be gone, because
 * siblings are in the order of their ids, newest first. polkit is not asked about it. */
static int list_resume(struct request *q, const char *after, const struct context **ret)
{
        struct tree *t = q->service->tree;
        struct reference reference;
        struct refused refused = {};
        struct context *c;
        const char *why;
        char *slash;
        int r;

        r = tree_find(t, &q->caller, after, &c, &refused);
        /* A released context is found by its id, and still has its place. */
        if (r >= 0) {
                if (!context_is_below(c, q->context))
                        return error_invalid_args(q->error, "%s is not in the list that is asked for", after);
                *ret = context_next(c, q->context);
                return 0;
        }
        if (refused.reason != REFUSED_NO_SUCH ||
                        reference_parse(after, q->caller.uid, false, &reference, &why) < 0 ||
                        reference.id == 0)
                return error_refused(q->error, &refused, r);

        slash = strrchr(reference.path, '/');
        if (slash)
                *slash = '\0';
        r = tree_find(t, &q->caller, slash ? reference.path : "/", &c, &refused);
        if (r < 0)
                return error_refused(q->error, &refused, r);
        if (!context_is_below(c, q->context))
                return error_invalid_args(q->error, "%s is not in the list that is asked for", after);
        for (struct context *child = LIST_FIRST(&c->children); child; child = LIST_NEXT(child, siblings))
                if (child->id < reference.id) {
                        *ret = child;
                        return 0;
                }
        *ret = context_next_skip(c, q->context);
        return 0;
}

static int append_listed(sd_bus_message *m, const struct context *c)
{
        char path[CTXD_PATH_MAX + 1];

        return sd_bus_message_append(m, "(ststts)", context_path(c, path), c->id, context_state_name(c),
                        c->deadline_usec, c->created_usec, context_is_done(c) ? context_cause(c, NULL) : "");
}

int verb_list(struct request *q)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const struct context *c = q->context;
        const char *after;
        uint32_t limit, n = 0;
        int r;

        r = sd_bus_message_read(q->message, "su", &after, &limit);
        if (r < 0)
                return error_malformed(q->error, r);
        limit = bound(limit);
        if (after[0] != '\0') {
                r = list_resume(q, after, &c);
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_new_method_return(q->message, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, SD_BUS_TYPE_ARRAY, "(ststts)");
        while (c && r >= 0) {
                if (c->released || !request_allows(q, c, VERB_LOOK)) {
                        /* What is below a released context has no path, either. What is below a hidden one is
                         * not listed. */
                        c = context_next_skip(c, q->context);
                        continue;
                }
                tree_reach(q->service->tree, c);
                if (!context_is_background(c)) {
                        if (n == limit)
                                break;
                        r = append_listed(reply, c);
                        n++;
                }
                c = context_next(c, q->context);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        if (r >= 0)
                r = sd_bus_message_append(reply, "b", c != NULL);
        request_commit(q);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

static int append_task(sd_bus_message *m, const struct member_task *t)
{
        return sd_bus_message_append(m, "(uusst)", t->pid, t->tid, t->comm,
                        t->pid == t->tid && !t->has_entered ? "process" : "thread", t->start_usec);
}

/* Appends a(uusst), and whether there are more. */
static int append_tasks(sd_bus_message *m, const struct member_task *tasks, size_t n, uint32_t limit)
{
        int r = sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "(uusst)");

        for (size_t i = 0; i < n && i < limit && r >= 0; i++)
                r = append_task(m, &tasks[i]);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_append(m, "b", n > limit);
}

static int read_limit(struct request *q, uint32_t *ret)
{
        int r = sd_bus_message_read(q->message, "u", ret);

        if (r < 0)
                return error_malformed(q->error, r);
        *ret = bound(*ret);
        return 0;
}

/* Moves the entries of contexts that the caller may read to the front, in their order. Gives how many they
 * are. */
#define KEEP_READABLE(q, array, n)                                               \
        ({                                                                       \
                size_t kept_ = 0;                                                \
                for (size_t i_ = 0; i_ < (n); i_++)                              \
                        if (request_allows((q), (array)[i_].context, VERB_LOOK)) \
                                (array)[kept_++] = (array)[i_];                  \
                kept_;                                                           \
        })

int verb_processes(struct request *q)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_free_ struct member_process *members = NULL;
        int recursive, r;
        uint32_t limit;
        size_t n;

        r = sd_bus_message_read(q->message, "b", &recursive);
        if (r < 0)
                return error_malformed(q->error, r);
        r = read_limit(q, &limit);
        if (r < 0)
                return r;
        r = engine_processes(q->service->engine, q->context, recursive, &members, &n);
        if (r < 0)
                return r;
        n = KEEP_READABLE(q, members, n);
        r = sd_bus_message_new_method_return(q->message, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, SD_BUS_TYPE_ARRAY, "(utus)");
        for (size_t i = 0; i < n && i < limit && r >= 0; i++)
                r = sd_bus_message_append(reply, "(utus)", members[i].pid, members[i].start_usec,
                                members[i].uid, members[i].comm);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        if (r >= 0)
                r = sd_bus_message_append(reply, "b", n > limit);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

int verb_members(struct request *q)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_free_ struct member_task *tasks = NULL;
        uint32_t limit;
        size_t n;
        int r;

        r = read_limit(q, &limit);
        if (r < 0)
                return r;
        r = engine_tasks(q->service->engine, q->context, false, &tasks, &n);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_return(q->message, &reply);
        if (r >= 0)
                r = append_tasks(reply, tasks, n, limit);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

/* Counts what a Cancel would hit. A caller that may cancel the context gets the same numbers as from the
 * Cancel. Others get the numbers of what they may read. Tasks of contexts that the caller may not read are
 * not listed. */
int verb_preview(struct request *q)
{
        bool may_cancel = request_allows(q, q->context, VERB_CANCEL);
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_free_ struct member_task *tasks = NULL;
        uint32_t limit, contexts = 0;
        size_t n, shown;
        int r;

        r = read_limit(q, &limit);
        if (r < 0)
                return r;
        for (const struct context *c = q->context; c;) {
                bool skip;

                tree_reach(q->service->tree, c);
                skip = context_is_done(c) || (!may_cancel && !request_allows(q, c, VERB_LOOK));

                contexts += !skip && !context_is_background(c);
                c = skip ? context_next_skip(c, q->context) : context_next(c, q->context);
        }
        r = engine_tasks(q->service->engine, q->context, true, &tasks, &n);
        if (r < 0)
                return r;
        shown = KEEP_READABLE(q, tasks, n);
        r = sd_bus_message_new_method_return(q->message, &reply);
        if (r >= 0)
                r = sd_bus_message_append(reply, "uu", contexts, (uint32_t) (may_cancel ? n : shown));
        if (r >= 0)
                r = append_tasks(reply, tasks, shown, limit);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

static int append_leak_of(sd_bus_message *m, const struct context *c, const struct leak *leak)
{
        char path[CTXD_PATH_MAX + 1];
        int r;

        r = sd_bus_message_open_container(m, SD_BUS_TYPE_STRUCT, "sta{sv}");
        if (r >= 0)
                r = sd_bus_message_append(m, "st", context_path(c, path), c->id);
        if (r >= 0)
                r = message_append_leak(m, c, leak);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int verb_leaks(struct request *q)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        struct leak_cursor cursor = {};
        const struct leak *leak;
        bool truncated = false;
        uint32_t limit, n = 0;
        struct context *c;
        int r;

        r = read_limit(q, &limit);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_return(q->message, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, SD_BUS_TYPE_ARRAY, "(sta{sv})");
        while (r >= 0 && !truncated &&
                        (leak = engine_next_leak(q->service->engine, q->context, &cursor, &c))) {
                if (!request_allows(q, c, VERB_LOOK))
                        continue;
                truncated = n++ == limit;
                if (!truncated)
                        r = append_leak_of(reply, c, leak);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        if (r >= 0)
                r = sd_bus_message_append(reply, "b", truncated);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

int verb_current(struct request *q)
{
        char reference[CTXD_PATH_ID_MAX + 1] = "/";
        struct context *c = NULL;
        struct process *process;
        int r;

        r = peer_process(q->peer, &process);
        if (r < 0)
                return error_gone(q->error);
        c = engine_context_of(q->service->engine, process);
        /* If a member may not read its context, it is not told which one it is. */
        if (c && request_allows(q, c, VERB_LOOK))
                context_reference(c, reference);
        return sd_bus_reply_method_return(q->message, "s", reference);
}
