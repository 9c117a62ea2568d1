/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of engine/ share. Nobody else includes this. */

#include "daemon/engine/engine.h"
#include "daemon/world/anchor.h"
#include "util/foreign.h"
#include "daemon/world/given.h"
#include "daemon/world/lifeline.h"
#include "daemon/world/membership/membership.h"
#include "daemon/world/owner.h"
#include "daemon/world/page.h"
#include "daemon/world/process.h"
#include "daemon/world/thread-page.h"
#include "daemon/world/timer.h"
#include "daemon/world/world.h"
#include "util/turn.h"
#include "util/watch.h"

struct engine {
        struct tree *tree;
        struct turn *turn; /* borrowed; its callback calls engine_drain() */
        struct world world;
        uint64_t epoch;
        bool is_draining, is_stopping;
        uint32_t facts_budget; /* how much more this drain may do for facts */

        struct signal_pass *signals; /* that whoever has asked for the last drain waits for; or NULL */

        struct anchor *anchors;      /* by context id */
        LIST_HEAD(, anchor) removed; /* of removed contexts, until engine_collect() */
        STAILQ_HEAD(news_queue, context) news;
        size_t n_news; /* contexts in it */

        /* the rooms */
        struct timer *timer;
        struct processes *processes;
        struct handles *handles;
        struct pages *pages;
        struct membership *membership;
        struct thread_pages *thread_pages;
        struct leaks *leaks;
        struct probe *probe;
};

/* anchor.c */
/* Returns the anchor of c, and makes it if there is none. NULL: there is no memory. */
struct anchor *anchor_of(struct engine *e, struct context *c);
struct anchor *anchor_find(const struct engine *e, uint64_t context_id);
/* The context is forgotten: every room gives up what it has tied to it. */
void anchor_remove(struct engine *e, struct context *c);
/* Frees anchors that were removed, up to n. Returns how many there were. */
uint32_t anchors_collect(struct engine *e, uint32_t n);
void anchors_free(struct engine *e);

/* facts.c */
/* Turns facts of the queue into verbs of the model, until the budget of the drain is used up. The drain
 * begins with facts_begin(). */
void facts_begin(struct engine *e);
void facts_take(struct engine *e);

/* hand-out.c */
/* What the state page has to say of c. */
void engine_state_of(const struct engine *e, const struct context *c, struct page_state *ret);

/* members.c */
/* Walks the anchors of c and, if recursive, of all contexts below it that have members. Gives the first one,
 * or the one after a. */
struct anchor *members_next(
                const struct engine *e, const struct context *c, bool recursive, const struct anchor *a);
/* To be called when the last member of a context may have left. Tells the model if it has. */
void members_look(struct engine *e, struct anchor *anchor);

/* probe.c */
/* Receives the records that the probe has sent. */
void engine_serve_probe(struct engine *e);
/* Sends the records that the probe has to have, as many as its socket takes. */
void engine_tell_probe(struct engine *e);
