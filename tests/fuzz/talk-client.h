/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "tests/fuzz/answers.h"
#include "tests/fuzz/input.h"

/* Connections of several people to the daemon of world.h, and what comes over them. */

enum {
        PEOPLE = 4,
        CLIENTS = 2 * PEOPLE,
        PREFIXES_MAX = 6,
};

extern struct person people[PEOPLE];

struct client {
        sd_bus *bus; /* NULL: not connected */
        const struct person *who;
        sd_bus_message *answer; /* of the last call */
        bool answered;
        char prefixes[PREFIXES_MAX][TEXT_MAX]; /* to which it has subscribed */
        unsigned n_prefixes, n_heard;
        char heard[NEWS_MAX][TEXT_MAX]; /* signals since news_forget() */
};

extern struct client clients[CLIENTS];

void people_init(void);
void client_open(struct client *c); /* if it is not */
void client_close(struct client *c);
/* Until nothing is left to be done, and everybody has read what there was. */
void clients_run(void);

/* A message is made, filled, and sent; the answer is in c->answer until the next call. */
sd_bus_message *call_new(struct client *c, const char *object, const char *interface, const char *member);
void call_send(struct client *c, sd_bus_message *m);
/* All in one, on the Manager. */
void call(struct client *c, const char *member, const char *types, ...);
/* The same of a member that contexts have, too, so that it can be called on the object. An object that is
 * hidden is not there, and is missed by another error. */
void call_on(struct client *c, const struct name *name, struct answer *expected, const char *member,
                const char *types, ...);

/* A deadline that passes before anything else is asked; 0: there is none. */
extern uint64_t soon_usec;

/* That it was answered as it has to be; true if it was no error. False, too, if that deadline has passed
 * already: nobody knows then what is right. */
bool is_answered(struct client *c, const struct answer *expected);
#define READ(c, ...) REQUIRE(sd_bus_message_read((c)->answer, __VA_ARGS__) >= 0)

/* That everybody has heard what concerns them, and nothing else. */
void clients_compare_news(void);

/* That two sets of lines are the same. */
void lines_compare(const char *what, char (*expected)[TEXT_MAX], unsigned n_expected, char (*found)[TEXT_MAX],
                unsigned n_found);
