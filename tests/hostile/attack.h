/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Alice attacks, while Bob creates a context, takes its handle, cancels it and awakes, again and again. What
 * he waits is compared with what he has waited just before. */

#include "tests/bus/harness.h"

struct attack {
        const char *name;
        /* Runs as Alice: gets ready, says so, and goes on until it is killed. */
        void (*run)(void);
        bool as_root;               /* it becomes others itself */
        bool reconnects;            /* Bob takes a new connection each time */
        bool with_member;           /* Bob attaches a process to each of his contexts */
        bool keeps;                 /* what Alice has made is there for the next attack, too */
        void (*place)(pid_t alice); /* moves her before she begins; or NULL */
        unsigned max; /* the ratio that is too bad, where law 48 does not hold yet; 0: as usual */
};

/* Measures, once or several times, prints the median, and fails if that is not good enough. */
void withstand(const struct attack *a);

/* What an attack calls. */
void attack_ready(void);                           /* the first of all processes counts */
_Noreturn void attack_impossible(const char *why); /* here */
void attack_did(unsigned n);                       /* so many calls or the like */

/* lines.c: connections of Alice's */

/* Calls for ever, on so many lines: on each one the next call comes after the answer. next makes it; n counts
 * the calls of all lines. It says that it is ready after some time. */
typedef sd_bus_message *(*next_fn)(sd_bus *b, unsigned n);
_Noreturn void call_for_ever(unsigned lines, uint64_t ready_usec, next_fn next);
sd_bus_message *call_of(sd_bus *b, const char *member, const char *types, ...);

/* Direct lines that are kept full with one call, whose answer, if there is one, is not read. */
struct flood {
        int *fds;
        size_t *at; /* in bytes */
        unsigned lines;
        uint8_t *bytes;
        size_t size, length; /* of all bytes, and of one call */
};
void flood_open(struct flood *f, unsigned lines,
                int bytes); /* that each of them takes; 0: as many as usual */
void flood_close(struct flood *f);
void flood_say(struct flood *f, bool answers, const char *member, const char *types, ...);
void flood_once(struct flood *f); /* until nothing can be written */
_Noreturn void flood_for_ever(struct flood *f);

/* Alice makes a context, and children of it with these labels. */
void grow(const char *parent, uint64_t timeout_usec, const char *label, unsigned n);
/* The same, and each of the children has this deadline of its own. */
void grow_until(const char *parent, uint64_t timeout_usec, const char *label, unsigned n,
                uint64_t deadline_usec);

/* A case of tests with a daemon. ATTACK: it has one of its own. */
void add_attacks(Suite *s, const char *name, void (*start)(void), const TTest *const *tests);
void start_attacked(void);           /* without a probe; forgets what is done after a second */
void start_with(const char *config); /* and a probe */
#define ATTACK(s, name, start, test) add_attacks(s, name, start, (const TTest *const[]){test, NULL})

/* The tests. */
void add_trees(Suite *s);
void add_calls(Suite *s);
void add_descriptors(Suite *s);
void add_members(Suite *s);
void add_backends(Suite *s);
