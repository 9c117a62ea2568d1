/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/queue.h>

/* What the world has to be told of a context. The model sets bits (c->pending) and links the context into
 * the tree's queue (c->effects); both lie in the context, so that a cancel of any size allocates nothing.
 * The engine drains the queue after each event, in the order of the design: state words, handles, signals,
 * then what is emitted; for each context it takes with effect_take(), it does what the bits say. */

enum effect {
        EFFECT_NEW = 1 << 0,     /* emit ContextNew */
        EFFECT_DONE = 1 << 1,    /* state word, done handles, members' done flag and signals, probe */
        EFFECT_ROOT = 1 << 2,    /* it is the root of what became done: emit ContextDone */
        EFFECT_DRAINED = 1 << 3, /* no member is left in it or below it */
        EFFECT_KILL = 1 << 4,    /* a policy's kill-after has passed */
        EFFECT_REMOVED = 1 << 5, /* forgotten: emit ContextRemoved, drop page slot, handles, membership slot,
                                    owner */
        EFFECT_MOVED = 1 << 6,   /* its deadline was moved: write it to the page */
        EFFECT_SILENT = 1 << 7, /* with EFFECT_REMOVED: taken back before anybody heard of it, emit nothing */
};

struct context;

STAILQ_HEAD(effect_queue, context);
