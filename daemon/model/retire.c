/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>

#include "daemon/model/internal.h"

/* How a done context goes away. Once neither a member nor a handle holds it, it waits for retain_usec in a
 * queue of its user, and is then forgotten, or, where it has children, with the last of them. The queues are
 * in the order of time by themselves, so that each step is O(1), but for the heap of users that says whose
 * queue is next. A user has two: what was released may go earlier, when its quota is full. */

/* How much is forgotten at a time: others are served between. */
#define FORGET_SLICE 2048
/* What one counts for to which the world has tied something. */
#define COST_TIED 4

/* How far tree_make_room() looks past released contexts that cannot go since they have children. */
#define MAKE_ROOM_LOOK 256

static struct retirement *queue_of(const struct context *c)
{
        return c->released ? &c->user->released : &c->user->retired;
}

static void user_requeue(struct tree *t, struct user *user)
{
        const struct context *a = TAILQ_FIRST(&user->retired), *b = TAILQ_FIRST(&user->released);

        if (!a && !b)
                heap_remove(&t->retiring, user);
        else
                heap_put(&t->retiring, user,
                                !b || (a && a->retire_usec < b->retire_usec) ? a->retire_usec
                                                                             : b->retire_usec);
}

void context_retire(struct tree *t, uint64_t now_usec, struct context *c)
{
        struct retirement *queue;
        const struct context *last;

        if (c->retired != RETIRED_NOT || !context_is_done(c) || context_is_held(c) || c->forgotten)
                return;
        queue = queue_of(c);
        last = TAILQ_LAST(queue, retirement);
        c->retire_usec = last && last->retire_usec > now_usec ? last->retire_usec : now_usec;
        c->retired = RETIRED_QUEUED;
        TAILQ_INSERT_TAIL(queue, c, retirement);
        if (!last)
                user_requeue(t, c->user);
}

static void dequeue(struct tree *t, struct context *c)
{
        struct retirement *queue = queue_of(c);
        bool first = TAILQ_FIRST(queue) == c;

        TAILQ_REMOVE(queue, c, retirement);
        if (first)
                user_requeue(t, c->user);
}

void context_unretire(struct tree *t, struct context *c)
{
        if (c->retired == RETIRED_QUEUED)
                dequeue(t, c);
        c->retired = RETIRED_NOT;
}

void context_forget_quietly(struct tree *t, struct context *c)
{
        assert(LIST_EMPTY(&c->children) && !context_is_held(c) && !c->forgotten);

        endings_step_over(t, c);
        tree_step_cursors_over(t, c);
        context_unretire(t, c);
        index_remove(c->released ? &t->by_id : &t->by_name, c);
        context_give_up_wake(t, c);
        LIST_REMOVE(c, siblings);
        c->parent->n_children--;
        t->n_contexts--;
        context_discharge(c);
        c->forgotten = true;
        STAILQ_INSERT_TAIL(&t->forgotten, c, forgetting);
}

void context_forget(struct tree *t, struct context *c)
{
        for (;;) {
                context_forget_quietly(t, c);
                effect_add(t, c, EFFECT_REMOVED);
                context_decided_forgotten(c);
                c = c->parent;
                if (c->retired != RETIRED_OVERDUE || !LIST_EMPTY(&c->children))
                        return;
        }
}

int tree_forget_overdue(struct tree *t, const struct party *p, uint64_t now_usec, uint32_t budget)
{
        struct user *user;
        int n = 0;

        for (; n < FORGET_SLICE && budget > 0 && (user = heap_first(&t->retiring)); n++) {
                struct context *a = TAILQ_FIRST(&user->retired), *b = TAILQ_FIRST(&user->released);
                struct context *c = !b || (a && a->retire_usec < b->retire_usec) ? a : b;

                if (usec_add(c->retire_usec, t->retain_usec) > now_usec ||
                                (p ? user->party != p : user->party->is_taken))
                        break;
                if (budget != UINT32_MAX)
                        budget -= !c->anchor || budget < COST_TIED ? 1 : COST_TIED;
                if (LIST_EMPTY(&c->children)) {
                        context_forget(t, c);
                } else {
                        dequeue(t, c);
                        c->retired = RETIRED_OVERDUE;
                }
        }
        return n;
}

/* The released ones that can go, up to n. */
static uint64_t count_released(const struct user *user, uint64_t n)
{
        const struct context *c;
        int look = MAKE_ROOM_LOOK;
        uint64_t found = 0;

        TAILQ_FOREACH (c, &user->released, retirement) {
                if (found == n || (!LIST_EMPTY(&c->children) && look-- == 0))
                        break;
                found += LIST_EMPTY(&c->children);
        }
        return found;
}

static void forget_released(struct tree *t, struct user *user, uint64_t n)
{
        struct context *c, *next;

        user->n_ref++; /* may go with its last context */
        for (c = TAILQ_FIRST(&user->released); n > 0; c = next) {
                next = TAILQ_NEXT(c, retirement);
                if (LIST_EMPTY(&c->children)) {
                        context_forget(t, c);
                        n--;
                }
        }
        user_unref(user->users, user);
}

/* What the others have released, where all together hold too much. */
static uint64_t count_others(const struct tree *t, const struct user *user, uint64_t n)
{
        uint64_t found = 0;

        for (const struct user *u = t->users.by_uid; u && found < n; u = u->hh.next)
                if (u != user)
                        found += count_released(u, n - found);
        return found;
}

static void forget_others(struct tree *t, const struct user *user, uint64_t n)
{
        struct user *u = t->users.by_uid, *next;

        /* With its last context a user goes, and so may the next one: its context may have waited for that
         * one. */
        u->n_ref++;
        for (; u; u = next) {
                uint64_t found = u == user ? 0 : count_released(u, n);

                next = u->hh.next;
                if (next)
                        next->n_ref++;
                forget_released(t, u, found);
                n -= found;
                user_unref(&t->users, u);
        }
}

bool tree_make_room(struct tree *t, struct user *user, uint64_t n_own, uint64_t n)
{
        uint64_t own, others;

        /* First count, so that a refused call has changed nothing. */
        own = count_released(user, n > n_own ? n : n_own);
        if (own < n_own)
                return false;
        others = n > own ? count_others(t, user, n - own) : 0;
        if (own + others < n)
                return false;
        forget_released(t, user, own);
        forget_others(t, user, others);
        return true;
}
