/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/model/internal.h"
#include "daemon/model/restore.h"

/* The decisions one by one. What they come to is restore-finish.c. */

int tree_restore_begin(struct restore *r, struct tree *t)
{
        assert(t->n_contexts == 0);
        *r = (struct restore){.tree = t};
        return index_init(&r->ids, context_hash_id, t->by_id.key);
}

void tree_restore_deinit(struct restore *r)
{
        index_deinit(&r->ids);
}

static struct context *find(const struct restore *r, uint64_t id)
{
        struct context *c = index_bucket(&r->ids, index_hash_id(&r->ids, id));

        while (c && c->id != id)
                c = c->next_in_bucket;
        return c;
}

/* Other code counts on these, and they were so when it was made. A name may be one that is refused today. */
static bool fits_below(const struct context *parent, const char *label)
{
        size_t length = strlen(label), labels = 1;

        if (length == 0 || length > CTXD_LABEL_MAX || strchr(label, '/'))
                return false;
        for (const struct context *p = parent; p->parent; p = p->parent) {
                length += strlen(p->label) + 1;
                labels++;
        }
        return length <= CTXD_PATH_MAX && labels <= CTXD_LABELS_MAX;
}

/* The newest comes first. One that was just made is the first. One that comes in the order of context_next()
 * is behind the last that did, or behind an ancestor of that. */
static void link_to_siblings(struct restore *r, struct context *c, bool is_in_order)
{
        struct context *before = r->last, *next = LIST_FIRST(&c->parent->children);

        if (is_in_order)
                r->last = c;
        if (!next || next->id < c->id) {
                LIST_INSERT_HEAD(&c->parent->children, c, siblings);
                return;
        }
        while (before && before->parent != c->parent)
                before = before->parent;
        if (!before || before->id < c->id)
                before = next;
        while ((next = LIST_NEXT(before, siblings)) && next->id > c->id)
                before = next;
        LIST_INSERT_AFTER(before, c, siblings);
}

static int set_cause(struct context *c, const struct restored_cause *d)
{
        struct cause *cause = NULL;

        if (d) {
                cause = cause_new(d->error, d->message, d->uid, d->pid, d->comm);
                if (!cause)
                        return -ENOMEM;
        }
        context_set_cause(c, cause);
        return 0;
}

static int set_end(struct restore *r, struct context *c, const struct restored_end *end)
{
        if (end->state == CONTEXT_ACTIVE || end->done_usec == 0 || end->origin_up >= CTXD_LABELS_MAX)
                return -EBADMSG;
        c->state = end->state;
        c->by_itself = end->by_itself;
        c->origin_up = (uint8_t) end->origin_up;
        c->done_usec = end->done_usec;
        c->drained_usec = end->drained_usec;
        c->deadline_usec = end->deadline_usec;
        c->own_deadline = false;
        if (end->again)
                effect_add(r->tree, c, EFFECT_DONE | (end->origin_up == 0 ? EFFECT_ROOT : 0));
        return 0;
}

/* What it is charged for is at any moment what it has, since that is given back if the rest fails. */
static int fill_in(struct restore *r, struct context *c, const struct restored_context *d)
{
        uint64_t bytes;
        int k = set_cause(c, d->cause);

        bytes = context_bytes(c);
        if (k >= 0)
                k = context_copy_values(c, d->values, d->n_values);
        if (k < 0)
                return k;
        user_charge_always(c->user, RESOURCE_BYTES, context_bytes(c) - bytes);
        return d->end ? set_end(r, c, d->end) : 0;
}

int tree_restore_context(struct restore *r, const struct restored_context *d)
{
        struct tree *t = r->tree;
        struct context *c, *parent = r->parent;

        /* Most come after a sibling. */
        if (!parent || parent->id != d->parent_id)
                parent = d->parent_id == 0 ? t->background : find(r, d->parent_id);
        if (!parent)
                return -ENOENT;
        r->parent = parent;
        if (d->id == 0 || d->id > RESTORE_ID_MAX || (d->id <= r->highest_id && find(r, d->id)) ||
                        !fits_below(parent, d->label) || d->n_values > UINT8_MAX || (d->released && !d->end))
                return -EBADMSG;
        c = context_new(d->label, strlen(d->label), d->description);
        if (!c)
                return -ENOMEM;
        c->user = user_ref(&t->users, d->uid);
        if (!c->user) {
                context_free(c);
                return -ENOMEM;
        }
        c->id = d->id;
        if (c->id > r->highest_id)
                r->highest_id = c->id;
        c->uid = d->uid;
        c->gid = d->gid;
        c->mode = d->mode;
        c->implied = d->implied;
        c->released = d->released;
        c->created_usec = d->created_usec;
        c->wake_usec = d->own_deadline_usec;
        c->grace_usec = d->grace_usec;
        /* Linked before it can fail, so that tree_free() finds it. */
        c->parent = parent;
        link_to_siblings(r, c, d->is_in_order);
        parent->n_children++;
        t->n_contexts++;
        index_insert(&r->ids, c);
        user_charge_always(c->user, RESOURCE_CONTEXTS, 1);
        user_charge_always(c->user, RESOURCE_BYTES, context_bytes(c));
        (void) tree_restore_used(r, c->id, label_number(c->label));
        return fill_in(r, c, d);
}

int tree_restore_end(struct restore *r, uint64_t id, const struct restored_end *end,
                const struct restored_cause *cause)
{
        struct context *c = find(r, id);
        int k = c ? set_cause(c, cause) : -ENOENT;

        return k < 0 ? k : set_end(r, c, end);
}

int tree_restore_drained(struct restore *r, uint64_t id, uint64_t drained_usec)
{
        struct context *c = find(r, id);

        if (!c)
                return -ENOENT;
        c->drained_usec = drained_usec; /* it may be known to be done only in the end */
        return 0;
}

int tree_restore_released(struct restore *r, uint64_t id)
{
        struct context *c = find(r, id);

        if (!c)
                return -ENOENT;
        c->released = true;
        return 0;
}

int tree_restore_deadline(struct restore *r, uint64_t id, uint64_t own_deadline_usec)
{
        struct context *c = find(r, id);

        if (!c)
                return -ENOENT;
        if (context_is_done(c))
                return -EBADMSG;
        c->wake_usec = own_deadline_usec;
        return 0;
}

int tree_restore_policies(struct restore *r, uint64_t id, const struct policy *policies, unsigned n)
{
        struct context *c = find(r, id);
        struct policy *copy = NULL;

        if (!c)
                return -ENOENT;
        if (n > CONTEXT_POLICIES_MAX)
                return -EBADMSG;
        if (n > 0) {
                copy = reallocarray(NULL, n, sizeof *copy);
                if (!copy)
                        return -ENOMEM;
                memcpy(copy, policies, n * sizeof *copy);
        }
        free(c->policies);
        c->policies = copy;
        c->n_policies = (uint8_t) n;
        return 0;
}

/* They come in any order, so one with children waits for the last of these. */
int tree_restore_forgotten(struct restore *r, uint64_t id)
{
        struct context *c = find(r, id), *parent;

        if (!c)
                return -ENOENT;
        c->retired = RETIRED_OVERDUE;
        for (; c->retired == RETIRED_OVERDUE && LIST_EMPTY(&c->children); c = parent) {
                parent = c->parent;
                if (r->last == c)
                        r->last = NULL;
                if (r->parent == c)
                        r->parent = NULL;
                if (c->pending != 0)
                        STAILQ_REMOVE(&r->tree->effects, c, context, effects);
                index_remove(&r->ids, c);
                LIST_REMOVE(c, siblings);
                parent->n_children--;
                r->tree->n_contexts--;
                context_discharge(c);
                context_free(c);
        }
        return 0;
}

int tree_restore_used(struct restore *r, uint64_t last_id, uint64_t last_label)
{
        struct tree *t = r->tree;

        if (last_id > RESTORE_ID_MAX || last_label > RESTORE_ID_MAX)
                return -EBADMSG;
        if (last_id > t->last_id)
                t->last_id = last_id;
        if (last_label > t->last_label)
                t->last_label = last_label;
        return 0;
}
