/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

#include "daemon/world/fact.h"

/* An anchor holds what the rooms have tied to one context. A context gets its anchor when the first room has
 * something for it, and keeps it until it is forgotten. Most contexts never get one, and then no room is
 * asked when they end. With an anchor no room needs a table of its own, which matters because a million
 * contexts have to end in 60 ns each.
 *
 * The engine makes and frees anchors. A room reads the first part, and changes only its own fields. */

struct context;
struct handle;
struct leak;
struct lifeline;
struct member_slot;
struct page_slot;
struct probe_watched;
struct process;
struct thread_entrance;

struct anchor {
        uint64_t context_id;
        struct context *context; /* for the engine alone; no room looks into it */
        bool is_done;            /* the end of its context is carried out now, or was before */

        /* handle */
        LIST_HEAD(, handle) handles;
        struct fact handles_closed;

        /* page */
        struct page_slot *page_slot;

        /* lifeline */
        struct lifeline *lifeline;

        /* owner */
        struct process *owner;
        LIST_ENTRY(anchor) owned; /* of that process */

        /* membership */
        struct member_slot *slot;
        struct fact member_left;

        /* thread-page */
        LIST_HEAD(, thread_entrance) entrances;
        uint32_t n_threads; /* how many threads had entered it at the last look */
        struct fact threads_changed;

        /* leak */
        TAILQ_HEAD(, leak) leaks;
        uint32_t n_leaks;
        LIST_ENTRY(anchor) leaky; /* while it has leaks */

        /* probe */
        struct probe_watched *watched;

        /* the engine itself */
        LIST_ENTRY(anchor) removed;
        UT_hash_handle hh; /* by context_id */
};
