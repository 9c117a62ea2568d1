/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-2.1-or-later */
#pragma once

/* What the BPF programs, ctxd and ctxd-probe share in maps: fixed widths only, no pointers. Included by BPF code,
 * which has its own definitions of the fixed-width types. */

#ifndef __BPF__
#include <linux/types.h>
#endif

#define MEMBERSHIP_SLOTS_MAX 65536 /* contexts that have members at one time; slot 0 is never used */

/* The value in a task's storage. Set by ctxd through a pidfd (counted = MEMBER_NEW), copied by the fork hook. */
enum {
        MEMBER_NEW = 0,     /* set from user space, not in the slot's count yet: the adopt sweep counts it */
        MEMBER_COUNTED = 1, /* in the slot's count */
        MEMBER_GONE = 2,    /* counted off by the exit hook; a zombie keeps its storage until it is reaped */
};

struct membership_value {
        __u64 context_id;
        __u32 slot;   /* index into the slots array */
        __u32 policy; /* which of the context's policies (signal, kill-after, who attached) */
        __u32 counted;
        __u32 reserved;
};

/* The slots array, BPF_F_MMAPABLE: written by the hooks (live) and by ctxd through its mapping (the rest). */
struct membership_slot {
        __u64 context_id; /* 0: free. A member whose context_id is another one is a stranger to this slot */
        __s32 live;       /* tasks (threads, not processes) that are members of exactly this context */
        __u32 done;       /* ctxd sets it when the context is done, then reads live; the exit hook the other way round */
};

/* Ring buffer: a done context's last member has left. Both sides look again; a record too many does no harm. */
struct membership_event {
        __u64 context_id;
        __u32 slot;
        __u32 reserved;
};

/* One record for each member task, from the list iterator (which is readable by ctxd without any capability). */
struct membership_task {
        struct membership_value value;
        __u32 pid;           /* process (tgid) and thread, as the reader's pid namespace numbers them */
        __u32 tid;
        __u32 ppid;          /* the parent process in the same numbering, 0 if it is outside */
        __u32 uid;           /* effective */
        __u32 exit_state;    /* != 0: a zombie or a dead leader */
        __u32 flags;         /* PF_* */
        __u64 start_nsec;    /* of this thread, CLOCK_BOOTTIME */
        __u64 leader_start_nsec; /* of its process: with pid, the identity of the process */
        char comm[16];
};

/* How many times a hook could not do its work; any increase makes ctxd run an adopt sweep. */
struct membership_stats {
        __u64 inherited;
        __u64 inherit_failed;
        __u64 adopted;
        __u64 adopt_failed;
        __u64 events_lost;
};
