/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/* A fact is what the world tells the daemon, as an effect is what the model tells the world. A room puts the
 * fact into the queue and calls nobody. The engine takes it out and turns it into a verb of the model.
 *
 * A fact lies in the object that it is about, so to raise one allocates nothing. It names a context or a
 * process by number, never by pointer. A fact that is in the queue is not put in a second time, because it
 * says only "look here", not how often. So it can be raised again at any time, for instance by a room that is
 * built anew after a restart. */

enum fact_kind {
        FACT_TIME,            /* the timer has elapsed: something in the tree is due */
        FACT_PROCESS_EXITED,  /* a watched process has exited */
        FACT_LIFELINE_CLOSED, /* the last holder of a context's lifeline has closed it */
        FACT_HANDLES_CLOSED,  /* the last handle of a context is gone */
        FACT_MEMBER_LEFT,     /* a member of a done context has left; it may have been the last one */
        FACT_THREADS_CHANGED, /* other threads have entered a done context */
        FACT_PROBE_READY,     /* the probe's socket can be read or written, or has ended */
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
        struct turn *turn; /* borrowed; the engine takes the facts in it */
};

void facts_init(struct facts *facts, struct turn *turn);

/* Puts the fact into the queue, if it is not there. */
void fact_raise(struct facts *facts, struct fact *fact);
/* Takes the fact out of the queue, because what it is about goes away. */
void fact_withdraw(struct facts *facts, struct fact *fact);
/* Takes the oldest fact out of the queue and copies it. Returns false if there is none. */
bool fact_take(struct facts *facts, struct fact *ret);
/* Asks for a turn in which the engine takes the facts, if there are any. Every callback of the event loop
 * ends with this. A function that the engine calls does not need it, because the engine looks into the queue
 * itself. */
void facts_wake(struct facts *facts);
