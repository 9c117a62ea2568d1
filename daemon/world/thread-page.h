/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/world/internal.h"

/* What thread-page.c and thread-look.c share. */

struct kicks;

/* An entry of a page that names a context. */
struct seen {
        uint64_t context_id;
        uint32_t tid;
};

struct threads {
        struct effects *effects;
        struct process *process; /* a reference */
        int page, kick;
        sd_event_source *source;
        struct charge charge;
        LIST_HEAD(, thread_entrance) entrances;

        struct kicks *kicks; /* those of its uid */
        bool is_waiting;
        TAILQ_ENTRY(threads) waiting;

        struct seen *seen; /* what the page said, sorted; for as long as one drain */
        size_t n_seen;
        uint64_t seen_serial;
        LIST_ENTRY(threads) read;
};

/* A process has named a context. */
struct thread_entrance {
        struct threads *threads;
        struct member_slot *slot;
        struct charge charge;
        uint32_t n;          /* threads that were in it when it was looked at */
        uint32_t tids, told; /* a sum over them, by which a change is noticed; and what the probe was told of */
        bool is_new;         /* it was told nothing yet */
        LIST_ENTRY(thread_entrance) by_slot, by_process;
};

int kicks_join(struct threads *t);   /* its kicks are heard from now on */
void kicks_leave(struct threads *t); /* if they were */
void threads_unsee(struct threads *t);
