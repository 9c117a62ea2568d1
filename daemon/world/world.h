/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

#include "daemon/world/fact.h"

/* What every room is given: the event loop, the clock, the queue of facts, and the functions by which it
 * signals processes and makes descriptors. A simulator, or a test in which system calls fail, links another
 * world.c. */

struct foreign;
struct watches;
struct store; /* will be the journal of changes; there is none yet */

struct world {
        sd_event *event;
        struct facts facts;
        struct watches *watches; /* processes and lifelines, of which there may be thousands */
        struct foreign *foreign; /* NULL: nobody does it for us */
        struct store *store;     /* NULL: nothing outlives the daemon */
        uint64_t now_usec;       /* the time of the drain that is under way; 0: there is none */
};

/* The time on CLOCK_BOOTTIME. During a drain it stands still. */
uint64_t world_now_usec(const struct world *w);
/* What the clock shows, also during a drain: for work that may take a certain time. */
uint64_t world_clock_usec(const struct world *w);

/* Each returns 0 or a descriptor, or -errno. */
int world_signal(const struct world *w, int pidfd, int signal);
int world_eventfd(const struct world *w, int flags);
int world_pipe(const struct world *w, int ret_ends[2]);
int world_memfd(const struct world *w, const char *name);
