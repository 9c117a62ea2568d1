/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What thread-page.c and thread-look.c share. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

#include "daemon/model/user.h"
#include "daemon/world/anchor.h"
#include "daemon/world/process.h"
#include "daemon/world/thread-page.h"
#include "daemon/world/world.h"

struct kicks;

struct thread_pages {
        struct world *world;
        struct membership *membership;
        struct kicks *kicks; /* by uid */
        LIST_HEAD(, threads) all;
        LIST_HEAD(, threads) seen; /* pages that were read */
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
        sd_event_source *source;
        struct charge charge;
        LIST_HEAD(, thread_entrance) entrances;

        struct kicks *kicks; /* those of its uid */
        bool is_waiting;
        TAILQ_ENTRY(threads) waiting;

        struct seen *seen; /* what the page said, sorted; until thread_pages_forget() */
        size_t n_seen;
        LIST_ENTRY(threads) all, read;
};

/* A process has named a context. */
struct thread_entrance {
        struct threads *threads;
        struct anchor *anchor;
        struct charge charge;
        uint32_t n;    /* threads that were in it when it was looked at */
        uint32_t tids; /* a sum over them, by which a change is noticed */
        uint32_t told; /* the sum when a change was last a fact */
        bool is_new;   /* no change was a fact yet */
        LIST_ENTRY(thread_entrance) by_context, by_process;
};

int kicks_join(struct threads *t);   /* its kicks are heard from now on */
void kicks_leave(struct threads *t); /* if they were */
void threads_unsee(struct threads *t);
