/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of this room share. Nobody else includes this. */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <uthash.h>

#include "daemon/model/policy.h"
#include "daemon/model/user.h"
#include "daemon/world/anchor.h"
#include "daemon/world/membership/backend.h"
#include "daemon/world/membership/membership.h"
#include "daemon/world/process.h"
#include "daemon/world/world.h"
#include "proto/membership.h"
#include "proto/names.h"
#include "proto/probe-record.h"

struct attached;
struct bpf_membership;
struct own_cgroup;
struct signal_pass;
struct signalled;

/* A context that has or had members. A slot exists from the first attach until the context is forgotten and
 * nobody is counted in it any more. */
struct member_slot {
        uint32_t number; /* also the index into the kernel's array of slots */
        uint64_t context_id;
        struct anchor *anchor; /* NULL: its context is forgotten, but the kernel still counts somebody */
        struct charge charge;

        struct policy *policies; /* those of the model's context, by the same index */
        uint32_t n_policies;
        uint64_t done_usec;

        bool signal;                      /* it is done, and some members get a signal */
        bool kill;                        /* some members have to be killed now */
        LIST_HEAD(, signalled) signalled; /* the processes that have got theirs */
        LIST_HEAD(, attached) attached;   /* backend direct */
        bool is_wanted;                   /* the next list has its members */

        UT_hash_handle hh; /* by context_id */
};

extern const struct membership_backend membership_direct, membership_bpf;

struct membership {
        struct world *world;
        struct processes *processes;
        const struct membership_backend *backend;

        struct member_slot *by_id;
        struct member_slot **by_number;
        uint32_t n_numbers, n_allocated; /* numbers below n_numbers were used at some time; 0 never is */
        uint32_t *free_numbers;
        uint32_t n_free;
        uint32_t n_stale; /* slots whose context is forgotten */

        struct signalled *signalled; /* by pid */
        struct signal_pass *pass;    /* signals.c */
        bool passes_wanted, kills_wanted;
        /* A walk saw a process that was gone at the next look, so it may have missed others. */
        bool is_restless;

        struct bpf_membership *bpf;
        struct attached *attached; /* backend direct: those that have not exited, by pid */
        struct own_cgroup *cgroups;
};

/* membership.c */
/* NULL: that slot is now another context's, or free. */
struct member_slot *member_slot_get(const struct membership *m, uint32_t number, uint64_t context_id);
/* Somebody has left. Raises a fact if it was the last member of a done context. */
void member_slot_look(struct membership *m, struct member_slot *slot);
/* Frees the slots whose context is forgotten, if nobody is counted in them any more. */
void membership_collect_stale(struct membership *m);

/* direct.c */
void attached_drop(struct attached *a);
void attached_exited(struct membership *m, struct attached *a);
/* Its control group has emptied. This frees the group. */
void attached_cgroup_emptied(struct membership *m, struct attached *a);

/* bpf.c */
int bpf_membership_new(struct membership *m, const int fds[PROBE_FDS], struct bpf_membership **ret);
struct bpf_membership *bpf_membership_free(struct bpf_membership *b);
const int *bpf_membership_fds(const struct bpf_membership *b);

/* signals.c */
int signals_new(struct membership *m);
void signals_free(struct membership *m);
/* Signals everybody who is a member now, before it returns. Children that are born meanwhile get their signal
 * then or soon after. */
void signals_run(struct membership *m);
/* The same, but in pieces, between other events. */
void signals_soon(struct membership *m);
/* The same after a pause. */
void signals_later(struct membership *m);
/* signals-send.c: forgets who of that slot was signalled. */
void signals_forget(struct membership *m, struct member_slot *slot);
