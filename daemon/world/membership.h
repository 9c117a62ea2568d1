/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "daemon/world/effects.h"
#include "proto/membership.h"
#include "proto/probe-record.h"

/* Who is a member of what. membership.c knows the contexts that have members, each under a number (its slot);
 * a backend knows the tasks: the kernel's, by the maps that the probe has made (membership-bpf.c), or, where
 * that is refused, ctxd's own, by pidfd (membership-direct.c) and by control group (membership-cgroup.c). */

struct announcement;
struct attached;
struct bpf_membership;
struct own_cgroup;
struct signal_pass;
struct signalled;

/* A context that has, or had, members. Lives from its first attach until the context is forgotten. */
struct member_slot {
        uint32_t number; /* index into the kernel's slots array as well */
        uint64_t context_id;
        struct context *context; /* NULL: forgotten, and the kernel still counts somebody */
        struct charge charge;

        bool signal;                            /* done, and some members get a signal or are killed */
        bool kill;                              /* some are due to be killed */
        LIST_HEAD(, signalled) signalled;       /* which processes have had theirs */
        LIST_HEAD(, attached) attached;         /* backend direct */
        bool announced;                         /* the probe was told to watch it */
        LIST_HEAD(, thread_entrance) entrances; /* processes whose threads may enter it */
        uint32_t n_threads;                     /* that had entered it when it was last looked at */

        TAILQ_HEAD(, leak) leaks;
        uint32_t n_leaks;
        LIST_ENTRY(member_slot) leaky; /* while it has leaks */

        UT_hash_handle hh; /* by context_id */
};

/* A live task that is a member. */
struct member_record {
        struct member_slot *slot;
        uint32_t policy; /* index into the context's policies */
        uint32_t pid, tid, ppid;
        uid_t uids[3]; /* real, effective, saved */
        uint64_t start_nsec, leader_start_nsec;
        uint64_t pending; /* signals that its parent was about to be given when it was born, where that is known */
        const char *comm;
};

typedef int (*member_cb)(void *userdata, const struct member_record *record);

struct membership_backend {
        const char *name;
        /* before the first attach to a slot; after the last one */
        int (*slot_open)(struct effects *e, struct member_slot *slot);
        bool (*slot_close)(
                        struct effects *e, struct member_slot *slot); /* false: somebody is still counted */
        int (*attach)(struct effects *e, struct member_slot *slot, struct process *p, uint32_t policy,
                        struct refused *ret_refused);
        struct member_slot *(*look_up)(
                        struct effects *e, struct process *p, uint32_t *ret_policy); /* or NULL */
        void (*set_done)(struct effects *e, struct member_slot *slot);
        uint32_t (*live)(struct effects *e, struct member_slot *slot);  /* 0: the last one has left */
        uint32_t (*count)(struct effects *e, struct member_slot *slot); /* how many are to leave */
        int (*each)(struct effects *e, member_cb cb, void *userdata);
};

extern const struct membership_backend membership_direct, membership_bpf;

struct membership {
        const struct membership_backend *backend;
        struct member_slot *by_id;
        struct member_slot **by_number;
        uint32_t n_numbers, allocated; /* numbers below n_numbers were used at some time; 0 never is */
        uint32_t *free_numbers;
        uint32_t n_free;
        LIST_HEAD(, member_slot) leaky;
        uint32_t n_leaks; /* kept */
        uint64_t leaks_found;
        uint32_t n_stale; /* slots without context */

        struct signalled *signalled; /* by pid */
        struct signal_pass *pass;    /* signals.c */
        bool passes_wanted, kills_wanted;
        bool restless; /* somebody was seen, and was gone when it was looked at */

        struct bpf_membership *bpf;
        struct attached *attached; /* backend direct: those that have not exited, by pid */
        struct own_cgroup *cgroups;
};

/* membership.c */
int membership_init(struct effects *e);
void membership_deinit(struct effects *e);
struct member_slot *membership_slot(const struct effects *e, uint64_t context_id);
struct member_slot *membership_slot_number(const struct effects *e, uint32_t number, uint64_t context_id);
int membership_slot_take(struct effects *e, struct context *c, struct member_slot **ret,
                struct refused *ret_refused); /* that of c, made if it has none */
uint32_t membership_done(
                struct effects *e, struct context *c); /* it became done: how many have to leave now */
void membership_kill_due(struct effects *e, struct context *c);
void membership_look(struct effects *e, struct member_slot *slot); /* somebody has left */
void membership_forget(struct effects *e, struct context *c);
void membership_process_exited(struct effects *e, struct process *p);
void membership_collect_stale(struct effects *e);

/* membership-move.c */
int membership_use_bpf(
                struct effects *e, const int fds[PROBE_FDS]); /* takes the descriptors over on success */

/* membership-direct.c */
void attached_free(
                struct effects *e, struct attached *a); /* it has exited, or was moved: looks at the slot */
void attached_drop(struct attached *a);
void attached_exited(struct effects *e, struct attached *a);
void attached_looked_at(struct effects *e, struct attached *a); /* whether its cgroup has emptied */
/* Of the attached processes, and of those in their groups, at most n */
size_t direct_pids(struct effects *e, struct member_slot *slot, uint32_t *pids, size_t n);

/* membership-cgroup.c: the control group of an attached process, where it has one of its own */
struct own_cgroup *own_cgroup_new(struct effects *e, struct attached *a, struct process *p); /* NULL: none */
struct own_cgroup *own_cgroup_free(struct own_cgroup *g);
bool own_cgroup_populated(const struct own_cgroup *g);
int own_cgroup_each(const struct own_cgroup *g, int (*cb)(void *userdata, pid_t pid), void *userdata);
struct attached *own_cgroup_owner(struct effects *e, pid_t pid); /* of the one that pid is in, or NULL */

/* membership-bpf.c */
int bpf_membership_new(struct effects *e, const int fds[PROBE_FDS], struct bpf_membership **ret);
struct bpf_membership *bpf_membership_free(struct bpf_membership *b);
const int *bpf_membership_fds(const struct bpf_membership *b);
void bpf_membership_check(struct effects *e); /* whatever the hooks could not do */

/* signals.c */
int signals_init(struct effects *e);
void signals_deinit(struct effects *e);
void signals_run(struct
                effects *e); /* everybody who is a member now, before it returns; newborns then or soon after */
void signals_soon(struct effects *e);  /* the same, piece by piece, between other events */
void signals_later(struct effects *e); /* in a moment */
void signals_forget(struct effects *e, struct member_slot *slot);
