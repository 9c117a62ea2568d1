/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of engine/ share; nobody else includes it. */

#include "daemon/engine/engine.h"
#include "daemon/world/anchor.h"
#include "daemon/world/lifeline.h"
#include "daemon/world/membership/membership.h"
#include "daemon/world/owner.h"
#include "daemon/world/page.h"
#include "daemon/world/process.h"
#include "daemon/world/thread-page.h"
#include "daemon/world/timer.h"
#include "daemon/world/world.h"
#include "util/turn.h"

struct engine {
        struct tree *tree;
        struct turn *turn; /* in which facts are taken, and a drain goes on */
        struct world world;
        uint64_t epoch;
        int alive[2]; /* a pipe: what others hold, and what ends with us */
        bool is_draining, is_stopping;

        struct anchor *anchors;      /* by context id */
        LIST_HEAD(, anchor) removed; /* of contexts that are gone, until engine_collect() */
        STAILQ_HEAD(news_queue, context) news;

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
/* That of c, made if it has none; NULL without memory. */
struct anchor *anchor_of(struct engine *e, struct context *c);
struct anchor *anchor_find(const struct engine *e, uint64_t context_id);
/* Takes away all that rooms have tied to a context that is forgotten. */
void anchor_remove(struct engine *e, struct context *c);
void anchors_collect(struct engine *e);
void anchors_free(struct engine *e);

/* facts.c */
void facts_take(struct engine *e);

/* hand-out.c */
void engine_state_of(const struct engine *e, const struct context *c, struct page_state *ret);

/* members.c */
/* The last member of a done context may have left. */
void members_look(struct engine *e, struct anchor *anchor);

/* probe.c */
/* What it has sent, and what it is to have. */
void engine_serve_probe(struct engine *e);
void engine_tell_probe(struct engine *e);
