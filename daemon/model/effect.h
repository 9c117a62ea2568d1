/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/queue.h>

/* An effect is something that the model wants done in the world. The model sets bits (c->pending) and links
 * the context into the tree's queue (c->effects). Both lie in the context, so a cancel of any size allocates
 * nothing. The engine drains the queue in the order that doc/ARCHITECTURE.md gives: state words, handles,
 * signals, news. It takes the contexts out of the queue with effect_take_from(). */

enum effect {
        EFFECT_NEW = 1 << 0,  /* it was made: emit ContextNew */
        EFFECT_DONE = 1 << 1, /* write its state word and done handles, signal its members, tell the probe */
        EFFECT_ROOT = 1 << 2, /* it is the root of what became done: emit ContextDone */
        EFFECT_DRAINED = 1 << 3, /* no member is left in it or below it: write its drained handles */
        EFFECT_KILL = 1 << 4,    /* a policy's kill-after has passed: kill the members that are left */
        EFFECT_REMOVED = 1 << 5, /* it is forgotten: emit ContextRemoved, drop all that is tied to it */
        EFFECT_MOVED = 1 << 6,   /* its deadline was moved: write it to the page */
        EFFECT_SILENT = 1 << 7,  /* with EFFECT_REMOVED: nobody has heard of it, so emit nothing */
        EFFECT_RECORD = 1 << 8,  /* something was decided (c->decided); nobody is given this one */
};

/* What was decided about a context since the journal was told last: c->decided. Most decisions have an effect
 * as well. What follows from a decision is none: the end of what is below a context that ends, the release of
 * what is below one that is released, deadlines that move with the parent's. So a cancel of any size is one
 * decision. Members and handles are the world's, and come back from there; only that nobody is left is
 * decided, since its time is kept.
 *
 * Who keeps a journal looks through the queue before it takes a context from it, for a context that is taken
 * has told all that was decided (daemon/journal/journal.h). */
enum decision {
        DECIDED_MADE = 1 << 0,
        DECIDED_END = 1 << 1,     /* before its parent has ended */
        DECIDED_DRAINED = 1 << 2, /* later than it was done; or it has members again */
        DECIDED_RELEASED = 1 << 3,
        DECIDED_DEADLINE = 1 << 4, /* its own was moved */
        DECIDED_POLICIES = 1 << 5,
        DECIDED_FORGOTTEN = 1 << 6, /* alone, then */
};

struct context;

STAILQ_HEAD(effect_queue, context);
