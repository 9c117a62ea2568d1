/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "daemon/model/internal.h"

/* What holds a context: members and handles. The model knows of members only whether there may be any. */

/* What a member is attached with again by somebody who may not take it out of where it is: with no less than
 * before. What another user has asked for stays as it is, so that a signal of one user is never sent with the
 * rights of another. */
static struct policy policy_stronger(const struct policy *old, const struct policy *wanted)
{
        struct policy result = *wanted;

        if (old->signal == 0 && old->kill_after_usec == UINT64_MAX)
                return result;
        if (old->uid != wanted->uid)
                return *old;
        if (old->signal != 0)
                result.signal = old->signal;
        if (old->kill_after_usec < result.kill_after_usec)
                result.kill_after_usec = old->kill_after_usec;
        return result;
}

int attachment_policy(const struct tree *t, const struct caller *caller, const struct attachment *a,
                const struct context *below, struct policy *ret, struct refused *ret_refused)
{
        const struct context *from = a->from;
        struct policy policy = a->wanted;
        int r = 1;

        if (!(caller->privileges & PRIVILEGE_DAEMON))
                policy.uid = caller->uid;
        if (from)
                r = access_leave(t, caller, from, below, ret_refused);
        if (r < 0)
                return r;
        *ret = r == 0 && a->from_policy < from->n_policies
                               ? policy_stronger(&from->policies[a->from_policy], &policy)
                               : policy;
        return 0;
}

int attachment_take(struct tree *t, struct context *c, struct attachment *a, const struct policy *policy,
                struct refused *ret_refused)
{
        struct policy *policies;

        for (uint32_t i = 0; i < c->n_policies; i++) {
                const struct policy *p = &c->policies[i];

                if (p->signal == policy->signal && p->kill_after_usec == policy->kill_after_usec &&
                                p->uid == policy->uid) {
                        a->policy = i;
                        a->policy_is_new = false;
                        return 0;
                }
        }
        if (c->n_policies == CONTEXT_POLICIES_MAX)
                return refused_limit(ret_refused, "kinds of attach for a context", NULL, CONTEXT_POLICIES_MAX,
                                CONTEXT_POLICIES_MAX);
        if (policy->kill_after_usec != UINT64_MAX && context_reserve_wake(t, c) < 0)
                return -ENOMEM;
        policies = reallocarray(c->policies, c->n_policies + 1U, sizeof *policies);
        if (!policies)
                return -ENOMEM;
        c->policies = policies;
        policies[c->n_policies] = *policy;
        a->policy = c->n_policies++;
        a->policy_is_new = true;
        if (c->parent) /* else it is being made */
                context_decided(t, c, DECIDED_POLICIES);
        return 0;
}

int tree_attach(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                struct attachment *a, struct refused *ret_refused)
{
        struct policy policy;
        int r;

        r = access_check(t, caller, c, VERB_ATTACH, ret_refused);
        if (r >= 0)
                r = caller_want_process(caller, VERB_ATTACH, a->uids, ret_refused);
        if (r < 0)
                return r;
        tree_settle(t, now_usec);
        tree_reach(t, c);
        if (context_is_done(c))
                return refused_reference(ret_refused, REFUSED_DONE, NULL, c);
        r = attachment_policy(t, caller, a, c, &policy, ret_refused);
        return r < 0 ? r : attachment_take(t, c, a, &policy, ret_refused);
}

void tree_attach_undo(struct tree *t, struct context *c, const struct attachment *a)
{
        if (!a->policy_is_new)
                return;
        assert(a->policy + 1U == c->n_policies); /* nobody else has come between */
        c->n_policies--;
        context_decided(t, c, DECIDED_POLICIES);
}

static void linger(struct tree *t, struct context *c, bool lingers)
{
        index_remove(lingers ? &t->by_id : &t->by_name, c);
        index_insert(lingers ? &t->by_name : &t->by_id, c);
        t->n_lingering += lingers ? 1U : -1U;
}

void tree_attached(struct tree *t, struct context *c)
{
        if (c->busy || c->forgotten || context_is_background(c))
                return;
        tree_reach(t, c);
        context_unretire(t, c);
        c->busy = true;
        for (struct context *p = c; p; p = p->parent) {
                if (p->n_busy_below++ > 0)
                        continue;
                if (p->released)
                        linger(t, p, true);
                if (p->drained_usec != 0) /* it stays so, though not all have left */
                        context_decided(t, p, DECIDED_DRAINED);
        }
        if (context_is_done(c)) /* a child that was born as it ended */
                context_arm_kill(t, c, 0);
}

void tree_left(struct tree *t, uint64_t now_usec, struct context *c)
{
        if (!c->busy)
                return;
        tree_reach(t, c);
        c->busy = false;
        if (context_is_done(c))
                context_wake_never(t, c); /* nobody is left to be killed */
        for (struct context *p = c; p; p = p->parent) {
                if (--p->n_busy_below == 0 && p->released)
                        linger(t, p, false);
                if (context_is_done(p) && p->n_busy_below == 0 && p->drained_usec == 0) {
                        p->drained_usec = now_usec;
                        effect_add(t, p, EFFECT_DRAINED);
                        context_decided(t, p, DECIDED_DRAINED);
                }
        }
        context_retire(t, now_usec, c);
}

void tree_handles_given(struct tree *t, struct context *c)
{
        c->has_handles = true;
        context_unretire(t, c);
}

void tree_handles_closed(struct tree *t, uint64_t now_usec, struct context *c)
{
        c->has_handles = false;
        context_retire(t, now_usec, c);
}
