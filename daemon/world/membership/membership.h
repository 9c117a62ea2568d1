/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Membership says which process is a member of which context, and sends the signals to members. A context
 * that has members has a slot here, with a number. A backend knows the tasks. With BPF that is the kernel,
 * through the maps that the probe has made (bpf.c). Where BPF is refused, ctxd itself knows them by pidfd
 * (direct.c) and by control group (cgroup.c). */

struct anchor;
struct member_ending;
struct member_slot;
struct membership;
struct policy;
struct process;
struct processes;
struct user;
struct world;

int membership_new(struct membership **ret, struct world *world, struct processes *processes);
struct membership *membership_free(struct membership *m);

/* "bpf", "direct", or "cgroup": direct, and some members are known by a control group of their own. */
const char *membership_backend_name(const struct membership *m);
/* Moves every member to the probe's maps. fds are the maps and links (enum probe_fd); they are taken over on
 * success. */
int membership_use_bpf(struct membership *m, const int fds[]);
/* The maps and links that are in use, for the next probe. NULL: there are none. */
const int *membership_bpf_fds(const struct membership *m);

/* Makes the slot of a context if it has none, and charges it to user. -EDQUOT (RESOURCE_SLOTS); -ENOMEM. */
int membership_open(struct membership *m, struct anchor *anchor, struct user *user);
/* Makes a process a member of a context that has a slot, with its threads and with the children that it forks
 * meanwhile. index is that of the policy. It is charged to the user of the slot. -EDQUOT: a charge for
 * *ret_resource was refused; -ESRCH: the process has gone; another -errno. */
int membership_attach(struct membership *m, struct anchor *anchor, struct process *p, uint32_t index,
                const struct policy *policy, int *ret_resource);
/* What becomes a child of reaper from now on descends from p, which is a member. Only a subreaper may say so,
 * of a child of its own. The kernel knows that by itself. is_shared: somebody below the reaper is a member of
 * a context that is not p's, nor below that. Then nobody can tell whose its orphans are. */
void membership_reap(struct membership *m, struct process *p, struct process *reaper, bool is_shared);
/* Whether somebody that was attached to the context is below the process; true also if *budget, of which each
 * one that is looked at takes one, is used up. */
bool membership_has_below(
                struct membership *m, const struct anchor *a, struct process *above, unsigned *budget);
/* p has become a member of a context that is not below the one in which it was. So nobody can tell any more
 * whose the orphans of the subreapers above it are. */
void membership_part(struct membership *m, struct process *p);
/* Whether the user may have one more member: 0 or -EDQUOT. What has left since the last look does not
 * count. */
int membership_room(struct membership *m, struct user *user);
/* Gives the slot back if nobody is in the context, and no thread can enter it. */
void membership_trim(struct membership *m, struct anchor *anchor);
/* Gives the slot back: the context is forgotten, or the attach for which the slot was made has failed. */
void membership_close(struct membership *m, struct anchor *anchor);
/* 1: *ret is the context of which the process, that is its leading thread, is a member, and *ret_index its
 * policy there; 0: it is no member; or -errno: that is not known. -ELOOP: it has too many ancestors. */
int membership_look_up(struct membership *m, struct process *p, struct anchor **ret, uint32_t *ret_index);

/* The context became done at that time. membership_signal() sends its members their signals. Returns how many
 * have to leave, as far as this can be known without a look at them. counts: membership_signal() is to tell
 * the others. */
uint32_t membership_done(struct membership *m, struct anchor *anchor, uint64_t done_usec, bool counts);
/* Some members have to be killed now. membership_signal() has that done. */
void membership_kill_due(struct membership *m, struct anchor *anchor);
/* Signals the members of all contexts of which the two functions above were told. Call it once for all of
 * them. Gives how many were counted. Returns NULL when they all have their signals. Where they are many, it
 * returns after the first ones. Somebody has to go on then, or to let go of it: it goes on by itself between
 * other events. */
struct signal_pass;
struct signal_pass *membership_signal(struct membership *m, uint32_t *ret_n);
/* 1: all have got theirs, and so many were counted; 0: there is more. budget: so many are read. */
int membership_signal_go(struct signal_pass *p, uint32_t budget, uint32_t *ret_n);
void membership_signal_let_go(struct signal_pass *p); /* or NULL */
/* Has all of them get theirs now. */
void membership_signal_finish(struct membership *m);
/* How many members the backend still counts. It is 0 only when the last one has left. */
uint32_t membership_live(struct membership *m, const struct anchor *anchor);
/* The last member has left: nobody is signalled any more. */
void membership_left(struct membership *m, struct anchor *anchor);
void membership_process_exited(struct membership *m, struct process *p);

/* Counts the member tasks of this context, without those below it. Where that takes a look at each of them it
 * may take long, and a list can be made instead, in parts. */
uint32_t membership_count(struct membership *m, const struct anchor *anchor);
bool membership_count_takes_looks(const struct membership *m);

/* The contexts that have a slot: the first one (NULL), or the one after that; NULL: that was the last. */
struct anchor *membership_next_context(const struct membership *m, const struct anchor *after);

/* One member task. */
struct member {
        uint64_t context_id;
        uint32_t pid, tid, ppid;
        uint32_t policy;  /* index into its context's */
        uid_t uids[3];    /* real, effective, saved, if they were asked for */
        uint64_t pending; /* signals, for its parent when it was born; 0 if that is not known */
        uint64_t start_nsec, leader_start_nsec;
        char comm[16];
};

/* The next membership_list() has to list the members of this context. */
void membership_want(struct membership *m, struct anchor *anchor);
/* Lists the members of all contexts that were wanted, in no order. It is made in parts, and is over when
 * member_list_go() has returned 1. That takes one from *budget for each process at which it looks. 0: there
 * is more; or -errno. Contexts may go meanwhile. */
struct member_list;
int membership_list(struct membership *m, bool with_uids, struct member_list **ret);
int member_list_go(struct membership *m, struct member_list *l, uint32_t *budget);
struct member *member_list_members(const struct member_list *l, size_t *ret_n); /* may be sorted */
struct member_list *member_list_free(struct member_list *l);

/* Tells how the end of this context reaches a member, whose uids were asked for. False: there is nobody in it
 * any more. */
bool membership_ending(struct membership *m, const struct anchor *anchor, const struct member *member,
                struct member_ending *ret);

/* For the probe. The number of the slot, by which the kernel knows the members. 0: the kernel does not, and
 * membership_pids() names them, n at most. */
uint32_t membership_slot_number(const struct membership *m, const struct anchor *anchor);
size_t membership_pids(struct membership *m, struct anchor *anchor, uint32_t *pids, size_t n);
