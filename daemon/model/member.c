/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include "daemon/model/internal.h"

/* What holds a context: members and handles. The model knows of members only whether there may be any. */

int tree_policy(struct tree *t, struct context *c, const struct policy *policy, struct refused *ret_refused)
{
        struct policy *policies;

        if (context_is_background(c))
                return refuse_context(
                                ret_refused, REFUSED_NOT_CANCELABLE, "nothing runs under the background", c);
        tree_reach(t, c);
        if (context_is_done(c))
                return refuse_context(ret_refused, REFUSED_DONE, NULL, c);
        for (unsigned i = 0; i < c->n_policies; i++) {
                const struct policy *p = &c->policies[i];

                if (p->signal == policy->signal && p->kill_after_usec == policy->kill_after_usec &&
                                p->uid == policy->uid)
                        return (int) i;
        }
        if (c->n_policies == CONTEXT_POLICIES_MAX)
                return refuse_limit(ret_refused, "kinds of attach for a context", NULL, CONTEXT_POLICIES_MAX,
                                CONTEXT_POLICIES_MAX);
        if (policy->kill_after_usec != UINT64_MAX && wake_reserve(t, c) < 0)
                return -ENOMEM;
        policies = reallocarray(c->policies, c->n_policies + 1U, sizeof *policies);
        if (!policies)
                return -ENOMEM;
        c->policies = policies;
        policies[c->n_policies] = *policy;
        return c->n_policies++;
}

void tree_attached(struct tree *t, struct context *c)
{
        if (c->busy || c->forgotten || context_is_background(c))
                return;
        tree_reach(t, c);
        unretire(t, c);
        c->busy = true;
        for (struct context *p = c; p; p = p->parent)
                p->n_busy_below++;
        if (context_is_done(c)) /* a child that was born as it ended */
                arm_kill(t, c, 0);
}

void tree_left(struct tree *t, uint64_t now_usec, struct context *c)
{
        if (!c->busy)
                return;
        tree_reach(t, c);
        c->busy = false;
        if (context_is_done(c))
                heap_remove(&t->wakes, c); /* nobody is left to be killed */
        for (struct context *p = c; p; p = p->parent) {
                p->n_busy_below--;
                if (context_is_done(p) && p->n_busy_below == 0 && p->drained_usec == 0) {
                        p->drained_usec = now_usec;
                        effect_add(t, p, EFFECT_DRAINED);
                }
        }
        retire(t, now_usec, c);
}

void tree_handles_given(struct tree *t, struct context *c)
{
        c->has_handles = true;
        unretire(t, c);
}

void tree_handles_closed(struct tree *t, uint64_t now_usec, struct context *c)
{
        c->has_handles = false;
        retire(t, now_usec, c);
}
