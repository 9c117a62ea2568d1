/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a client gets to hold (descriptors), and members, whom the context holds. */

#include <errno.h>

#include "daemon/bus/error.h"
#include "daemon/bus/options.h"
#include "daemon/bus/request.h"
#include "util/cleanup.h"

/* -EMFILE and -EDQUOT of what makes a descriptor. */
static int handle_error(struct request *q, const struct refused *refused, int r)
{
        if (r == -EMFILE || r == -ENFILE)
                return sd_bus_error_set(q->error, CTXD_ERROR_LIMITS_EXCEEDED,
                                "The daemon has no descriptor left; LimitNOFILE= of its unit raises the "
                                "limit");
        return r == -EDQUOT || r == -EALREADY ? request_refused(q, refused, r) : r;
}

static int find_process(struct request *q, struct process **ret)
{
        int r = peer_process(q->peer, ret);

        if (r == -EMFILE || r == -ENFILE)
                return handle_error(q, NULL, r);
        return r < 0 ? error_gone(q->error) : 0;
}

/* So many descriptors go with the reply. Before they are made. */
static int want_to_send(struct request *q, unsigned n)
{
        struct refused refused = {};
        int r = q->endpoint->send_fds ? q->endpoint->send_fds(q->endpoint, n, &refused) : 0;

        return r < 0 ? request_refused(q, &refused, r) : 0;
}

/* What comes by a connection comes from whoever holds its socket. The process that has connected may have execed a
 * setuid program since, and must not be made to work for another uid. */
static int want_own_process(struct request *q, const struct process *process)
{
        uid_t uids[3], uid = q->caller.uid;
        char comm[16];

        if (engine_process_read(process, uids, comm) < 0)
                return error_gone(q->error);
        if (uid != 0 && (uids[0] != uid || uids[1] != uid || uids[2] != uid))
                return sd_bus_error_set(q->error, CTXD_ERROR_ACCESS_DENIED,
                                "The process that has connected is another user's by now");
        return 0;
}

static int give_handle(struct request *q, enum handle_kind kind)
{
        struct refused refused = {};
        struct process *process;
        int fd, r;

        r = request_want_cancelable(q);
        if (r < 0)
                return r;
        r = find_process(q, &process);
        if (r < 0)
                return r;
        r = want_to_send(q, 1);
        if (r < 0)
                return r;
        r = engine_handle(q->service->engine, process, q->caller.uid, q->context, kind, &fd, &refused);
        if (r < 0)
                return handle_error(q, &refused, r);
        return request_reply(q, "h", fd);
}

int verb_done(struct request *q)
{
        return give_handle(q, HANDLE_DONE);
}

int verb_drained(struct request *q)
{
        return give_handle(q, HANDLE_DRAINED);
}

int verb_undone(struct request *q)
{
        struct process *process;
        int r;

        r = find_process(q, &process);
        if (r < 0)
                return r;
        r = engine_handle_drop(q->service->engine, process, q->context, HANDLE_DONE);
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
        int r;

        /* Closing it cancels: that is for those who may cancel. */
        r = request_want_change(q);
        if (r < 0)
                return r;
        r = want_to_send(q, 1);
        if (r < 0)
                return r;
        r = engine_lifeline(q->service->engine, q->caller.uid, q->context, &fd, &refused);
        if (r < 0)
                return handle_error(q, &refused, r);
        return request_reply(q, "h", fd);
}

int verb_threads(struct request *q)
{
        struct refused refused = {};
        struct process *process;
        int page, kick, r;

        /* A thread that enters it is a member, as one that is attached. */
        r = request_want_change(q);
        if (r < 0)
                return r;
        r = find_process(q, &process);
        if (r < 0)
                return r;
        r = want_own_process(q, process);
        if (r >= 0)
                r = want_to_send(q, 2);
        if (r < 0)
                return r;
        r = engine_threads(q->service->engine, process, q->context, &page, &kick, &refused);
        if (r < 0)
                return handle_error(q, &refused, r);
        return request_reply(q, "hh", page, kick);
}

int verb_alive(struct request *q)
{
        uint64_t epoch;
        int fd = engine_alive(q->service->engine, &epoch);

        return request_reply(q, "ht", fd, epoch);
}

int verb_page(struct request *q)
{
        const struct caller *caller = &q->caller;
        uint64_t offset, word;
        int fd, r;

        r = request_want_cancelable(q);
        if (r < 0)
                return r;
        /* A page holds the states of all contexts of a uid: it is for that uid alone. */
        if (caller->uid != q->context->uid && caller->uid != 0) {
                struct refused refused = {.reason = REFUSED_ACCESS,
                                .detail = "the state page is for its owner alone; use Done and Err"};

                context_reference(q->context, refused.path);
                return request_refused(q, &refused, -EACCES);
        }
        r = want_to_send(q, 1);
        if (r < 0)
                return r;
        r = engine_page(q->service->engine, q->context, &fd, &offset, &word);
        if (r < 0)
                return r;
        return request_reply(q, "htt", fd, offset, word);
}

int request_attach_policy(
                struct request *q, int pidfd, const struct attach_options *options, struct policy *ret)
{
        struct process *process;
        uid_t uids[3];
        char comm[16];
        uid_t uid = q->caller.uid;
        int r;

        r = engine_process_open(q->service->engine, pidfd, &process);
        if (r == -ESRCH)
                return error_no_such_process(q->error, "The process to attach has exited already");
        if (r < 0)
                return error_invalid_args(q->error, "That descriptor is no pidfd of a process");
        r = engine_process_read(process, uids, comm);
        engine_process_close(process);
        if (r < 0)
                return error_no_such_process(q->error, "The process to attach has exited already");
        /* Who attaches a process has it signalled on cancel: it needs to be allowed to do that by itself. */
        if (uid != 0 && (uids[0] != uid || uids[1] != uid || uids[2] != uid))
                return sd_bus_error_set(q->error, CTXD_ERROR_ACCESS_DENIED,
                                "Only a process that you may signal can be attached, and this one is another "
                                "user's");

        *ret = (struct policy){.signal = options->signal, .uid = uid, .kill_after_usec = CTXD_USEC_INFINITY};
        if (options->has_kill_after)
                ret->kill_after_usec = options->kill_after_usec;
        else if (options->signal != 0)
                ret->kill_after_usec = q->service->kill_after_usec;
        return 0;
}

bool request_may_leave(void *request, const struct context *from)
{
        const struct request *q = request;

        /* What polkit was asked about is another context, the one that is to be entered. */
        return context_may_write(q->service->tree, from, &q->peer->caller);
}

int request_attach_error(struct request *q, const struct refused *refused, int r)
{
        if (r == -ESRCH)
                return error_no_such_process(q->error, "The process to attach has exited already");
        if (r == -EACCES) /* which one is perhaps none of the caller's business */
                return sd_bus_error_set(q->error, CTXD_ERROR_ACCESS_DENIED,
                                "The process is a member of another context, which you may not take it from");
        if (r == -EALREADY || r == -EDQUOT)
                return request_refused(q, refused, r);
        if (r == -EINVAL)
                return error_invalid_args(q->error, "That descriptor is no pidfd of a process");
        return r;
}

int verb_attach(struct request *q)
{
        struct attach_options options;
        struct refused refused = {};
        struct policy policy;
        int pidfd, r;

        r = sd_bus_message_read(q->message, "h", &pidfd);
        if (r < 0)
                return error_malformed(q->error, r);
        r = options_read_attach(q->message, &options, q->error);
        if (r < 0)
                return r;
        r = request_want_change(q);
        if (r < 0)
                return r;
        r = request_attach_policy(q, pidfd, &options, &policy);
        if (r < 0)
                return r;
        r = engine_attach(q->service->engine, q->context, pidfd, &policy, request_may_leave, q, &refused);
        if (r < 0) {
                request_commit(q);
                return request_attach_error(q, &refused, r);
        }
        request_commit(q);
        return sd_bus_reply_method_return(q->message, NULL);
}

int verb_process(struct request *q)
{
        _cleanup_free_ struct member_process *members = NULL;
        uint32_t pid;
        size_t n;
        int r;

        r = sd_bus_message_read(q->message, "u", &pid);
        if (r < 0)
                return error_malformed(q->error, r);
        r = engine_processes(q->service->engine, q->context, true, &members, &n);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                struct process *process;

                if (members[i].pid != pid || !request_may_read(q, members[i].context))
                        continue;
                /* The start time tells that the number was not used again since the list was made. */
                r = engine_open_member(q->service->engine, &members[i], &process);
                if (r < 0)
                        break;
                r = want_to_send(q, 1);
                if (r >= 0)
                        r = sd_bus_reply_method_return(q->message, "h", engine_process_pidfd(process));
                engine_process_close(process);
                return r;
        }
        return sd_bus_error_setf(
                        q->error, CTXD_ERROR_NO_SUCH_PROCESS, "Process %u is no member of this context", pid);
}
