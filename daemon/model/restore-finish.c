/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "daemon/model/internal.h"
#include "daemon/model/restore.h"

/* What the decisions come to, for all contexts, the parents first. Ends are worked out as ending.c does it.
 */

static void end_with_parent(struct tree *t, struct context *c)
{
        const struct context *parent = c->parent;
        bool by_itself = c->own_deadline && c->wake_usec <= parent->done_usec;

        c->state = by_itself ? CONTEXT_DEADLINE_EXCEEDED : parent->state;
        c->origin_up = by_itself ? 0 : (uint8_t) (parent->origin_up + 1);
        c->done_usec = parent->done_usec;
        if (by_itself && (parent->pending & EFFECT_DONE))
                effect_add(t, c, EFFECT_DONE | EFFECT_ROOT);
}

static int finish_done(struct tree *t, struct context *c)
{
        const struct context *parent = c->parent;

        if (c->drained_usec != 0 && c->drained_usec < c->done_usec)
                return -EBADMSG;
        if (parent->released)
                c->released = true;
        if (c->origin_up == 0)
                return 0;
        if (c->state != parent->state || c->origin_up != parent->origin_up + 1)
                return -EBADMSG;
        if (parent->pending & EFFECT_DONE)
                effect_add(t, c, EFFECT_DONE);
        return 0;
}

static int finish_active(struct tree *t, struct context *c)
{
        if (c->released || c->drained_usec != 0)
                return -EBADMSG;
        /* Also where the parent's is earlier, since that may be moved. */
        if (c->wake_usec != UINT64_MAX && context_reserve_wake(t, c) < 0)
                return -ENOMEM;
        if (c->own_deadline)
                context_wake_at(t, c, c->wake_usec);
        return 0;
}

/* Its bucket is at hand: whoever has the name, too, comes behind it. */
static bool has_name_alone(const struct context *c)
{
        const struct context *p = c->released ? NULL : c->next_in_bucket;

        while (p && (p->parent != c->parent || strcmp(p->label, c->label) != 0))
                p = p->next_in_bucket;
        return !p;
}

static int finish_one(struct restore *r, struct context *c)
{
        struct tree *t = r->tree;
        int k;

        if (c->retired != RETIRED_NOT) /* forgotten, and its children were not */
                return -EBADMSG;
        if (!context_is_done(c)) {
                c->own_deadline = c->wake_usec < c->parent->deadline_usec;
                c->deadline_usec = c->own_deadline ? c->wake_usec : c->parent->deadline_usec;
                if (context_is_done(c->parent))
                        end_with_parent(t, c);
        }
        k = context_is_done(c) ? finish_done(t, c) : finish_active(t, c);
        for (unsigned i = 0; k >= 0 && i < c->n_policies; i++)
                if (c->policies[i].kill_after_usec != UINT64_MAX)
                        k = context_reserve_wake(t, c);
        if (k < 0)
                return k;
        index_remove(&r->ids, c);
        index_insert(c->released ? &t->by_id : &t->by_name, c);
        return has_name_alone(c) ? 0 : -EBADMSG;
}

int tree_restore_finish(struct restore *r)
{
        const struct context *root = r->tree->background, *c = root;
        int k = heap_reserve(&r->tree->retiring, r->tree->users.n);

        while (k >= 0 && (c = context_next(c, root)))
                k = finish_one(r, (struct context *) c);
        return k;
}

void tree_restored(struct tree *t, uint64_t now_usec)
{
        const struct context *next = t->background;

        t->now_usec = now_usec;
        while ((next = context_next(next, t->background))) {
                struct context *c = (struct context *) next;

                if (!context_is_done(c))
                        continue;
                if (c->n_busy_below == 0 && c->drained_usec == 0)
                        c->drained_usec = c->done_usec;
                if (c->drained_usec != 0 && (c->pending & EFFECT_DONE))
                        effect_add(t, c, EFFECT_DRAINED);
                context_retire(t, now_usec, c);
        }
}
