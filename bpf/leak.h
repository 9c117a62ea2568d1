/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>
#include <uthash.h>

#include "bpf/account.h"
#include "bpf/sample.h"
#include "bpf/watch.h"
#include "proto/probe-record.h"

/* A leak is what is reported. Threads of one process that are stuck in the same place are one leak. A user
 * has a share of the leaks (util/share.h). Threads beyond it are counted by a leak of the kind "more", of
 * which each context has one at most.
 *
 * What ctxd has to be told of is in a list, each leak once, so the list cannot overflow. A record is formed
 * when the socket takes it, and says how things are then. */

struct probe;

struct leak_key {
        uint64_t context_id;
        uint64_t leader_start_nsec;
        uint64_t fingerprint; /* of the system call and the kernel's innermost frames */
        uint32_t pid;
        uint32_t kind; /* enum probe_leak_kind */
};

/* What a leak of the kind "more" does not have: there may be as many of these as contexts with members. */
struct leak_detail {
        struct probe_leak record;
        struct evidence evidence; /* about the thread that was found first */
        char stack[1024];
};

struct leak {
        struct leak_key key;
        uint64_t id; /* 0: not published yet */
        struct watch *watch;
        struct account *account;
        LIST_HEAD(, thread) threads; /* the report names the first one */
        uint64_t count, count_told;
        struct leak_detail *detail; /* NULL if the kind is more */
        struct probe_leak
                        *record; /* its own; of the kind more it is one for all, to be filled in before use */
        unsigned percent;        /* of a CPU, if it is ignoring */
        bool named;              /* only ctxd says that it is a member */
        bool takes_part;         /* the probe has seen that, too */
        uint64_t found_usec;
        uint64_t repeat_usec;   /* when it is reported again */
        uint64_t interval_usec; /* and how long after that once more */

        bool is_news; /* ctxd has to be told */
        bool is_told; /* it was told of it before */
        TAILQ_ENTRY(leak) news;

        bool is_journaled, is_late; /* its resolution waits for an entry of the journal */
        uint64_t resolved_usec;     /* 0: it is open */
        const char *how;            /* it was resolved */
        TAILQ_ENTRY(leak) late;
        UT_hash_handle hh; /* while it is open */
};

/* Counts the entries of the journal about one process. */
#define BUDGET_OF_PROCESS 10 /* a minute */

struct leak_budget {
        struct {
                uint64_t start_nsec;
                uint64_t pid;
        } key;
        uint64_t window_usec;
        uint32_t used;
        UT_hash_handle hh;
};

struct leaks {
        struct leak *by_key;
        uint32_t n;   /* open ones, without those of the kind "more" */
        uint32_t max; /* PROBE_LEAKS_MAX; a test has fewer */
        struct leak_budget *budgets;
        uint64_t last_id;
        struct probe_leak more; /* the record of the kind "more" */
        struct leak_queue news;
        sd_event_source *timer; /* for what the journal has to be told later */
};

void leaks_init(struct leaks *leaks);
void leaks_deinit(struct leaks *leaks);

/* Whether the user may have one more leak. */
bool leaks_have_room(const struct leaks *leaks, const struct account *account);
/* Makes the thread part of the leak of its place. Returns the leak if it is new: it begins with the evidence
 * about this thread. */
struct leak *leak_join(struct probe *probe, struct thread *thread, enum probe_leak_kind kind,
                const struct evidence *evidence, const char *stack, unsigned percent);
/* Only counts the thread. */
void leak_count_more(struct probe *probe, struct thread *thread, enum probe_leak_kind kind);
/* Takes the thread out of its leak, if it is in one. how: what became of the thread; the text must last. A
 * leak without threads is resolved. */
void leak_leave(struct probe *probe, struct thread *thread, const char *how);
/* Is called after the evidence was read: threads that have run since are taken out of the leak. The
 * evidence may be that of such a thread. It still fits the ones that are left, which are in the same place.
 * False: none was left, and the leak is gone. */
bool leak_verify(struct probe *probe, struct leak *leak);
/* The thread that the report names; NULL if the kind is more. */
struct thread *leak_headline(const struct leak *leak);

/* Puts the leak into the list of news. */
void leak_tell(struct probe *probe, struct leak *leak);
/* The same for the open leaks of a context. ctxd has been started again, and does not know them. */
void leaks_tell(struct probe *probe, const struct watch *watch);
/* The first of the list; NULL: there is none. leak_told() takes it out. */
struct leak *leaks_first_news(const struct leaks *leaks);
void leak_told(struct probe *probe, struct leak *leak);
/* Nobody is there to be told. */
void leaks_drop_news(struct probe *probe);
/* It was resolved, and its resolution has got into the journal. */
void leak_not_late(struct leak *leak);
