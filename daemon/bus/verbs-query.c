/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The members that only answer questions. Lists show what the caller may read. They stop at a limit, and say
 * so. */

#include <errno.h>
#include <string.h>

#include "daemon/bus/error.h"
#include "daemon/bus/walk.h"
#include "util/cleanup.h"
#include "proto/path.h"

/* Long paths and causes fill a list earlier: a reply must not take more memory than that. */
#define LIST_BYTES_MAX (2 << 20)
#define ROW_BYTES 64 /* beside its texts */

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
        struct shown_end end;

        access_shown_end(q->service->tree, &q->caller, c, &end);
        return request_reply(q, "siis", context_err(c), context_err_code(c), end.error, end.cause);
}

/* Finds where a list goes on: behind the context "after". If that came with its id it may be gone, because
 * siblings are in the order of their ids, newest first. Then the list goes on among these, behind *ret_id.
 * The walk looks for that place, for there may be a million of them. polkit is not asked about it. */
static int list_resume(struct request *q, const char *after, const struct context **ret, uint64_t *ret_id)
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
        *ret = LIST_FIRST(&c->children);
        if (*ret)
                *ret_id = reference.id;
        else
                *ret = context_next_skip(c, q->context);
        return 0;
}

static int append_listed(struct walk *w, const struct context *c)
{
        char path[CTXD_PATH_MAX + 1];
        struct shown_end end;

        access_shown_end(w->request.service->tree, &w->request.caller, c, &end);
        context_path(c, path);
        w->contexts++;
        w->bytes += ROW_BYTES + strlen(path) + strlen(end.cause);
        return sd_bus_message_append(w->reply, "(ststts)", path, c->id, context_state_name(c),
                        c->deadline_usec, c->created_usec, end.cause);
}

static bool is_before_resumption(struct walk *w, const struct context *c)
{
        if (w->after_id > 0 && (c->id < w->after_id || c->parent->id != w->after_parent))
                w->after_id = 0;
        return w->after_id > 0;
}

static bool is_full(const struct walk *w)
{
        return w->contexts == w->limit || w->bytes >= LIST_BYTES_MAX;
}

/* 0: there is more to be looked at; 1: all was, or no more is wanted. */
static int list_some(struct walk *w, uint32_t budget)
{
        struct tree *t = w->request.service->tree;
        const struct context *root = w->cursor.root, *c = w->cursor.next;
        int r = 0;

        for (; c && budget > 0 && r >= 0; budget--) {
                if (is_before_resumption(w, c) || !context_is_listed(c) ||
                                !request_allows(&w->request, c, VERB_LOOK)) {
                        /* What is below a released context was released as well, and has members only where
                         * that one counts them. What is below a hidden one is not listed. */
                        c = context_next_skip(c, root);
                        continue;
                }
                tree_reach(t, c);
                if (!context_is_background(c) && is_full(w))
                        break;
                if (!context_is_background(c))
                        r = append_listed(w, c);
                c = context_next(c, root);
        }
        w->cursor.next = c;
        return r < 0 ? r : !c || budget > 0;
}

static int list(struct walk *w, uint32_t budget)
{
        bool truncated;
        int r = 0;

        if (!w->reply) {
                r = sd_bus_message_new_method_return(w->request.message, &w->reply);
                if (r >= 0)
                        r = sd_bus_message_open_container(w->reply, SD_BUS_TYPE_ARRAY, "(ststts)");
        }
        if (r >= 0)
                r = list_some(w, budget);
        truncated = w->cursor.next;
        request_commit(&w->request);
        if (r <= 0)
                return r;
        r = sd_bus_message_close_container(w->reply);
        if (r >= 0)
                r = sd_bus_message_append(w->reply, "b", truncated);
        return r < 0 ? r : walk_send(w);
}

int verb_list(struct request *q)
{
        const struct context *c = q->context;
        uint64_t after_id = 0;
        const char *after;
        uint32_t limit;
        struct walk *w;
        int r;

        r = sd_bus_message_read(q->message, "su", &after, &limit);
        if (r < 0)
                return error_malformed(q->error, r);
        if (after[0] != '\0') {
                r = list_resume(q, after, &c, &after_id);
                if (r < 0)
                        return r;
        }
        w = walk_new(q, q->context, c, list);
        if (!w)
                return -ENOMEM;
        w->limit = request_limit(limit);
        w->after_id = after_id;
        w->after_parent = after_id > 0 ? c->parent->id : 0;
        return walk_begin(w);
}

static int append_task(sd_bus_message *m, const struct member_task *t)
{
        return sd_bus_message_append(m, "(uusst)", t->pid, t->tid, t->comm,
                        t->pid == t->tid && !t->has_entered ? "process" : "thread", t->start_usec);
}

/* Appends a(uusst), and whether there are more. */
static int append_tasks(struct walk *w, const struct member_task *tasks, size_t n)
{
        int r = sd_bus_message_open_container(w->reply, SD_BUS_TYPE_ARRAY, "(uusst)");

        for (size_t i = 0; i < n && i < w->limit && r >= 0; i++, w->bytes += ROW_BYTES)
                r = append_task(w->reply, &tasks[i]);
        if (r >= 0)
                r = sd_bus_message_close_container(w->reply);
        return r < 0 ? r : sd_bus_message_append(w->reply, "b", n > w->limit);
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

static int processes(struct walk *w, uint32_t budget)
{
        _cleanup_free_ struct member_process *members = NULL;
        struct request *q = &w->request;
        size_t n;
        int r;

        r = walk_look(w);
        if (r <= 0)
                return r;
        r = members_look_processes(w->look, &members, &n);
        if (r < 0)
                return r;
        n = KEEP_READABLE(q, members, n);
        r = sd_bus_message_new_method_return(q->message, &w->reply);
        if (r >= 0)
                r = sd_bus_message_open_container(w->reply, SD_BUS_TYPE_ARRAY, "(utus)");
        for (size_t i = 0; i < n && i < w->limit && r >= 0; i++, w->bytes += ROW_BYTES)
                r = sd_bus_message_append(w->reply, "(utus)", members[i].pid, members[i].start_usec,
                                members[i].uid, members[i].comm);
        w->is_truncated = n > w->limit;
        return walk_send_list(w, r);
}

int verb_processes(struct request *q)
{
        int recursive, r;
        uint32_t limit;

        r = sd_bus_message_read(q->message, "b", &recursive);
        if (r < 0)
                return error_malformed(q->error, r);
        r = request_read_limit(q, &limit);
        return r < 0 ? r : walk_members(q, recursive, true, limit, processes);
}

static int members(struct walk *w, uint32_t budget)
{
        _cleanup_free_ struct member_task *tasks = NULL;
        struct request *q = &w->request;
        size_t n;
        int r;

        r = walk_look(w);
        if (r <= 0)
                return r;
        r = members_look_tasks(w->look, q->context, false, &tasks, &n);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_return(q->message, &w->reply);
        if (r >= 0)
                r = append_tasks(w, tasks, n);
        return r < 0 ? r : walk_send(w);
}

int verb_members(struct request *q)
{
        uint32_t limit;
        int r = request_read_limit(q, &limit);

        return r < 0 ? r : walk_members(q, false, false, limit, members);
}

static int preview_reply(struct walk *w)
{
        struct request *q = &w->request;
        _cleanup_free_ struct member_task *tasks = NULL;
        size_t n, shown;
        int r;

        r = w->look ? 0 : engine_look(q->service->engine, q->context, true, false, &w->look);
        if (r >= 0)
                r = walk_look(w);
        if (r <= 0)
                return r;
        r = members_look_tasks(w->look, q->context, true, &tasks, &n);
        if (r < 0)
                return r;
        shown = KEEP_READABLE(q, tasks, n);
        r = sd_bus_message_new_method_return(q->message, &w->reply);
        if (r >= 0)
                r = sd_bus_message_append(w->reply, "uu", w->contexts, (uint32_t) (w->flag ? n : shown));
        if (r >= 0)
                r = append_tasks(w, tasks, shown);
        return r < 0 ? r : walk_send(w);
}

static int preview(struct walk *w, uint32_t budget)
{
        const struct context *root = w->cursor.root, *c = w->cursor.next;

        for (; c && budget > 0; budget--) {
                bool skip;

                tree_reach(w->request.service->tree, c);
                skip = context_is_done(c) || (!w->flag && !request_allows(&w->request, c, VERB_LOOK));
                w->contexts += !skip && !context_is_background(c);
                c = skip ? context_next_skip(c, root) : context_next(c, root);
        }
        w->cursor.next = c;
        return c ? 0 : preview_reply(w);
}

/* Counts what a Cancel would hit. A caller that may cancel the context (flag) gets the same numbers as from
 * the Cancel. Others get the numbers of what they may read. Tasks of contexts that the caller may not read
 * are not listed. */
int verb_preview(struct request *q)
{
        uint32_t limit;
        struct walk *w;
        int r;

        r = request_read_limit(q, &limit);
        if (r < 0)
                return r;
        w = walk_new(q, q->context, q->context, preview);
        if (!w)
                return -ENOMEM;
        w->limit = limit;
        w->flag = request_allows(q, q->context, VERB_CANCEL);
        return walk_begin(w);
}

int verb_current(struct request *q)
{
        char reference[CTXD_PATH_ID_MAX + 1] = "/";
        struct context *c = NULL;
        struct process *process;
        int r;

        r = peer_process(q->peer, &process);
        if (r < 0)
                return error_caller(q->error, r);
        r = engine_context_of(q->service->engine, process, &c);
        if (r < 0)
                return r == -EBUSY ? error_busy(q->error) : r == -ELOOP ? error_too_deep(q->error) : r;
        /* If a member may not read its context, it is not told which one it is. */
        if (c && request_allows(q, c, VERB_LOOK))
                context_reference(c, reference);
        return sd_bus_reply_method_return(q->message, "s", reference);
}
