/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "daemon/engine/internal.h"
#include "util/cleanup.h"

/* Making processes members. */

static int refuse(struct refused *refused, enum refusal reason, const struct context *c, int r)
{
        memset(refused, 0, sizeof *refused);
        refused->reason = reason;
        context_reference(c, refused->path);
        return r;
}

/* What a member is attached with again by somebody who may not take it out of where it is: not with less than before.
 * What another user has asked for stays whole: a signal of one user is never sent with the rights of another. */
static struct policy stronger(const struct policy *old, const struct policy *wanted)
{
        struct policy result = *wanted;

        if (old->signal == 0 && old->kill_after_usec == CTXD_USEC_INFINITY)
                return result;
        if (old->uid != wanted->uid)
                return *old;
        if (old->signal != 0)
                result.signal = old->signal;
        if (old->kill_after_usec < result.kill_after_usec)
                result.kill_after_usec = old->kill_after_usec;
        return result;
}

int engine_attach(struct engine *e, struct context *c, int pidfd, const struct policy *policy,
                bool (*may_leave)(void *userdata, const struct context *from), void *userdata,
                struct refused *ret_refused)
{
        _cleanup_(process_unrefp) struct process *p = NULL;
        struct policy kept = *policy;
        struct anchor *from, *a;
        uint32_t from_policy;
        int index, r;
        bool is_new;

        if (context_is_background(c))
                return refuse(ret_refused, REFUSED_NOT_CANCELABLE, c, -EPERM);
        if (context_is_done(c))
                return refuse(ret_refused, REFUSED_DONE, c, -EALREADY);
        r = process_acquire(e->processes, pidfd, &p);
        if (r < 0)
                return r;

        from = membership_look_up(e->membership, p, &from_policy);
        if (from && !(may_leave && may_leave(userdata, from->context))) {
                if (!context_is_below(c, from->context))
                        return refuse(ret_refused, REFUSED_ACCESS, from->context, -EACCES);
                if (from_policy < from->context->n_policies)
                        kept = stronger(&from->context->policies[from_policy], policy);
        }
        a = anchor_of(e, c);
        if (!a)
                return -ENOMEM;
        index = tree_policy(e->tree, c, &kept, ret_refused);
        if (index < 0)
                return index;
        is_new = !a->slot;
        r = membership_open(e->membership, a, c->user);
        if (r >= 0)
                r = membership_attach(e->membership, a, p, (uint32_t) index, &kept, c->user);
        if (r == -EDQUOT)
                r = tree_refuse_charge(ret_refused, c->user, RESOURCE_MEMBERS, 1);
        if (r < 0 && is_new) {
                membership_close(
                                e->membership, a); /* as if nobody had asked: the context may be taken back */
                return r;
        }
        /* Where the attach failed, nobody new is in it, and the end of the context looks for itself. */
        tree_attached(e->tree, c);
        return r;
}
