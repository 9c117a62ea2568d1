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
};

struct context;

STAILQ_HEAD(effect_queue, context);
