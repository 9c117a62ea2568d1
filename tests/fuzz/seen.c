/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "tests/fuzz/input.h"
#include "tests/fuzz/seen.h"

struct forest forest;

static void see(const struct context *c)
{
        struct seen *s = &forest.seen[c->id];
        int error = 0;

        REQUIRE(!s->told_removed);
        if (s->created_usec == 0)
                s->created_usec = c->created_usec;
        REQUIRE(s->created_usec == c->created_usec);
        if (!context_is_done(c)) {
                REQUIRE(!s->done);
                REQUIRE(context_err(c)[0] == '\0' && context_err_code(c) == 0);
                REQUIRE(c->deadline_usec > forest.now_usec);
                return;
        }
        if (!s->done) {
                s->done = true;
                s->state = c->state;
                s->done_usec = c->done_usec;
                s->deadline_usec = c->deadline_usec;
                snprintf(s->cause, sizeof s->cause, "%s", context_cause(c, &s->error));
        }
        REQUIRE(s->state == c->state && s->done_usec == c->done_usec && s->deadline_usec == c->deadline_usec);
        REQUIRE(strncmp(context_cause(c, &error), s->cause, sizeof s->cause - 1) == 0 && error == s->error);
        REQUIRE(c->done_usec <= forest.now_usec && c->done_usec >= c->created_usec);
        REQUIRE(context_err_code(c) == (c->state == CONTEXT_CANCELED ? ECANCELED : ETIMEDOUT));
}

void check(void)
{
        tree_check(forest.tree);
        for (const struct context *c = forest.tree->background;
                        (c = context_next(c, forest.tree->background));)
                see(c);
}

void settle(void)
{
        while (tree_settle(forest.tree, forest.now_usec) > 0)
                ;
        REQUIRE(tree_next_usec(forest.tree) > forest.now_usec);
}

void drain(bool keep_handles)
{
        struct context *c;
        unsigned effects;

        while ((c = effect_take(forest.tree, &effects))) {
                struct seen *s = &forest.seen[c->id];

                REQUIRE(effects != 0 && !s->told_removed);
                if (effects & EFFECT_SILENT) {
                        REQUIRE(c->forgotten && effects == (EFFECT_REMOVED | EFFECT_SILENT) && !s->told_new);
                        s->told_removed = true;
                        continue;
                }
                REQUIRE(s->told_new == !(effects & EFFECT_NEW));
                s->told_new = true;
                if (effects & EFFECT_DONE) {
                        REQUIRE(!s->told_done);
                        s->told_done = true;
                }
                if (effects & (EFFECT_ROOT | EFFECT_DRAINED | EFFECT_KILL | EFFECT_REMOVED))
                        REQUIRE(s->told_done);
                if (effects & EFFECT_ROOT) /* of a cancel, or born done */
                        REQUIRE(effects & EFFECT_DONE);
                if (effects & EFFECT_DRAINED) {
                        REQUIRE(!s->told_drained);
                        s->told_drained = true;
                }
                if ((effects & EFFECT_DONE) && !keep_handles && c->has_handles)
                        tree_handles_closed(forest.tree, forest.now_usec, c);
                if (effects & EFFECT_REMOVED) {
                        REQUIRE(c->forgotten && s->told_drained && !c->has_handles && !c->busy);
                        s->told_removed = true;
                }
        }
        (void) tree_collect(forest.tree, UINT32_MAX);
        REQUIRE(STAILQ_EMPTY(&forest.tree->forgotten));
}

struct figures measure(void)
{
        struct figures n = {.contexts = forest.tree->n_contexts, .next_usec = tree_next_usec(forest.tree)};

        for (const struct context *c = forest.tree->background;
                        (c = context_next(c, forest.tree->background));) {
                n.done += context_is_done(c);
                n.released += c->released;
        }
        for (const struct user *u = forest.tree->users.by_uid; u; u = u->hh.next) {
                n.bytes += u->used[RESOURCE_BYTES];
                n.members += u->used[RESOURCE_MEMBERS];
                n.handles += u->used[RESOURCE_HANDLES];
        }
        return n;
}

void refused(const struct figures *before, int r, const struct refused *why)
{
        struct figures after = measure();

        if (r >= 0)
                return;
        REQUIRE(r == -ENOMEM || why->reason >= REFUSED_INVALID);
        REQUIRE(memchr(why->path, '\0', sizeof why->path));
        REQUIRE(memcmp(before, &after, sizeof after) == 0);
}
