/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

#include "bpf/judge.h"
#include "bpf/sample.h"
#include "proto/probe-record.h"

/* The done contexts that ctxd asked to watch, and the threads that sweeps have found in them. */

struct leak;

struct watch {
        uint64_t context_id;
        struct probe_watch record;
        uint64_t baseline_usec;       /* when the first sweep is due; 0 once it has been */
        struct probe_thread *entered; /* by themselves; n_entered of them */
        uint32_t n_entered;
        bool confirmed; /* ctxd has named it since the connection was made */
        UT_hash_handle hh;
};

/* A task's identity is its number together with its start time, never the number alone. */
struct thread_key {
        uint64_t context_id;
        uint64_t start_nsec;
        uint32_t pid, tid;
};

struct thread {
        struct thread_key key;
        struct watch *watch;
        struct sample sample; /* the latest */
        struct thread_clock clock;
        uint64_t sweep; /* number of the sweep that saw it last */
        struct leak *leak;
        LIST_ENTRY(thread) in_leak;
        UT_hash_handle hh;
};

struct watches {
        struct watch *by_id;
        struct thread *threads;
};

/* 1: new, 0: known before, and brought up to date. */
int watches_add(struct watches *watches, const struct probe_watch *record, uint64_t baseline_usec,
                struct watch **ret);
struct watch *watches_get(const struct watches *watches, uint64_t context_id);
/* -ENOENT: not watched. */
int watches_set_entered(struct watches *watches, const struct probe_threads *record);
/* Its threads must have been freed. */
void watch_free(struct watches *watches, struct watch *watch);

/* The thread of a sample; made if it is new. NULL: no memory. */
struct thread *watches_thread(struct watches *watches, struct watch *watch, const struct sample *sample);
/* It must not be part of a leak any more. */
void thread_free(struct watches *watches, struct thread *thread);
