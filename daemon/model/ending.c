/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <stdlib.h>

#include "daemon/model/internal.h"

/* The end of a subtree comes in slices where it is large, so that others are served between. The root of
 * what ends is done at once; an ending then goes through all below it, in the order of context_next(), a
 * slice of work at a time.
 *
 * Nobody sees a context that has not been come to yet: before a verb looks at a context, tree_reach() goes
 * down the path to it, and what the ancestors' end means for it is done then. So there is no moment in which
 * a context reads active below one that reads done, and what a verb finds is what it would have found if all
 * had ended at once; the same goes for deadlines that have passed. Only the world (pages, handles, members)
 * hears of it later: an ending that has gone through all says so, and only then does bus/ reply to who asked
 * for it, and to who asked later (law 5).
 *
 * A release goes the same way. The root is let go of at once, and with it all paths below; what was not come
 * to yet is found by path#id through the names below it (find.c).
 *
 * A context that was reached early is marked (half_ended), since what is below it was not; else an ending
 * steps over what is done: all below that is done as well, or is another ending's. */

static uint32_t cost(const struct context *c)
{
        return 1U + (c->has_handles || c->costly ? 16U : 0) + (c->busy ? 64U : 0);
}

static void spend(uint32_t *budget, uint32_t n)
{
        if (*budget != UINT32_MAX)
                *budget -= n < *budget ? n : *budget;
}

static struct ending *ending_of(const struct tree *t, const struct context *root)
{
        struct ending *e;

        TAILQ_FOREACH (e, &t->endings, endings)
                if (e->root == root && !e->is_release)
                        return e;
        TAILQ_FOREACH (e, &t->ended, endings)
                if (e->root == root && !e->is_release)
                        return e;
        return NULL;
}

/* Its parent is done, and it is not: it ends now, or has ended by itself before. */
static void end_with_parent(struct tree *t, struct context *c)
{
        const struct context *parent = c->parent;

        if (c->own_deadline && c->wake_usec <= parent->done_usec) {
                context_become_done(t, parent->done_usec, c, CONTEXT_DEADLINE_EXCEEDED, 0);
                effect_add(t, c, EFFECT_ROOT);
        } else {
                context_become_done(t, parent->done_usec, c, parent->state, parent->origin_up + 1U);
        }
}

/* Before an ending comes to it. */
static void end_early(struct tree *t, struct context *c)
{
        struct ending *e;

        end_with_parent(t, c);
        c->half_ended = true;
        e = ending_of(t, context_origin(c));
        if (e)
                e->contexts++;
}

static void run(struct tree *t, struct ending *e, uint32_t *budget)
{
        struct context *c;

        while ((c = e->next) && *budget > 0) {
                if (e->is_release) {
                        if (!context_is_done(c))
                                end_early(t, c);
                        if (!c->released)
                                context_give_up_path(t, c);
                } else if (!context_is_done(c)) {
                        end_with_parent(t, c);
                        e->is_mixed |= c->origin_up == 0;
                        e->contexts += !e->is_mixed || context_origin(c) == e->root;
                } else if (c->half_ended) {
                        c->half_ended = false;
                        e->is_mixed = true;
                } else {
                        e->next = context_next_skip(c, e->root);
                        spend(budget, 1);
                        continue;
                }
                e->next = context_next(c, e->root);
                if (e->next)
                        __builtin_prefetch(LIST_NEXT(e->next, siblings));
                spend(budget, cost(c));
        }
}

static void finish(struct tree *t, struct ending *e)
{
        endings_unlink(t, e);
        if (!e->is_release)
                effect_add(t, e->root, EFFECT_ROOT);
        TAILQ_INSERT_TAIL(&t->ended, e, endings);
}

/* As much as may be done now; the rest later. Without memory for that, all of it now. */
static uint32_t begin(struct tree *t, const struct ending *from, uint32_t *budget)
{
        struct ending e = *from, *later;
        uint32_t all = UINT32_MAX;

        run(t, &e, budget);
        if (e.next) {
                later = malloc(sizeof *later);
                if (later) {
                        e.number = ++t->last_ending;
                        *later = e;
                        endings_link(t, later);
                        return e.contexts;
                }
                run(t, &e, &all);
        }
        if (!e.is_release)
                effect_add(t, e.root, EFFECT_ROOT);
        return e.contexts;
}

uint32_t context_end(struct tree *t, uint64_t now_usec, struct context *root, enum context_state state,
                uint32_t *budget)
{
        assert(!context_is_background(root) && !context_is_done(root));

        context_become_done(t, now_usec, root, state, 0);
        context_decided(t, root, DECIDED_END);
        spend(budget, cost(root));
        return begin(t, &(struct ending){.root = root, .next = context_next(root, root), .contexts = 1},
                        budget);
}

void context_release_below(struct tree *t, struct context *root, uint32_t *budget)
{
        struct ending e = {.root = root, .next = context_next(root, root), .is_release = true};

        if (e.next)
                (void) begin(t, &e, budget);
}

uint32_t context_reach(struct tree *t, struct context *c, uint32_t *budget)
{
        struct context *path[CTXD_LABELS_MAX];
        uint32_t n = 0;
        size_t depth = 0;

        if (c->forgotten)
                return 0;
        for (; c->parent; c = c->parent)
                path[depth++] = c;
        while (depth > 0) {
                c = path[--depth];
                if (!context_is_done(c) && context_is_done(c->parent)) {
                        end_early(t, c);
                        n++;
                        spend(budget, cost(c));
                } else if (!context_is_done(c) && c->own_deadline && c->wake_usec <= t->now_usec) {
                        n += context_end(t, t->now_usec, c, CONTEXT_DEADLINE_EXCEEDED, budget);
                }
        }
        return n;
}

void tree_reach(struct tree *t, const struct context *c)
{
        uint32_t budget = t->slice;

        if (!TAILQ_EMPTY(&t->endings) || t->n_taken > 0 || heap_first_key(&t->due) <= t->now_usec)
                (void) context_reach(t, (struct context *) c, &budget);
}

void endings_step_over(struct tree *t, struct context *c)
{
        struct ending *e, *next;

        assert(LIST_EMPTY(&c->children));
        for (e = TAILQ_FIRST(&t->endings); e; e = next) {
                next = TAILQ_NEXT(e, endings);
                if (e->next == c && !(e->next = context_next_skip(c, e->root)))
                        finish(t, e);
        }
}

void endings_advance(struct tree *t, const struct party *p, uint32_t budget)
{
        struct ending *e;

        while (budget > 0 && (e = p ? TAILQ_FIRST(&p->endings) : TAILQ_FIRST(&t->endings))) {
                run(t, e, &budget);
                if (!e->next) {
                        finish(t, e);
                } else { /* in turns */
                        endings_unlink(t, e);
                        endings_link(t, e);
                }
        }
}

bool tree_advance(struct tree *t, uint64_t now_usec)
{
        uint32_t budget = t->slice;

        tree_settle_some(t, now_usec, &budget);
        endings_advance(t, NULL, budget);
        return tree_is_behind(t, now_usec);
}

/* To c, or to a context below it. */
static bool comes_to(const struct ending *e, const struct context *c)
{
        return context_is_below(c, e->root) || context_is_below(e->root, c);
}

uint64_t tree_ending(const struct tree *t, const struct context *c)
{
        const struct ending *e;
        uint64_t last = 0;

        TAILQ_FOREACH (e, &t->endings, endings)
                if (e->number > last && comes_to(e, c))
                        last = e->number;
        return last;
}

struct party *tree_ending_party(const struct tree *t, const struct context *c)
{
        const struct ending *e;
        struct party *p = NULL;

        TAILQ_FOREACH (e, &t->endings, endings) {
                if (!comes_to(e, c))
                        continue;
                if (p && e->party != p)
                        return NULL;
                p = e->party;
        }
        return p;
}

struct party *tree_own_ending_party(const struct tree *t, const struct context *c)
{
        const struct ending *e = ending_of(t, c);

        return e ? e->party : NULL;
}

uint64_t tree_own_ending(const struct tree *t, const struct context *c)
{
        const struct ending *e = ending_of(t, c);

        return e ? e->number : 0;
}

bool tree_is_ended(const struct tree *t, const struct party *p, uint64_t number)
{
        const struct ending *e;

        if (p) {
                TAILQ_FOREACH (e, &p->endings, of_party)
                        if (e->number <= number)
                                return false;
                return true;
        }
        TAILQ_FOREACH (e, &t->endings, endings)
                if (e->number <= number)
                        return false;
        return true;
}

void tree_count_members(struct tree *t, const struct context *c, uint32_t members)
{
        struct ending *e = ending_of(t, context_origin(c));

        if (e)
                e->members += members;
}

struct ending *tree_take_ended(struct tree *t)
{
        struct ending *e = TAILQ_FIRST(&t->ended);

        if (e)
                TAILQ_REMOVE(&t->ended, e, endings);
        return e;
}

void endings_deinit(struct tree *t)
{
        struct ending *e;

        while ((e = tree_take_ended(t)))
                free(e);
        while ((e = TAILQ_FIRST(&t->endings))) {
                endings_unlink(t, e);
                free(e);
        }
}
