/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/model/internal.h"

/* What must hold between two verbs, said once more and the slow way. */

#define CHECK(c, condition)                                                                                 \
        do {                                                                                                \
                if (!(condition)) {                                                                         \
                        char path_[CTXD_PATH_ID_MAX + 1];                                                   \
                        fprintf(stderr, "%s:%d: %s does not hold for %s\n", __FILE__, __LINE__, #condition, \
                                        (c) ? context_reference((c), path_) : "the tree");                  \
                        abort();                                                                            \
                }                                                                                           \
        } while (false)

static bool index_has(const struct index *index, uint64_t hash, const struct context *c)
{
        const struct context *p = index_bucket(index, hash);

        while (p && p != c)
                p = p->next_in_bucket;
        return p;
}

static void check_done(const struct tree *t, const struct context *c)
{
        const struct context *origin = context_origin(c);

        CHECK(c, origin && context_is_below(c, origin) && !context_is_background(origin));
        CHECK(c, origin->origin_up == 0 && origin->state == c->state);
        CHECK(c, !c->half_ended || !TAILQ_EMPTY(&t->endings));
        for (const struct context *p = c; p != origin; p = p->parent)
                CHECK(c, p->parent->state == c->state && p->origin_up == p->parent->origin_up + 1);
        CHECK(c, (c->n_busy_below == 0) <= (c->drained_usec != 0 || c->done_usec == 0));
        CHECK(c, c->drained_usec == 0 || c->drained_usec >= c->done_usec);
        CHECK(c, c->heap_index == 0 || c->busy);
        CHECK(c, (c->retired == RETIRED_NOT) == context_is_held(c));
        CHECK(c, c->retired != RETIRED_OVERDUE || !LIST_EMPTY(&c->children));
}

/* Active below what is done: only where an ending is still to come. */
static bool is_coming(const struct tree *t, const struct context *c, bool release)
{
        const struct ending *e;

        TAILQ_FOREACH (e, &t->endings, endings)
                if (e->is_release == release && c != e->root && context_is_below(c, e->root))
                        return true;
        return false;
}

static void check_active(const struct tree *t, const struct context *c)
{
        uint64_t own = c->wake_usec, parents = c->parent->deadline_usec;

        CHECK(c, !context_is_done(c->parent) || is_coming(t, c, false));
        CHECK(c, c->retired == RETIRED_NOT && !c->released && !c->half_ended);
        CHECK(c, c->done_usec == 0 && c->drained_usec == 0);
        if (LIST_EMPTY(&t->cursors)) { /* else an Extend may be under way */
                CHECK(c, c->deadline_usec == (own < parents ? own : parents));
                CHECK(c, c->own_deadline == (own < parents));
        }
        CHECK(c, c->own_deadline == (c->heap_index != 0));
        CHECK(c, c->heap_index == 0 || c->user->party->wakes.entries[c->heap_index].key == own);
}

static void check_context(const struct tree *t, const struct context *c)
{
        uint32_t children = 0, busy = c->busy;
        const struct context *child;

        CHECK(c, !c->forgotten && c->id > 0 && c->id <= t->last_id && c->user && c->user->n_ref > 0);
        CHECK(c, label_is_user(c->label, strlen(c->label), &(uid_t){0}) || c->user->uid == c->uid);
        LIST_FOREACH (child, &c->children, siblings) {
                CHECK(child, child->parent == c);
                children++;
                busy += child->n_busy_below;
        }
        CHECK(c, c->n_children == children && c->n_busy_below == busy);
        CHECK(c, c->heap_index == 0 || c->user->party->wakes.entries[c->heap_index].object == c);
        CHECK(c, c->heap_index == 0 || c->heap_reserved);
        CHECK(c, !c->parent->released || c->released || is_coming(t, c, true));
        CHECK(c, c->decided == 0 || c->pending != 0);
        if (context_lingers(c))
                CHECK(c, index_has(&t->by_name, context_hash_name(&t->by_name, c), c));
        else if (c->released)
                CHECK(c, index_has(&t->by_id, index_hash_id(&t->by_id, c->id), c));
        else
                CHECK(c, tree_child(t, c->parent, c->label, strlen(c->label)) == c);
        if (context_is_done(c))
                check_done(t, c);
        else
                check_active(t, c);
}

static uint64_t check_queue(const struct retirement *queue, bool released, const struct user *user)
{
        const struct context *c;
        uint64_t last = 0, n = 0;

        TAILQ_FOREACH (c, queue, retirement) {
                CHECK(c, c->retired == RETIRED_QUEUED && c->released == released && c->user == user);
                CHECK(c, c->retire_usec >= last);
                last = c->retire_usec;
                n++;
        }
        return n;
}

/* Each is where it has to be found when its time comes. */
static void check_parties(const struct tree *t, uint64_t reserved)
{
        const struct context *none = NULL;
        uint64_t waking = 0, endings = 0, taken = 0;
        const struct ending *e;

        for (const struct party *p = t->users.parties; p; p = p->hh.next) {
                uint64_t before = endings;

                CHECK(none, heap_is_valid(&p->wakes));
                CHECK(none, p->n_reserved == 0 || p->n_reserved < p->wakes.allocated);
                CHECK(none, (p->due_index != 0) == (p->wakes.n > 0 && !p->is_taken));
                CHECK(none, p->due_index == 0 || t->due.entries[p->due_index].object == p);
                CHECK(none, p->due_index == 0 || t->due.entries[p->due_index].key ==
                                                                 heap_first_key(&p->wakes));
                CHECK(none, p->is_ending == (!TAILQ_EMPTY(&p->endings) && !p->is_taken));
                TAILQ_FOREACH (e, &p->endings, of_party) {
                        CHECK(e->root, e->party == p && e->root->user->party == p);
                        endings++;
                }
                CHECK(none, endings - before == p->n_endings);
                reserved -= p->n_reserved;
                waking += p->wakes.n;
                taken += p->is_taken;
        }
        TAILQ_FOREACH (e, &t->endings, endings)
                endings--;
        CHECK(none, reserved == 0 && waking == t->n_waking && endings == 0 && taken == t->n_taken);
}

void tree_check(const struct tree *t)
{
        const struct context *c = t->background, *none = NULL;
        uint64_t contexts = 0, released = 0, lingering = 0, reserved = 0, queued = 0, waking = 0,
                 retiring = 0, bytes = 0;
        uint64_t used_contexts = 0, used_bytes = 0;

        CHECK(c, !context_is_done(c) && !c->busy && c->n_values == 0 && c->deadline_usec == UINT64_MAX);
        while ((c = context_next(c, t->background))) {
                check_context(t, c);
                contexts++;
                released += c->released && !context_lingers(c);
                lingering += context_lingers(c);
                reserved += c->heap_reserved;
                queued += c->retired == RETIRED_QUEUED;
                waking += c->heap_index != 0;
                bytes += context_bytes(c);
        }
        CHECK(none, contexts == t->n_contexts && contexts - released == t->by_name.n &&
                                        released == t->by_id.n && lingering == t->n_lingering);
        CHECK(none, waking == t->n_waking && heap_is_valid(&t->due) && heap_is_valid(&t->retiring));
        check_parties(t, reserved);

        for (const struct user *user = t->users.by_uid; user; user = user->hh.next) {
                bool any = !TAILQ_EMPTY(&user->retired) || !TAILQ_EMPTY(&user->released);

                queued -= check_queue(&user->retired, false, user) + check_queue(&user->released, true, user);
                retiring += any;
                CHECK(none, any == (user->heap_index != 0));
                used_contexts += user->used[RESOURCE_CONTEXTS];
                used_bytes += user->used[RESOURCE_BYTES];
        }
        CHECK(none, queued == 0 && retiring == t->retiring.n);
        CHECK(none, used_contexts == contexts && used_contexts == t->users.pools[POOL_CONTEXTS].used &&
                                        used_bytes == bytes);

        STAILQ_FOREACH (c, &t->effects, effects)
                CHECK(c, c->pending != 0);
        STAILQ_FOREACH (c, &t->forgotten, forgetting)
                CHECK(c, c->forgotten && !c->user && c->retired == RETIRED_NOT);
}
