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

/* The done contexts that ctxd wants watched, and the threads that sweeps have found in them. */

struct leak;

struct watch {
        uint64_t context_id;
        struct probe_watch record;
        uint64_t baseline_usec;       /* when its first sweep is due; 0 after that sweep */
        struct probe_thread *entered; /* have entered by themselves; n_entered of them */
        uint32_t n_entered;
        bool confirmed; /* ctxd has named it on this connection */
        UT_hash_handle hh;
};

/* A task is known by its number and its start time together. The number alone may be used again for another
 * task. */
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
        uint64_t sweep; /* number of the last sweep that has seen it */
        struct leak *leak;
        LIST_ENTRY(thread) in_leak;
        UT_hash_handle hh;
};

struct watches {
        struct watch *by_id;
        struct thread *threads;
};

/* Adds a watch, or brings it up to date. 1: it is new; 0: it was there before. */
int watches_add(struct watches *watches, const struct probe_watch *record, uint64_t baseline_usec,
                struct watch **ret);
struct watch *watches_get(const struct watches *watches, uint64_t context_id);
/* -ENOENT: the context is not watched. */
int watches_set_entered(struct watches *watches, const struct probe_threads *record);
/* Its threads must have been freed before. */
void watch_free(struct watches *watches, struct watch *watch);

/* The thread of a sample. It is made if it is new. NULL: there is no memory. */
struct thread *watches_thread(struct watches *watches, struct watch *watch, const struct sample *sample);
/* The thread must not be part of a leak. */
void thread_free(struct watches *watches, struct thread *thread);
