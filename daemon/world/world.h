/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "daemon/world/fact.h"

/* What every room is given: the loop, the clock, the way up, and the calls by which it touches processes and
 * makes descriptors. A simulator, or a test of a bad day, links another world.c. */

struct store; /* the journal of changes will be one; there is none yet */

struct world {
        sd_event *event;
        struct facts facts;
        struct store *store; /* NULL: nothing outlives the daemon */
        uint64_t now_usec;   /* of the drain that is under way; 0: none is */
};

/* The same instant for all of one drain, CLOCK_BOOTTIME. */
uint64_t world_now_usec(const struct world *w);
/* What the clock shows: for work that is given so much time. */
uint64_t world_clock_usec(const struct world *w);

/* Each gives 0 or a descriptor, or -errno. */
int world_signal(const struct world *w, int pidfd, int signal);
int world_eventfd(const struct world *w, int flags);
int world_pipe(const struct world *w, int ret_ends[2]);
int world_memfd(const struct world *w, const char *name);
