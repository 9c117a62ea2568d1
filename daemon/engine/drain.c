/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <stdlib.h>

#include "daemon/engine/internal.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* Carries out the effects that the model has left in its queue. Large work comes in slices: a drain does what
 * is in the queue now. Later turns do the rest, and other clients are served between them.
 *
 * All state words are written before the first handle, so nobody sees a readable handle of a context that
 * still reads active (law 6). The words and handles of all contexts come before everything that takes longer:
 * signals, the probe, and news. A context without an anchor costs no call here. */

static void write_words(struct engine *e, const struct effect_queue *queue)
{
        struct page_state state;
        struct context *c;

        STAILQ_FOREACH (c, queue, effects) {
                if (!c->anchor || !(c->pending & (EFFECT_DONE | EFFECT_MOVED)))
                        continue;
                c->anchor->is_done = context_is_done(c);
                if (c->anchor->page_slot) {
                        engine_state_of(e, c, &state);
                        page_update(c->anchor, &state);
                }
        }
}

static void signal_handles(struct engine *e, const struct effect_queue *queue)
{
        struct context *c;

        STAILQ_FOREACH (c, queue, effects)
                if (c->anchor && (c->pending & EFFECT_DONE))
                        handles_signal(e->handles, c->anchor, HANDLE_DONE);
        handles_disarm(e->handles);
}

/* Ends the membership of a done context, and returns how many members have to leave. counts: those that are
 * found while they are signalled are to be counted. in_slices: the end of a large tree has come to it, and
 * its members are counted now. */
static uint32_t end_members(struct engine *e, struct context *c, bool counts, bool in_slices)
{
        struct anchor *a = c->anchor;
        uint32_t n;

        if (!a->slot) {
                tree_left(e->tree, e->world.now_usec, c);
                return 0;
        }
        n = membership_done(e->membership, a, c->done_usec, counts && !in_slices);
        if (in_slices && membership_count_takes_looks(e->membership))
                n += membership_count(e->membership, a);
        n += threads_look(e->thread_pages, a);
        if (n == 0 && membership_live(e->membership, a) == 0) {
                tree_left(e->tree, e->world.now_usec, c);
                membership_left(e->membership, a);
                return 0;
        }
        tree_count_members(e->tree, c, n);
        probe_watch(e->probe, a);
        return n;
}

/* keep: somebody waits until all members have their signals (engine_take_signals()). */
static uint32_t signal_members(struct engine *e, bool keep)
{
        struct signal_pass *pass;
        uint32_t n;

        pass = membership_signal(e->membership, &n);
        if (keep)
                e->signals = pass;
        else
                membership_signal_let_go(pass);
        return n;
}

static uint32_t end_all(struct engine *e, const struct effect_queue *queue, const struct context *origin,
                bool *any_in_slices)
{
        struct context *c;
        uint32_t n = 0;

        STAILQ_FOREACH (c, queue, effects) {
                if (!c->anchor)
                        continue;
                if (c->pending & EFFECT_DONE) {
                        bool counts = !origin || context_origin(c) == origin;
                        bool in_slices = c->anchor->slot && tree_own_ending(e->tree, context_origin(c)) > 0;
                        uint32_t m = end_members(e, c, counts, in_slices);

                        *any_in_slices |= in_slices;
                        if (counts)
                                n += m;
                        owner_unbind(c->anchor);
                        c->anchor->lifeline = lifeline_free(c->anchor->lifeline);
                }
                if ((c->pending & EFFECT_KILL) && c->busy)
                        membership_kill_due(e->membership, c->anchor);
        }
        return n;
}

/* Whether others may read the context than may read its parent. */
static bool is_shown_to_others(const struct context *c)
{
        const struct context *p = c->parent;

        return c->mode != p->mode || c->uid != p->uid || c->gid != p->gid;
}

static void finish(struct engine *e, struct context *c, unsigned effects)
{
        unsigned news = 0;

        /* This comes after end_all(), because most contexts turn out to be drained there. */
        if ((effects & EFFECT_DRAINED) && c->anchor)
                handles_signal(e->handles, c->anchor, HANDLE_DRAINED);
        if (effects & EFFECT_NEW)
                news |= NEWS_CONTEXT_NEW;
        if (effects & EFFECT_ROOT)
                news |= NEWS_CONTEXT_DONE;
        else if ((effects & EFFECT_DONE) && context_origin(c) != c && is_shown_to_others(c))
                news |= NEWS_CONTEXT_DONE_BELOW; /* of a root itself EFFECT_ROOT comes with its last slice */
        if (effects & EFFECT_REMOVED) {
                if (!(effects & EFFECT_SILENT))
                        news |= NEWS_CONTEXT_REMOVED;
                anchor_remove(e, c);
        }
        if (news != 0 && c->news == 0) {
                STAILQ_INSERT_TAIL(&e->news, c, telling);
                e->n_news++;
        }
        c->news |= (uint8_t) news;
}

uint32_t engine_drain(struct engine *e, const struct context *origin)
{
        struct effect_queue queue = STAILQ_HEAD_INITIALIZER(queue);
        bool any_in_slices = false;
        uint32_t n = 0;

        assert(!e->is_draining);
        e->is_draining = true;
        membership_signal_let_go(engine_take_signals(e));
        e->world.now_usec = now_boottime_usec();
        handles_close_spent(e->handles);
        facts_begin(e);
        facts_take(e);
        (void) tree_settle(e->tree, e->world.now_usec);
        while (!STAILQ_EMPTY(&e->tree->effects)) {
                struct context *c;
                unsigned effects;

                STAILQ_CONCAT(&queue, &e->tree->effects);
                write_words(e, &queue);
                thread_pages_forget(e->thread_pages);
                signal_handles(e, &queue);
                n += end_all(e, &queue, origin, &any_in_slices);
                while ((c = effect_take_from(&queue, &effects)))
                        finish(e, c, effects);
                handles_disarm(e->handles);
                facts_take(e);
        }
        n += signal_members(e, origin || any_in_slices); /* once, so that there is one pass to wait for */
        thread_pages_forget(e->thread_pages);
        engine_tell_probe(e);
        if (tree_is_behind(e->tree, e->world.now_usec))
                turn_again(e->turn);
        else
                timer_set(e->timer, tree_next_usec(e->tree));
        e->facts_budget = 0;
        facts_wake(&e->world.facts);
        handles_tidy(e->handles, !TAILQ_EMPTY(&e->tree->endings));
        e->world.now_usec = 0;
        e->is_draining = false;
        return n;
}

struct signal_pass *engine_take_signals(struct engine *e)
{
        return TAKE_PTR(e->signals);
}

int engine_signals_go(struct engine *e, struct signal_pass *p, uint32_t budget, uint32_t *ret_n)
{
        return membership_signal_go(p, budget, ret_n);
}

void engine_signals_let_go(struct engine *e, struct signal_pass *p)
{
        membership_signal_let_go(p);
}

void engine_signals_finish(struct engine *e)
{
        membership_signal_finish(e->membership);
}

/* Gives one kind of news at a time, in the order in which they happened. */
static bool take_context_news(struct engine *e, struct news *ret)
{
        struct context *c = STAILQ_FIRST(&e->news);
        unsigned kind;

        if (!c)
                return false;
        kind = c->news & -c->news;
        c->news &= (uint8_t) ~kind;
        if (c->news == 0) {
                STAILQ_REMOVE_HEAD(&e->news, telling);
                e->n_news--;
        }
        *ret = (struct news){.kind = (enum news_kind) kind, .context = c};
        return true;
}

bool engine_take_news(struct engine *e, struct news *ret)
{
        struct leak *l = leaks_first_news(e->leaks);

        if (!l)
                return take_context_news(e, ret);
        *ret = (struct news){.context = l->anchor->context, .leak = l};
        if (l->tell_found) {
                l->tell_found = false;
                ret->kind = NEWS_LEAK_FOUND;
        } else {
                l->tell_resolved = false;
                ret->kind = NEWS_LEAK_RESOLVED;
        }
        if (!l->tell_found && !l->tell_resolved)
                leaks_news_told(e->leaks, l);
        return true;
}

size_t engine_count_news(const struct engine *e)
{
        return e->n_news + (leaks_first_news(e->leaks) != NULL);
}

uint32_t engine_collect(struct engine *e, uint32_t n)
{
        uint32_t anchors, contexts;

        leaks_collect(e->leaks);
        anchors = anchors_collect(e, n);
        contexts = tree_collect(e->tree, n);
        return anchors > contexts ? anchors : contexts;
}
