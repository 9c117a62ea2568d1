/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

#include "bpf/sample.h"
#include "bpf/watch.h"
#include "proto/probe-record.h"

/* A leak is what is reported. Threads of one process that are stuck in the same place are one leak. */

struct probe;

struct leak_key {
        uint64_t context_id;
        uint64_t leader_start_nsec;
        uint64_t fingerprint; /* of the system call and the kernel's innermost frames */
        uint32_t pid;
        uint32_t kind; /* enum probe_leak_kind */
};

struct leak {
        struct leak_key key;
        uint64_t id; /* 0: not published yet */
        struct watch *watch;
        LIST_HEAD(, thread) threads; /* the report names the first one */
        uint64_t count, count_told;
        struct probe_leak record;
        struct evidence evidence; /* about the thread that was found first */
        char stack[1024];
        unsigned percent; /* of a CPU, if it is ignoring */
        uint64_t found_usec;
        uint64_t repeat_usec;   /* when it is reported again */
        uint64_t interval_usec; /* and how long after that once more */
        bool journaled;
        UT_hash_handle hh;
};

/* Counts the entries of the journal about one process. */
struct leak_budget {
        struct {
                uint64_t start_nsec;
                uint64_t pid;
        } key;
        uint64_t window_usec;
        uint32_t used;
        uint32_t left_out;
        UT_hash_handle hh;
};

struct leaks {
        struct leak *by_key;
        struct leak_budget *budgets;
        uint64_t last_id;
};

/* Makes the thread part of the leak of its place, which begins with the evidence about its first thread. */
int leak_join(struct probe *probe, struct thread *thread, enum probe_leak_kind kind,
                const struct evidence *evidence, const char *stack, unsigned percent);
/* Takes the thread out of its leak, if it is in one. how: what became of the thread. A leak without threads
 * is resolved. */
void leak_leave(struct probe *probe, struct thread *thread, const char *how);
/* Reports the new leaks, and again the old ones that are due. */
void leaks_publish(struct probe *probe, uint64_t now);
/* Tells ctxd of the open leaks of a context. It has been started again, and does not know them. */
void leaks_tell(struct probe *probe, const struct watch *watch);
/* The thread that the report names. */
struct thread *leak_headline(const struct leak *leak);
void leaks_deinit(struct leaks *leaks);
