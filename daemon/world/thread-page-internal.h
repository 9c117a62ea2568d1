/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What thread-page.c and thread-look.c share. Nobody else includes this. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

#include "daemon/model/user.h"
#include "daemon/world/anchor.h"
#include "daemon/world/process.h"
#include "daemon/world/thread-page.h"
#include "daemon/world/world.h"
#include "util/watch.h"

struct kicks;

struct thread_pages {
        struct world *world;
        struct membership *membership;
        struct kicks *kicks; /* by uid */
        LIST_HEAD(, threads) all;
        LIST_HEAD(, threads) seen; /* pages that were read, until thread_pages_forget() */
};

/* An entry of a page that names a context. */
struct seen {
        uint64_t context_id;
        uint32_t tid;
};

/* The page of one process. */
struct threads {
        struct thread_pages *pages;
        struct process *process; /* a reference */
        int page, kick;
        struct watch kicked;
        struct charge charge;
        LIST_HEAD(, thread_entrance) entrances;

        struct kicks *kicks; /* that of its uid */
        bool is_waiting;
        TAILQ_ENTRY(threads) waiting;

        struct seen *seen; /* what the page said, sorted; until thread_pages_forget() */
        size_t n_seen;
        LIST_ENTRY(threads) all, read;
};

/* A process has asked to let its threads enter a context, and may. */
struct thread_entrance {
        struct threads *threads;
        struct anchor *anchor;
        struct charge charge;
        uint32_t n;    /* how many threads were in it at the last look */
        uint32_t tids; /* a checksum of their tids, by which a change is noticed */
        uint32_t told; /* the checksum when a change was last raised as a fact */
        bool is_new;   /* no change was raised as a fact yet */
        LIST_ENTRY(thread_entrance) by_context, by_process;
};

/* The kicks of that process are heard from now on, until kicks_leave(). */
int kicks_join(struct threads *t);
void kicks_leave(struct threads *t);
/* Forgets what the page has said. */
void threads_unsee(struct threads *t);
