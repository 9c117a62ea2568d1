/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <time.h>
#include <systemd/sd-event.h>

/* What the files of effect/ share; nobody else includes it. */

#include "daemon/world/effects.h"
#include "daemon/world/membership.h"
#include "daemon/world/probe-link.h"
#include "util/turn.h"

/* A process that somebody here has to do with: known by pid and start time, held by a pidfd. Its exit is
 * watched from when something hangs on it for the first time. */
struct process {
        struct effects *effects;
        unsigned n_ref;
        struct {
                pid_t pid;
                uint64_t start_ticks;
        } identity;
        int pidfd;
        uid_t uid; /* the real one, to which its handles are charged */
        char comm[16];
        bool exited;
        sd_event_source *exit_source;
        LIST_HEAD(, handle) handles;
        LIST_HEAD(, context) owned;
        struct attached *attached; /* membership, backend direct */
        bool moving;               /* in the list of membership-move.c */
        struct threads *threads;   /* its thread page */
        UT_hash_handle hh;
};

/* A handle that was given out, until it has been signalled. */
struct handle {
        struct handle_key {
                struct process *process; /* a reference */
                struct context *context;
                uint64_t kind; /* enum handle_kind, without padding after it: the key is hashed */
        } key;
        int fd;
        struct charge charge;
        LIST_ENTRY(handle) by_context, by_process;
        bool is_queued; /* in one of the two lists of struct handles */
        bool is_written;
        LIST_ENTRY(handle) queued;
        UT_hash_handle hh;
};

#define SPENT_MAX 64
#define HOSTILE_MAX 16

struct handles {
        struct handle *table;
        LIST_HEAD(, handle) deferred; /* of uids that have made a write block: one at a time */
        LIST_HEAD(, handle) written;  /* to be let go of when there is time */
        unsigned n_written;
        struct turn write_turn, tidy_turn;
        sd_event_source *tidy_timer;
        struct {
                uid_t uid;
                uint64_t until_usec;
        } hostile[HOSTILE_MAX];
        unsigned n_hostile;
        int spent[SPENT_MAX]; /* born signalled, to be closed once they were sent */
        unsigned n_spent;
        timer_t guard;
        bool has_guard, armed;
        unsigned n_interrupted;
};

struct effects {
        sd_event *event;
        struct tree *tree;
        const struct effects_sink *sink;
        void *userdata;
        sd_event_source *timer;
        struct turn drain_turn; /* one more drain, soon */
        uint64_t epoch;
        int alive[2]; /* a pipe: what others hold, and what ends with us */
        bool draining;
        bool stopping;

        struct process *processes;
        struct kicks *kicks;             /* by uid */
        LIST_HEAD(, threads) pages_read; /* in this drain */
        uint64_t look_serial;
        struct handles handles;
        struct lifeline *lifelines;
        struct page_set *pages;
        struct membership membership;
        struct probe_link link;
};

/* effects.c: drains and tells bus/ that there may be something to send; for events that no request caused. */
void effects_event(struct effects *e);
void effects_again(struct effects *e); /* drain once more, when other events have had their turn */

/* process.c */
int process_watch(struct process *p);
int process_acquire_start(struct effects *e, pid_t pid, uint64_t start_ticks, struct process **ret);

/* handle.c */
int handles_init(struct effects *e);
void handles_deinit(struct effects *e);
void handles_signal(struct effects *e, struct context *c, enum handle_kind kind);
void handles_disarm(struct effects *e); /* after the last handles_signal() of a drain */
void handles_tidy(struct effects *e);   /* soon: what was written is let go of */
bool handles_give_back(
                struct effects *e); /* now, since descriptors are short; false: there are none to give */
void handles_close_spent(struct effects *e);
void handles_drop_context(struct effects *e, struct context *c);
void handles_drop_process(struct effects *e, struct process *p);

/* lifeline.c */
void lifeline_drop(struct effects *e, struct context *c);
void lifelines_deinit(struct effects *e);

/* thread-page.c, thread-look.c */
struct member_slot;
uint32_t threads_look(
                struct effects *e, struct member_slot *slot); /* reads the pages again: how many are in it */
int threads_each(struct effects *e, struct member_slot *slot,
                int (*cb)(void *userdata, struct process *p, uint32_t tid, uint64_t since_usec),
                void *userdata);
/* What was read of the pages is old now: of each drain, after the state words were written. */
void threads_look_again(struct effects *e);
void threads_drop_slot(struct member_slot *slot);
void threads_drop_process(struct effects *e, struct process *p);
void threads_deinit(struct effects *e);

/* page.c */
void page_update(struct effects *e, struct context *c);
void page_drop(struct effects *e, struct context *c);
void pages_deinit(struct effects *e);

/* owner.c */
void owner_exited(struct effects *e, struct process *p);

/* leaks.c */
void leaks_add(struct effects *e, const struct probe_leak *record);
void leaks_resolve(struct effects *e, const struct probe_resolved *record);
void leaks_left(struct effects *e,
                struct member_slot *slot); /* no member is left: whatever was open is over */
void leaks_drop(struct effects *e, struct member_slot *slot);
void leaks_probe_new(struct effects *e); /* another probe, with leak ids of its own */
