/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

#include "bpf/sample.h"
#include "bpf/watch.h"
#include "proto/probe-record.h"

/* What is reported: the threads of one process that hang in the same place are one leak. */

struct probe;

struct leak_key {
        uint64_t context_id;
        uint64_t leader_start_nsec;
        uint64_t fingerprint; /* of the system call and the kernel's topmost frames */
        uint32_t pid;
        uint32_t kind; /* enum probe_leak_kind */
};

struct leak {
        struct leak_key key;
        uint64_t id; /* 0: not published yet */
        struct watch *watch;
        LIST_HEAD(, thread) threads; /* the first one is the one that is named */
        uint64_t count, count_told;
        struct probe_leak record;
        struct evidence evidence; /* of the thread that was found first */
        char stack[1024];
        unsigned percent; /* of a CPU, if it ignores */
        uint64_t found_usec;
        uint64_t repeat_usec;   /* when it is said again */
        uint64_t interval_usec; /* and after how long the time after that */
        bool journaled;
        UT_hash_handle hh;
};

/* How much the journal is told of one process. */
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

/* Makes the thread part of a leak; whoever is first in its place brings the evidence. */
int leak_join(struct probe *probe, struct thread *thread, enum probe_leak_kind kind,
                const struct evidence *evidence, const char *stack, unsigned percent);
/* Takes it out, whatever it is in; how: what became of it. The last one resolves the leak. */
void leak_leave(struct probe *probe, struct thread *thread, const char *how);
/* Says what is new, and what is due to be said again. */
void leaks_publish(struct probe *probe, uint64_t now);
/* Tells ctxd, which has just begun to listen, of the open leaks of a context. */
void leaks_tell(struct probe *probe, const struct watch *watch);
/* The thread that is named. */
struct thread *leak_headline(const struct leak *leak);
void leaks_deinit(struct leaks *leaks);
