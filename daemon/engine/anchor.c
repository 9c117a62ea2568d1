/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "daemon/engine/internal.h"

/* Makes, finds and removes anchors (daemon/world/anchor.h). When a context is forgotten, every room gives up
 * what it has tied to that context. The anchor itself stays until engine_collect(), because news may still
 * point to it. */

struct anchor *anchor_of(struct engine *e, struct context *c)
{
        struct anchor *a = c->anchor;

        if (a)
                return a;
        a = calloc(1, sizeof *a);
        if (!a)
                return NULL;
        a->context_id = c->id;
        a->context = c;
        a->is_done = context_is_done(c);
        a->handles_closed = (struct fact){.kind = FACT_HANDLES_CLOSED, .id = c->id};
        a->member_left = (struct fact){.kind = FACT_MEMBER_LEFT, .id = c->id};
        a->threads_changed = (struct fact){.kind = FACT_THREADS_CHANGED, .id = c->id};
        LIST_INIT(&a->handles);
        LIST_INIT(&a->entrances);
        TAILQ_INIT(&a->leaks);
        HASH_ADD(hh, e->anchors, context_id, sizeof a->context_id, a);
        if (!a->hh.tbl) {
                free(a);
                return NULL;
        }
        c->anchor = a;
        return a;
}

struct anchor *anchor_find(const struct engine *e, uint64_t context_id)
{
        struct anchor *a;

        HASH_FIND(hh, e->anchors, &context_id, sizeof context_id, a);
        return a;
}

void anchor_remove(struct engine *e, struct context *c)
{
        struct anchor *a = c->anchor;

        if (!a)
                return;
        owner_unbind(a);
        a->lifeline = lifeline_free(a->lifeline);
        handles_drop_context(e->handles, a);
        leaks_drop(e->leaks, a);
        probe_forget(e->probe, a);
        threads_drop_context(a);
        membership_close(e->membership, a);
        page_drop(e->pages, a);
        fact_withdraw(&e->world.facts, &a->handles_closed);
        fact_withdraw(&e->world.facts, &a->member_left);
        fact_withdraw(&e->world.facts, &a->threads_changed);
        HASH_DEL(e->anchors, a);
        c->anchor = NULL;
        LIST_INSERT_HEAD(&e->removed, a, removed);
}

uint32_t anchors_collect(struct engine *e, uint32_t n)
{
        struct anchor *a;
        uint32_t freed = 0;

        for (; freed < n && (a = LIST_FIRST(&e->removed)); freed++) {
                LIST_REMOVE(a, removed);
                free(a);
        }
        return freed;
}

void anchors_free(struct engine *e)
{
        struct anchor *a, *next;

        HASH_ITER (hh, e->anchors, a, next)
                anchor_remove(e, a->context);
        (void) anchors_collect(e, UINT32_MAX);
}
