/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "daemon/model/internal.h"

/* What has to be done at some time, or goes on in slices, is kept by party: those who have much of it at one
 * moment do not make the others wait until it is over. Each party has a heap of its own with the contexts
 * that have a deadline, or somebody to be killed. The tree has a heap of the parties, by the first of
 * these times, and a list of those with large ends under way. */

/* So much of the budget is spent at a time, in a turn of the party's. The first part of an end may take more,
 * so that one of usual size is not cut. But to end a context at its deadline, or to forget it, touches much
 * memory that no cache has: 5 us where 200,000 are due. */
#define PIECE 64
/* Everybody looks through the ends that go on. Where a party has so many, they go on before more that is due
 * begins. */
#define ENDINGS_FEW 16

static struct party *party_of(const struct context *c)
{
        return c->user->party;
}

/* Brings the party's place among the others up to date. */
static void place(struct tree *t, struct party *p)
{
        uint64_t first = heap_first_key(&p->wakes);
        bool ends = !TAILQ_EMPTY(&p->endings);

        if (p->is_taken)
                return;
        if (first == UINT64_MAX)
                heap_remove(&t->due, p);
        else if (p->due_index == 0 || t->due.entries[p->due_index].key != first)
                heap_put(&t->due, p, first);
        if (ends && !p->is_ending)
                TAILQ_INSERT_TAIL(&t->ending, p, ending);
        else if (!ends && p->is_ending)
                TAILQ_REMOVE(&t->ending, p, ending);
        p->is_ending = ends;
}

int context_reserve_wake(struct tree *t, struct context *c)
{
        struct party *p = party_of(c);

        if (c->heap_reserved)
                return 0;
        if (heap_reserve(&p->wakes, p->n_reserved + 1) < 0 ||
                        heap_reserve(&t->due, HASH_COUNT(t->users.parties)) < 0)
                return -ENOMEM;
        p->n_reserved++;
        c->heap_reserved = true;
        return 0;
}

void context_give_up_wake(struct tree *t, struct context *c)
{
        context_wake_never(t, c);
        party_of(c)->n_reserved -= c->heap_reserved;
        c->heap_reserved = false;
}

void context_wake_at(struct tree *t, struct context *c, uint64_t usec)
{
        t->n_waking += c->heap_index == 0;
        heap_put(&party_of(c)->wakes, c, usec);
        place(t, party_of(c));
}

void context_wake_never(struct tree *t, struct context *c)
{
        if (c->heap_index == 0)
                return;
        t->n_waking--;
        heap_remove(&party_of(c)->wakes, c);
        place(t, party_of(c));
}

void endings_link(struct tree *t, struct ending *e)
{
        e->party = party_of(e->root);
        e->party->n_endings++;
        TAILQ_INSERT_TAIL(&t->endings, e, endings);
        TAILQ_INSERT_TAIL(&e->party->endings, e, of_party);
        place(t, e->party);
}

void endings_unlink(struct tree *t, struct ending *e)
{
        TAILQ_REMOVE(&t->endings, e, endings);
        TAILQ_REMOVE(&e->party->endings, e, of_party);
        e->party->n_endings--;
        place(t, e->party);
        e->party = NULL;
}

/* Deadlines that have passed, and kills that are due. */
static int wake_some(struct tree *t, struct party *p, uint64_t now_usec, uint32_t *budget)
{
        struct context *c;
        int n = 0;

        while (*budget > 0 && (c = heap_first(&p->wakes)) && heap_first_key(&p->wakes) <= now_usec) {
                if (context_is_done(c)) {
                        effect_add(t, c, EFFECT_KILL);
                        context_arm_kill(t, c, usec_add(now_usec, 1));
                        *budget -= *budget != UINT32_MAX;
                        n++;
                } else { /* an ancestor's end may have come first */
                        n += (int) context_reach(t, c, budget);
                }
        }
        return n;
}

static void note_time(struct tree *t, uint64_t now_usec)
{
        if (now_usec > t->now_usec)
                t->now_usec = now_usec;
}

int tree_settle_some(struct tree *t, uint64_t now_usec, uint32_t *budget)
{
        struct party *p;
        int n = 0;

        note_time(t, now_usec);
        while (*budget > 0 && (p = heap_first(&t->due)) && heap_first_key(&t->due) <= now_usec)
                n += wake_some(t, p, now_usec, budget);
        return n + tree_forget_overdue(t, NULL, now_usec, *budget);
}

/* When the first context is to be forgotten of those whose party is not taken. */
static uint64_t next_forgetting(const struct tree *t)
{
        const struct user *user = heap_first(&t->retiring);

        return user && user->party->is_taken ? UINT64_MAX
                                             : usec_add(heap_first_key(&t->retiring), t->retain_usec);
}

uint64_t tree_next_usec(const struct tree *t)
{
        uint64_t wake = heap_first_key(&t->due), forgetting = next_forgetting(t);

        return wake < forgetting ? wake : forgetting;
}

bool tree_is_behind(const struct tree *t, uint64_t now_usec)
{
        return !TAILQ_EMPTY(&t->ending) || !TAILQ_EMPTY(&t->ended) || tree_next_usec(t) <= now_usec;
}

struct party *tree_take_behind(struct tree *t, uint64_t now_usec)
{
        struct party *p = TAILQ_FIRST(&t->ending);
        const struct user *user = heap_first(&t->retiring);

        if (!p && heap_first_key(&t->due) <= now_usec)
                p = heap_first(&t->due);
        if (!p && user && next_forgetting(t) <= now_usec)
                p = user->party;
        if (!p)
                return NULL;
        if (p->is_ending)
                TAILQ_REMOVE(&t->ending, p, ending);
        p->is_ending = false;
        heap_remove(&t->due, p);
        p->is_taken = true;
        t->n_taken++;
        return user_hold_party(p);
}

bool tree_advance_party(struct tree *t, uint64_t now_usec, struct party *p)
{
        uint32_t budget = tree_part_of_slice(t, PIECE);
        const struct user *user;

        note_time(t, now_usec);
        if (p->n_endings < ENDINGS_FEW)
                (void) wake_some(t, p, now_usec, &budget);
        if (budget > 0)
                (void) tree_forget_overdue(t, p, now_usec, budget);
        endings_advance(t, p, budget);
        user = heap_first(&t->retiring);
        return !TAILQ_EMPTY(&p->endings) || heap_first_key(&p->wakes) <= now_usec ||
               (user && user->party == p &&
                               usec_add(heap_first_key(&t->retiring), t->retain_usec) <= now_usec);
}

void tree_give_back(struct tree *t, struct party *p)
{
        p->is_taken = false;
        t->n_taken--;
        place(t, p);
        user_release_party(&t->users, p);
}
