/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Who is a member of what, and the signals to members. A context that has members has a number here (its
 * slot). A backend knows the tasks: the kernel itself, through the maps that the probe has made (bpf.c); or,
 * where that is refused, ctxd by pidfd (direct.c) and by control group (cgroup.c). */

struct anchor;
struct member_slot;
struct membership;
struct policy;
struct process;
struct processes;
struct user;
struct world;

int membership_new(struct membership **ret, struct world *world, struct processes *processes);
struct membership *membership_free(struct membership *m);

/* "bpf"; "cgroup": some members are known by a control group of their own; "direct" */
const char *membership_backend_name(const struct membership *m);
/* The probe's maps and links (enum probe_fd): they are taken over on success, and every member moves
 * there. */
int membership_use_bpf(struct membership *m, const int fds[]);
/* Those in use, for the next probe; NULL: there are none. */
const int *membership_bpf_fds(const struct membership *m);

/* The slot of a context, made if it has none, and charged to user. -EDQUOT; -ENOSPC; -ENOMEM. */
int membership_open(struct membership *m, struct anchor *anchor, struct user *user);
/* Makes the process, with its threads and all that it forks meanwhile, members of a context that has a slot,
 * by the policy of that index. user: whom it is charged to. -EDQUOT; -ESRCH: it has gone; another -errno. */
int membership_attach(struct membership *m, struct anchor *anchor, struct process *p, uint32_t index,
                const struct policy *policy, struct user *user);
/* Nobody was attached after all, and the slot was made for that: as if nobody had asked. */
void membership_close(struct membership *m, struct anchor *anchor);
/* The context that this process (its leader) is a member of, or NULL; and by which policy. */
struct anchor *membership_look_up(struct membership *m, struct process *p, uint32_t *ret_index);

/* The context became done at that time. Returns how many have to leave; those who get a signal get it in
 * membership_signal(). */
uint32_t membership_done(struct membership *m, struct anchor *anchor, uint64_t done_usec);
/* Some members are due to be killed. */
void membership_kill_due(struct membership *m, struct anchor *anchor);
/* Signals to all contexts of this drain. */
void membership_signal(struct membership *m);
/* May have members still: what the kernel counts, 0 only when the last one has left. */
uint32_t membership_live(struct membership *m, const struct anchor *anchor);
/* The last one has left: nobody is looked for any more. */
void membership_left(struct membership *m, struct anchor *anchor);
/* The context is forgotten. */
void membership_forget(struct membership *m, struct anchor *anchor);
void membership_process_exited(struct membership *m, struct process *p);

/* Member tasks of this context alone. */
uint32_t membership_count(struct membership *m, const struct anchor *anchor);

/* The contexts that have a slot: the first one (NULL), or the one after that; NULL: that was the last. */
struct anchor *membership_next_context(const struct membership *m, const struct anchor *after);

/* One member task. */
struct member {
        struct anchor *anchor;
        uint32_t pid, tid;
        uid_t uid; /* the effective one */
        uint64_t start_nsec, leader_start_nsec;
        char comm[16];
};

/* The next list is of these contexts. */
void membership_want(struct membership *m, struct anchor *anchor);
/* Of all that were wanted, in no order. The caller frees the list. */
int membership_list(struct membership *m, struct member **ret, size_t *ret_n);

/* For the probe: the slot as the kernel counts it; 0: the backend is direct, and the pids (at most n) say
 * who. */
uint32_t membership_slot_number(const struct membership *m, const struct anchor *anchor);
size_t membership_pids(struct membership *m, struct anchor *anchor, uint32_t *pids, size_t n);
