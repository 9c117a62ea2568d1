/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/model/internal.h"

/* How contexts become done: by a cancel, a deadline, a release. Nothing here allocates for each context,
 * nothing recurses, and a subtree costs as much as it has active contexts. How it goes through them is
 * ending.c. */

void context_arm_kill(struct tree *t, struct context *c, uint64_t from_usec)
{
        uint64_t next = UINT64_MAX;

        for (unsigned i = 0; c->busy && i < c->n_policies; i++) {
                uint64_t usec = usec_add(c->done_usec, c->policies[i].kill_after_usec);

                if (usec >= from_usec && usec < next)
                        next = usec;
        }
        if (next == UINT64_MAX) {
                context_wake_never(t, c);
                return;
        }
        c->wake_usec = next;
        context_wake_at(t, c, next);
}

void context_become_done(struct tree *t, uint64_t now_usec, struct context *c, enum context_state state,
                unsigned origin_up)
{
        unsigned effects = EFFECT_DONE;

        c->state = state;
        c->origin_up = (uint8_t) origin_up;
        c->done_usec = now_usec;
        if (c->n_busy_below == 0) {
                c->drained_usec = now_usec;
                effects |= EFFECT_DRAINED;
        }
        context_wake_never(t, c);
        if (c->busy)
                context_arm_kill(t, c, 0);
        else
                context_retire(t, now_usec, c);
        effect_add(t, c, effects);
}

void context_set_cause(struct context *c, struct cause *cause)
{
        if (c->cause)
                user_discharge(c->user, RESOURCE_BYTES, strlen(c->cause->message));
        free(c->cause);
        c->cause = cause;
        if (cause)
                user_charge_always(c->user, RESOURCE_BYTES, strlen(cause->message));
}

/* A cancel is not refused for want of room. But no user can keep more by it than may be had else: what
 * there is no room for is the text. Those of the daemon itself are short. */
static struct cause *cause_within_limit(
                const struct context *c, const struct caller *caller, struct cause *cause)
{
        struct cause *without_text;

        if (!cause || (caller->privileges & PRIVILEGE_DAEMON) ||
                        !user_is_at_limit(c->user, RESOURCE_BYTES, strlen(cause->message)))
                return cause;
        cause->message[0] = '\0';
        without_text = realloc(cause, sizeof *cause + 1);
        return without_text ? without_text : cause;
}

int tree_cancel(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                struct cause *cause, uint32_t *ret_contexts, struct refused *ret_refused)
{
        uint32_t n, budget = t->slice;
        int r;

        r = access_check(t, caller, c, VERB_CANCEL, ret_refused);
        if (r >= 0 && cause && strlen(cause->message) > CTXD_REASON_MAX)
                r = refused_because(ret_refused, REFUSED_INVALID, "the reason is longer than 1024 bytes");
        if (r >= 0) {
                tree_settle(t, now_usec);
                tree_reach(t, c);
                r = !context_is_done(c) && !c->forgotten;
        }
        if (r <= 0) {
                free(cause);
                if (r == 0 && ret_contexts)
                        *ret_contexts = 0;
                return r;
        }
        context_set_cause(c, cause_within_limit(c, caller, cause));
        c->by_itself = caller->privileges & PRIVILEGE_DAEMON;
        n = context_end(t, now_usec, c, CONTEXT_CANCELED, &budget);
        if (ret_contexts)
                *ret_contexts = n;
        return 1;
}

void context_give_up_path(struct tree *t, struct context *c)
{
        bool queued = c->retired == RETIRED_QUEUED;

        if (queued)
                context_unretire(t, c);
        c->released = true;
        if (context_lingers(c)) {
                t->n_lingering++;
        } else {
                index_remove(&t->by_name, c);
                index_insert(&t->by_id, c);
        }
        if (queued)
                context_retire(t, t->now_usec, c);
}

int tree_release(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *root,
                struct refused *ret_refused)
{
        uint32_t budget = t->slice;
        struct cause *cause;
        int r;

        r = access_check(t, caller, root, VERB_RELEASE, ret_refused);
        if (r < 0)
                return r;
        tree_settle(t, now_usec);
        tree_reach(t, root);
        if (root->released || root->forgotten)
                return 0;
        if (!context_is_done(root)) {
                cause = cause_new(0, CTXD_CAUSE_RELEASED, caller->uid, caller->pid, caller->comm);
                if (!cause)
                        return -ENOMEM;
                context_set_cause(root, cause);
                context_end(t, now_usec, root, CONTEXT_CANCELED, &budget);
        }

        /* Whoever has no path cannot be a parent of one that has. */
        context_give_up_path(t, root);
        context_decided(t, root, DECIDED_RELEASED);
        context_release_below(t, root, &budget);
        return 0;
}

static bool deadline_update(struct tree *t, struct context *c)
{
        uint64_t parents = c->parent->deadline_usec, own = c->wake_usec, usec = own < parents ? own : parents;
        bool moved = usec != c->deadline_usec;

        c->deadline_usec = usec;
        c->own_deadline = own < parents;
        if (c->own_deadline)
                context_wake_at(t, c, own);
        else
                context_wake_never(t, c);
        if (moved)
                effect_add(t, c, EFFECT_MOVED);
        return moved;
}

/* Whether another extension has come to c, and not to all below it. */
static bool is_extended_below(const struct tree *t, const struct context *c)
{
        const struct cursor *k;

        LIST_FOREACH (k, &t->cursors, cursors)
                if (k->extends && k->next && k->next != c && context_is_below(k->next, c))
                        return true;
        return false;
}

/* From next on, below root. Returns where it goes on; NULL: nowhere. */
static const struct context *update_deadlines(
                struct tree *t, const struct context *root, const struct context *next, uint32_t budget)
{
        for (; next && budget > 0; budget--)
                if (!context_is_done(next) &&
                                (deadline_update(t, (struct context *) next) || is_extended_below(t, next)))
                        next = context_next(next, root);
                else
                        next = context_next_skip(next, root);
        return next;
}

static int extend_begin(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                uint64_t deadline_usec, struct refused *ret_refused)
{
        int r = access_check(t, caller, c, VERB_EXTEND, ret_refused);

        if (r < 0)
                return r;
        tree_settle(t, now_usec);
        tree_reach(t, c);
        if (context_is_done(c))
                return refused_context(ret_refused, REFUSED_DONE, NULL, c);
        if (deadline_usec > c->parent->deadline_usec)
                return refused_context(ret_refused, REFUSED_INVALID,
                                "its parent's deadline is earlier than that", c);
        if (deadline_usec != UINT64_MAX && context_reserve_wake(t, c) < 0)
                return -ENOMEM;
        c->wake_usec = deadline_usec;
        context_decided(t, c, DECIDED_DEADLINE);
        return 0;
}

int tree_extend(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                uint64_t deadline_usec, struct refused *ret_refused)
{
        int r = extend_begin(t, now_usec, caller, c, deadline_usec, ret_refused);

        if (r < 0)
                return r;
        (void) update_deadlines(t, c, c, UINT32_MAX);
        tree_settle(t, now_usec); /* it may be in the past */
        return 0;
}

int tree_extend_begin(struct tree *t, uint64_t now_usec, const struct caller *caller, struct context *c,
                uint64_t deadline_usec, struct cursor *cursor, struct refused *ret_refused)
{
        int r = extend_begin(t, now_usec, caller, c, deadline_usec, ret_refused);

        if (r >= 0) {
                cursor->next = c;
                cursor->extends = true;
        }
        return r;
}

bool tree_extend_some(struct tree *t, uint64_t now_usec, struct cursor *cursor, uint32_t budget)
{
        cursor->next = update_deadlines(t, cursor->root, cursor->next, budget);
        tree_settle(t, now_usec);
        return cursor->next;
}
