/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The members that hand out descriptors (handles, lifelines, pages), and those that attach processes. */

#include <errno.h>

#include "daemon/bus/error.h"
#include "daemon/bus/options.h"
#include "daemon/bus/send.h"
#include "daemon/bus/walk.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* Turns the errors of a function that makes a descriptor into D-Bus errors. */
static int handle_error(struct request *q, const struct refused *refused, int r)
{
        if (r == -EMFILE || r == -ENFILE)
                return sd_bus_error_set(q->error, CTXD_ERROR_LIMITS_EXCEEDED,
                                "The daemon has no descriptor left; LimitNOFILE= of its unit raises the "
                                "limit");
        if (r == -ETOOMANYREFS)
                return sd_bus_error_set(q->error, CTXD_ERROR_LIMITS_EXCEEDED,
                                "Processes of the daemon's user have sent as many descriptors that were not "
                                "received yet as the daemon may open; LimitNOFILE= of its unit raises the "
                                "limit");
        return refused && (r == -EDQUOT || r == -EALREADY) ? request_refused(q, refused, r) : r;
}

static int find_process(struct request *q, struct process **ret)
{
        int r = peer_process(q->peer, ret);

        if (r == -EMFILE || r == -ENFILE)
                return handle_error(q, NULL, r);
        return r < 0 ? error_caller(q->error, r) : 0;
}

int request_want_to_send(struct request *q, unsigned n)
{
        struct refused refused = {};
        uint64_t queued;
        int r;

        if (sd_bus_can_send(q->endpoint->bus, SD_BUS_TYPE_UNIX_FD) <= 0)
                return sd_bus_error_set(q->error, SD_BUS_ERROR_NOT_SUPPORTED,
                                "The reply has a descriptor, and this connection takes none");
        r = q->endpoint->send_fds ? q->endpoint->send_fds(q->endpoint, n, &refused) : 0;
        if (r < 0)
                return request_refused(q, &refused, r);
        /* What has to wait in the queue is sent later. If the kernel refuses that, the connection is lost,
         * and a bus is everybody's. */
        if (sd_bus_get_n_queued_write(q->endpoint->bus, &queued) >= 0 && queued > 0)
                r = send_try(engine_some_descriptor(q->service->engine));
        return r < 0 ? handle_error(q, NULL, r) : 0;
}

static int want_own_process(struct request *q, const struct process *process)
{
        struct refused refused = {};
        uid_t uids[3];
        char comm[16];
        int r;

        r = engine_process_read(process, uids, comm);
        if (r < 0)
                return error_caller(q->error, r);
        r = caller_want_process(&q->caller, VERB_ENTER, uids, &refused);
        return r < 0 ? request_refused(q, &refused, r) : 0;
}

static int give_handle(struct request *q, enum verb verb, enum handle_kind kind)
{
        struct refused refused = {};
        struct process *process;
        uint64_t id = q->context->id;
        int fd, r, is_new;

        r = request_want(q, verb);
        if (r < 0)
                return r;
        r = find_process(q, &process);
        if (r < 0)
                return r;
        r = request_want_to_send(q, 1);
        if (r < 0)
                return r;
        r = is_new = engine_handle(
                        q->service->engine, process, q->caller.uid, q->context, kind, &fd, &refused);
        if (r >= 0)
                r = request_reply(q, "h", fd);
        if (r < 0 && is_new > 0) {
                engine_unsent(fd);
                engine_handle_unsent(q->service->engine, process, q->caller.uid, id, kind);
        }
        return r < 0 ? handle_error(q, &refused, r) : r;
}

int verb_done(struct request *q)
{
        return give_handle(q, VERB_DONE, HANDLE_DONE);
}

int verb_drained(struct request *q)
{
        return give_handle(q, VERB_DRAINED, HANDLE_DRAINED);
}

int verb_undone(struct request *q)
{
        struct process *process;
        int r;

        r = find_process(q, &process);
        if (r < 0)
                return r;
        r = engine_handle_drop(q->service->engine, process, q->caller.uid, q->context, HANDLE_DONE);
        /* A handle that was signalled is not kept, so there may be nothing to give up. */
        if (r < 0 && r != -ENOENT)
                return r;
        request_commit(q);
        return sd_bus_reply_method_return(q->message, NULL);
}

int verb_lifeline(struct request *q)
{
        _cleanup_close_ int fd = -1;
        struct refused refused = {};
        uint64_t id = q->context->id;
        int r, is_new;

        r = request_want(q, VERB_LIFELINE);
        if (r < 0)
                return r;
        r = request_want_to_send(q, 1);
        if (r < 0)
                return r;
        r = is_new = engine_lifeline(q->service->engine, q->caller.uid, q->context, &fd, &refused);
        if (r >= 0)
                r = request_reply(q, "h", fd);
        if (r < 0 && fd >= 0)
                engine_unsent(fd);
        if (r < 0 && is_new > 0)
                engine_lifeline_unsent(q->service->engine, id);
        return r < 0 ? handle_error(q, &refused, r) : r;
}

int verb_threads(struct request *q)
{
        struct refused refused = {};
        struct process *process;
        uint64_t id = q->context->id;
        int page, kick, r, is_new;

        r = request_want(q, VERB_ENTER);
        if (r < 0)
                return r;
        r = find_process(q, &process);
        if (r < 0)
                return r;
        r = want_own_process(q, process);
        if (r >= 0)
                r = request_want_to_send(q, 2);
        if (r < 0)
                return r;
        r = is_new = engine_threads(q->service->engine, process, q->context, &page, &kick, &refused);
        if (r >= 0)
                r = request_reply(q, "hh", page, kick);
        if (r < 0 && is_new > 0) {
                engine_unsent(kick);
                engine_threads_unsent(q->service->engine, process, id);
        }
        return r < 0 ? handle_error(q, &refused, r) : r;
}

int verb_alive(struct request *q)
{
        _cleanup_close_ int fd = -1;
        struct refused refused = {};
        uint64_t epoch;
        int r = engine_alive(q->service->engine, q->caller.uid, &fd, &epoch, &refused);

        if (r >= 0)
                r = request_reply(q, "ht", fd, epoch);
        if (r < 0 && fd >= 0)
                engine_unsent(fd);
        return r < 0 ? handle_error(q, &refused, r) : r;
}

int verb_page(struct request *q)
{
        struct page_place page;
        int r;

        r = request_want(q, VERB_PAGE);
        if (r < 0)
                return r;
        r = request_want_to_send(q, 1);
        if (r < 0)
                return r;
        r = engine_page(q->service->engine, q->context, &page);
        if (r >= 0)
                r = request_reply(q, "htt", page.fd, page.offset, page.word);
        return r < 0 ? handle_error(q, NULL, r) : r;
}

int request_reply_open(struct request *q, const struct context *c, const struct page_place *page, bool made,
                bool send_page)
{
        uint64_t id = c->id, deadline = c->deadline_usec;
        char path[CTXD_PATH_MAX + 1];
        uint32_t state = c->state;

        context_path(c, path);
        if (send_page && page->number > 0 &&
                        request_reply(q, "stbutahttt", path, id, made, state, deadline, 1, page->fd,
                                        page->number, page->offset, page->word) >= 0)
                return 1;
        /* The context is there also where its page cannot be sent. Who lacks that asks for it. */
        return request_reply(q, "stbutahttt", path, id, made, state, deadline, 0, page->number, page->offset,
                        page->word);
}

int verb_open(struct request *q)
{
        struct page_place page;
        int send_page, r;

        r = sd_bus_message_read(q->message, "b", &send_page);
        if (r < 0)
                return error_malformed(q->error, r);
        r = request_want(q, VERB_LOOK);
        if (r >= 0 && send_page)
                r = request_want_to_send(q, 1);
        if (r < 0)
                return r;
        r = engine_page_for(q->service->engine, &q->caller, q->context, &page);
        return r < 0 ? handle_error(q, NULL, r) : request_reply_open(q, q->context, &page, false, send_page);
}

int request_attachment(struct request *q, int pidfd, const struct attach_options *options,
                struct process **ret_process, struct attachment *ret)
{
        _cleanup_(engine_process_closep) struct process *process = NULL;
        const char *why;
        int r;

        r = engine_process_open(q->service->engine, pidfd, &process);
        if (r < 0)
                return request_attach_error(q, NULL, r);
        why = engine_process_refused(process);
        if (why)
                return error_invalid_args(q->error, "That process cannot be a member: %s", why);
        if (options->subreaper) {
                r = peer_process(q->peer, &ret->reaper);
                if (r < 0)
                        return error_caller(q->error, r);
                if (!engine_may_reap(q->service->engine, process, ret->reaper))
                        return error_invalid_args(q->error,
                                        "Option subreaper is for a child of the caller in the same context");
        }
        r = engine_describe(q->service->engine, process, ret);
        if (r < 0)
                return request_attach_error(q, NULL, r);
        ret->wanted = (struct policy){.signal = options->signal, .kill_after_usec = CTXD_USEC_INFINITY};
        if (options->has_kill_after)
                ret->wanted.kill_after_usec = options->kill_after_usec;
        else if (options->signal != 0)
                ret->wanted.kill_after_usec = q->service->kill_after_usec;
        *ret_process = TAKE_PTR(process);
        return 0;
}

int request_attach_error(struct request *q, const struct refused *refused, int r)
{
        if (refused && refused->reason)
                return request_refused(q, refused, r);
        if (r == -ESRCH)
                return error_no_such_process(q->error, "The process to attach has exited already");
        if (r == -EBUSY)
                return error_busy(q->error);
        if (r == -ELOOP)
                return error_too_deep(q->error);
        if (r == -EINVAL)
                return error_invalid_args(q->error, "That descriptor is no pidfd of a process");
        return handle_error(q, refused, r);
}

int verb_attach(struct request *q)
{
        _cleanup_(engine_process_closep) struct process *process = NULL;
        struct attachment attachment = {};
        struct attach_options options;
        struct refused refused = {};
        int pidfd, r;

        r = sd_bus_message_read(q->message, "h", &pidfd);
        if (r < 0)
                return error_malformed(q->error, r);
        r = options_read_attach(q->message, &options, q->error);
        if (r < 0)
                return r;
        /* This comes before anything is done with the descriptor. */
        r = request_want(q, VERB_ATTACH);
        if (r < 0)
                return r;
        r = request_attachment(q, pidfd, &options, &process, &attachment);
        if (r < 0)
                return r;
        r = tree_attach(q->service->tree, now_boottime_usec(), &q->caller, q->context, &attachment, &refused);
        if (r >= 0)
                r = engine_join(q->service->engine, q->context, process, &attachment, &refused);
        request_commit(q);
        return r < 0 ? request_attach_error(q, &refused, r) : sd_bus_reply_method_return(q->message, NULL);
}

/* Where the walk has found the process with that pid. */
static int send_process(struct request *q, const struct member_process *member)
{
        _cleanup_close_ int fd = -1;
        struct refused refused = {};
        struct process *process;
        int r;

        /* The start time shows whether another process has got the pid since the list was made. */
        r = engine_open_member(q->service->engine, member, &process);
        if (r < 0)
                return r == -EBUSY ? error_busy(q->error) : 0;
        r = engine_open_process(q->service->engine, process, q->caller.uid, &fd, &refused);
        engine_process_close(process);
        if (r == -ESRCH)
                return 0;
        if (r >= 0)
                r = request_want_to_send(q, 1);
        if (r >= 0)
                r = request_reply(q, "h", fd);
        if (r < 0 && fd >= 0)
                engine_unsent(fd);
        return r < 0 ? handle_error(q, &refused, r) : 1;
}

static int process(struct walk *w, uint32_t budget)
{
        _cleanup_free_ struct member_process *members = NULL;
        struct request *q = &w->request;
        size_t n;
        int r;

        r = walk_look(w);
        if (r <= 0)
                return r;
        r = members_look_processes(w->look, &members, &n);
        for (size_t i = 0; i < n && r == 0; i++)
                if (members[i].pid == w->limit && request_allows(q, members[i].context, VERB_LOOK))
                        r = send_process(q, &members[i]);
        return r != 0 ? r
                      : sd_bus_error_setf(q->error, CTXD_ERROR_NO_SUCH_PROCESS,
                                        "Process %u is no member of this context", w->limit);
}

int verb_process(struct request *q)
{
        uint32_t pid;
        int r;

        r = sd_bus_message_read(q->message, "u", &pid);
        if (r < 0)
                return error_malformed(q->error, r);
        return walk_members(q, true, false, pid, process);
}
