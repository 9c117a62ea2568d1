/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/world/membership/internal.h"
#include "daemon/world/membership/look.h"
#include "util/proc.h"

/* What direct.c, direct-look.c, kin.c and orphans.c share. Nobody else includes this. */

/* A descendant of an attached process, which was seen. */
struct kin {
        pid_t pid;    /* the key */
        pid_t parent; /* whose child it was when it was seen first */
        uint64_t start_ticks;
        struct attached *attached;
        TAILQ_ENTRY(kin) by_attached;
        UT_hash_handle hh;
};

struct attached {
        struct membership *membership;
        struct process *process; /* a reference, watched */
        struct own_cgroup *cgroup;
        bool is_in_group; /* when it was attached, it was in that of another one */
        struct member_slot *slot;
        uint32_t policy;
        pid_t pid;             /* the key of the table, in which it stays until it exits */
        struct charge charge;  /* of descriptors */
        TAILQ_HEAD(, kin) kin; /* parents come before their children */
        uint32_t n_kin;

        struct process *reaper; /* a reference, or NULL: whose children are its orphans, */
        uint64_t reaper_ticks;  /* if they have started since then */
        LIST_ENTRY(attached) by_reaper;
        sd_event_source *again;      /* its successor is sought once more */
        struct orphan_look *orphans; /* they are looked for when it has exited */
        uint64_t dead_orphans, dead; /* whom the last looks have met (dead_sum()) */
        LIST_ENTRY(attached) by_slot;
        UT_hash_handle hh;
};

#define DEPTH_MAX 1024 /* so many ancestors of a process are looked at, which takes 5 ms */

/* The attached process that has that pid and has not exited, or NULL. */
struct attached *attached_find(struct membership *m, pid_t pid);
/* Another process takes its place. */
int attached_become(struct attached *a, struct process *p);
/* A process in a's own group belongs to a: it descends from nobody else there that was attached. */
bool attached_takes(struct membership *m, const struct attached *a, const struct proc_stat *stat);
/* The attached process in whose own group it is, if it belongs to that one; or NULL. */
struct attached *attached_by_group(struct membership *m, pid_t pid, const struct proc_stat *stat);

/* kin.c */
struct kin *kin_find(struct membership *m, pid_t pid, uint64_t start_ticks); /* or NULL */
/* A process that is not attached was seen as a child of a process that belongs to a. 0 or -ENOMEM. */
int kin_add(struct attached *a, pid_t pid, const struct proc_stat *stat);
void kin_drop(struct kin *k);
/* The attached process to which that one belongs, which was attached or seen; or NULL. */
struct attached *attached_known(struct membership *m, pid_t pid, uint64_t start_ticks);
/* If its parent belongs to another attached process by now, it does, too. */
bool kin_follow(struct kin *k, const struct proc_stat *stat);
/* 1: *ret is the attached process from which it descends; 0: there is none; or -errno. */
int kin_look_up(struct membership *m, pid_t pid, const struct proc_stat *stat, struct attached **ret);
/* It has exited, and one of its kin takes its place. 1: one has; 0: nobody is left; or -errno: it has to be
 * tried again; -EAGAIN: at once. */
int attached_succeed(struct membership *m, struct attached *a);

/* orphans.c */
void attached_leave_reaper(struct attached *a);
/* A process that has started then has this parent, by its pid and start time. False: it is the parent's own
 * child, as far as is known. True: it is an orphan, and *ret is whose; NULL: nobody's. */
bool orphan_owner(struct membership *m, pid_t parent, uint64_t parent_ticks, uint64_t start_ticks,
                struct attached **ret);
/* Of the dead processes that a look meets, to be added up. If the sum is that of the look before, all of them
 * had died before this look began, and whom they left behind was there to be met. If not, somebody may have
 * been missed, and another look is needed. */
uint64_t dead_sum(pid_t pid, const struct proc_stat *stat);
/* Opens the list of the children of its reaper. 1; 0: it has none, and nothing is open; or -errno. */
int orphans_open(struct attached *a, struct child_list *l);
/* If that child of its reaper is its orphan, it is one of its kin from now on, and this returns 1. 0: it is
 * not, or is dead, which is added to *dead; -ESRCH: it has gone; or another -errno. */
int orphan_visit(struct attached *a, pid_t pid, uint64_t *dead);
/* Looks for one. 1: there is one; 0: there is none; or -errno: it has to be called again; -EAGAIN: at
 * once. */
int orphans_look(struct attached *a);
