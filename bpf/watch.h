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

struct account;
struct accounts;
struct leak;

struct entered_thread {
        uint32_t pid, tid, uid;
        bool is_looked_at;
};

struct watch {
        uint64_t context_id;
        uint32_t n_ref; /* one is that of the table */
        struct probe_watch record;
        LIST_HEAD(, thread) threads;
        struct leak *more;              /* counts those that have no leak of their own; or NULL */
        uint64_t baseline_usec;         /* when its first sweep is due; 0 after that sweep */
        struct entered_thread *entered; /* have entered by themselves; n_entered of them */
        uint32_t n_entered;
        uint32_t n_unnamed; /* and so many more, which ctxd has not named */
        uint32_t n_unseen;  /* so many of all these nobody looks at, because there is no place for them */
        bool unseen_told;
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
        LIST_ENTRY(thread) in_watch;
        struct account *account;
        TAILQ_ENTRY(thread) due; /* of the account */
        struct sample sample;    /* the latest */
        struct thread_clock clock;
        uint64_t sweep; /* number of the last sweep that has seen it */
        struct leak *leak;
        LIST_ENTRY(thread) in_leak;
        uint32_t more; /* as what it is only counted, by watch->more (enum probe_leak_kind); 0: it is not */
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
/* Decides which of the threads that have entered are looked at: a user has a share of the places. */
void watches_admit_entered(struct watches *watches, struct accounts *accounts);
/* Takes it out of the table. Its threads must have been freed before. */
void watch_free(struct watches *watches, struct watch *watch);
struct watch *watch_ref(struct watch *watch);
void watch_unref(struct watch *watch);

/* The thread of a sample. It is made if it is new. NULL: there is no memory. */
struct thread *watches_thread(struct watches *watches, struct accounts *accounts, struct watch *watch,
                const struct sample *sample);
/* The thread must not be part of a leak. */
void thread_free(struct watches *watches, struct thread *thread);
