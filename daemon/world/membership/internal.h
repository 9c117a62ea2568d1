/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of this room share; nobody else includes it. */

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

/* A context that has, or had, members. Lives from its first attach until the context is forgotten and nobody
 * is counted in it any more. */
struct member_slot {
        uint32_t number; /* index into the kernel's array of slots as well */
        uint64_t context_id;
        struct anchor *anchor; /* NULL: its context is forgotten, and the kernel still counts somebody */
        struct charge charge;

        struct policy *policies; /* as the model has them, by the same index */
        uint32_t n_policies;
        uint64_t done_usec;

        bool signal;                      /* done, and some members get a signal or are killed */
        bool kill;                        /* some are due to be killed */
        LIST_HEAD(, signalled) signalled; /* which processes have had theirs */
        LIST_HEAD(, attached) attached;   /* backend direct */
        bool is_wanted;                   /* in the next list */

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
        uint32_t n_stale; /* slots without context */

        struct signalled *signalled; /* by pid */
        struct signal_pass *pass;    /* signals.c */
        bool passes_wanted, kills_wanted;
        bool is_restless; /* somebody was seen, and was gone when it was looked at */

        struct bpf_membership *bpf;
        struct attached *attached; /* backend direct: those that have not exited, by pid */
        struct own_cgroup *cgroups;
};

/* membership.c */
struct member_slot *member_slot_get(const struct membership *m, uint32_t number, uint64_t context_id);
/* Somebody has left: a fact, if it was the last one of a done context. */
void member_slot_look(struct membership *m, struct member_slot *slot);
void membership_collect_stale(struct membership *m);

/* direct.c */
void attached_drop(struct attached *a);
void attached_exited(struct membership *m, struct attached *a);
/* Whether its control group has emptied was looked at. */
void attached_looked_at(struct membership *m, struct attached *a);

/* bpf.c */
int bpf_membership_new(struct membership *m, const int fds[PROBE_FDS], struct bpf_membership **ret);
struct bpf_membership *bpf_membership_free(struct bpf_membership *b);
const int *bpf_membership_fds(const struct bpf_membership *b);

/* signals.c */
int signals_new(struct membership *m);
void signals_free(struct membership *m);
/* Everybody who is a member now, before it returns; newborns then or soon after. */
void signals_run(struct membership *m);
/* The same, piece by piece, between other events. */
void signals_soon(struct membership *m);
/* In a moment. */
void signals_later(struct membership *m);
/* signals-send.c */
void signals_forget(struct membership *m, struct member_slot *slot);
