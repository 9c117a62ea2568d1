/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

#include "daemon/world/fact.h"

/* What the rooms have tied to one context. A context has an anchor once a room has something for it, and
 * keeps it until it is forgotten; most have none, and then no room is asked when they end. It also spares the
 * rooms a table each: a million contexts have to end in 60 ns each.
 *
 * The engine makes and frees it. A room reads the first part, and changes only the field that is its own. */

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
        struct context *context; /* for the engine alone: no room looks into it */
        bool is_done;            /* the end of its context has been carried out, or is just being */

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
        uint32_t n_threads; /* how many threads had entered it when it was last looked at */
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
