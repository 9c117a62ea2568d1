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
struct kin;
struct member_account;
struct member_look;
struct own_cgroup;
struct signal_pass;
struct signalled;
struct signals;

/* A context that has members, or threads that may enter it. A slot exists from an attach until nobody is
 * counted in it any more. */
struct member_slot {
        uint32_t number; /* also the index into the kernel's array of slots */
        uint64_t context_id;
        struct anchor *anchor; /* NULL: its context is forgotten, but the kernel still counts somebody */
        struct charge charge;
        struct charge members; /* as many as there were at the last look */
        struct member_account *account;
        TAILQ_ENTRY(member_slot) by_user;
        bool is_joining; /* an attach is under way */

        struct policy *policies; /* those of the model's context, by the same index */
        uint32_t n_policies;
        uint64_t done_usec;

        bool counts;                      /* its members are counted by the first pass */
        bool signal;                      /* it is done, and some members get a signal */
        bool kill;                        /* some members have to be killed now */
        LIST_HEAD(, signalled) signalled; /* the processes that have got theirs */
        struct signal_pass *pass;         /* that goes through its members; NULL: none has to */
        LIST_ENTRY(member_slot) in_pass;
        uint64_t pass_number;           /* of the last pass that has listed its members */
        LIST_HEAD(, attached) attached; /* backend direct */
        bool is_wanted;                 /* the next walk meets its members */
        LIST_ENTRY(member_slot) wanted;

        UT_hash_handle hh; /* by context_id */
};

extern const struct membership_backend membership_direct, membership_bpf;

struct membership {
        struct world *world;
        struct processes *processes;
        const struct membership_backend *backend;
        unsigned n_moves; /* to a backend, or to other maps */

        struct member_slot *by_id;
        struct member_slot **by_number;
        uint32_t n_numbers, n_allocated; /* numbers below n_numbers were used at some time; 0 never is */
        uint32_t *free_numbers;
        uint32_t n_free;
        struct member_account *accounts; /* by user */
        LIST_HEAD(, member_slot) wanted;

        struct signalled *signalled; /* by pid */
        struct signals *signals;
        LIST_HEAD(, member_look) looks; /* that are under way */

        struct bpf_membership *bpf;
        struct attached *attached; /* backend direct: those that have not exited, by pid */
        struct kin *kin;           /* and what descends from them, by pid */
        unsigned n_in_groups;      /* attached processes in the group of another one */
        unsigned n_reaped;         /* attached processes whose orphans a subreaper gets */
        bool has_parted;           /* at some time nobody knew whose those of one were */
        uint64_t oldest_ticks;     /* no attached process has started before */
        struct own_cgroup *cgroups;
};

/* membership.c */
/* NULL: that slot is now another context's, or free. */
struct member_slot *member_slot_get(const struct membership *m, uint32_t number, uint64_t context_id);
/* Somebody may have left. Raises a fact if it was the last member. Then a slot whose context is forgotten is
 * freed. */
void member_slot_look(struct membership *m, struct member_slot *slot);

/* list.c: the slots whose members the next walk meets. */
void member_slot_want(struct membership *m, struct member_slot *slot);
void membership_unwant(struct membership *m);

/* account.c */
int account_join(struct membership *m, struct member_slot *slot);
void account_leave(struct membership *m, struct member_slot *slot);
/* Looks again at some slots of the user, and gives those back that are empty. */
void account_look(struct membership *m, const struct user *user);

/* A look ends, for this turn, with the process at which ctxd has waited for so long in all (law 48). */
#define LOOK_WAIT_USEC 5000

/* direct-look.c */
int direct_look(struct membership *m, struct member_look *l, uint32_t *budget);
void direct_look_stop(struct member_look *l);

/* direct.c */
/* Whether the process is counted in a slot. */
bool direct_is_counted(struct membership *m, struct process *p);
/* kin.c: looks which descendants in the slot have exited. Takes one from *budget for each. */
void direct_forget_gone(struct member_slot *slot, uint32_t *budget);
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
/* The context is done, and its members have to be signalled, by the next signals_run(). */
void signals_begin(struct membership *m, struct member_slot *slot);
/* Signals everybody who is a member now of the contexts that were begun, before it returns. Children that are
 * born meanwhile get their signal soon after. Gives how many members the slots have that count. If they are
 * too many to be signalled at once, returns a pass that has to go on (membership.h). */
struct signal_pass *signals_run(struct membership *m, uint32_t *ret_n);
int signals_go(struct signal_pass *p, uint32_t budget, uint32_t *ret_n);
void signals_let_go(struct signal_pass *p);
void signals_finish(struct membership *m);
/* The members of the slot have to be looked at again, in pieces, between other events: soon, or after a
 * pause. */
void signals_soon(struct membership *m, struct member_slot *slot);
void signals_later(struct membership *m, struct member_slot *slot);
/* The slot has a new member, though its context is done. */
void signals_born(struct membership *m, struct member_slot *slot);
/* Nobody in that slot is signalled any more. */
void signals_end(struct membership *m, struct member_slot *slot);
/* signals-send.c: forgets who of that slot was signalled. */
void signals_forget(struct membership *m, struct member_slot *slot);
