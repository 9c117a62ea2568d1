/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/* What the world has to say: the mirror of the model's effects. A room puts a fact into the queue, and calls
 * nobody; the engine takes it out, and turns it into a verb of the model.
 *
 * A fact lies in the object that it is about, so that to raise one allocates nothing. It names a context or a
 * process by number, never by pointer. One that is in the queue already is not put in twice: a fact says
 * "look here", not how often. So it can be raised again at any time, for instance by a room that is built
 * anew after a restart. */

enum fact_kind {
        FACT_TIME,            /* the timer: something in the tree is due */
        FACT_PROCESS_EXITED,  /* a process that is watched */
        FACT_LIFELINE_CLOSED, /* of a context */
        FACT_HANDLES_CLOSED,  /* of a context: the last one is gone */
        FACT_MEMBER_LEFT,     /* of a context that is done: perhaps it was the last one */
        FACT_THREADS_CHANGED, /* of a context that is done: who has entered it */
        FACT_PROBE_READY,     /* its socket can be read or written, or has ended */
};

struct fact {
        enum fact_kind kind;
        bool is_raised;
        uint64_t id;          /* a context's id, or a process's pid */
        uint64_t start_ticks; /* of that process */
        TAILQ_ENTRY(fact) facts;
};

struct turn;

struct facts {
        TAILQ_HEAD(, fact) queue;
        struct turn *turn; /* in which the engine takes them; borrowed */
};

void facts_init(struct facts *facts, struct turn *turn);

/* Into the queue, if it is not there. */
void fact_raise(struct facts *facts, struct fact *fact);
/* Out of it: what it is about goes away. */
void fact_withdraw(struct facts *facts, struct fact *fact);
/* The oldest one, copied. False: there is none. */
bool fact_take(struct facts *facts, struct fact *ret);
/* Has the engine take what is there soon. A callback of the event loop ends with this; what the engine calls
 * does not, since the engine looks into the queue itself. */
void facts_wake(struct facts *facts);
