/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-2.1-or-later */
#pragma once

/* What the BPF programs, ctxd and ctxd-probe share in maps: fixed widths only, no pointers. Included by BPF code,
 * which has its own definitions of the fixed-width types. */

#ifndef __BPF__
#include <linux/types.h>
#endif

#define MEMBERSHIP_SLOTS_MAX 65536 /* contexts that have members at one time; slot 0 is never used */

/* How a task becomes a member, and how it is counted.
 *
 * The members map (task storage) holds the truth. Only the BPF programs write it, and a value in it never changes
 * but for `counted`: to move a task, its value is replaced by another one. So every count can be kept by atomic
 * operations in the kernel, whatever forks, execs or exits meanwhile, and no update from user space can lose one.
 *
 * ctxd asks, through the requests map (task storage as well, keyed by pidfd). To attach a process, or to move a
 * member to another context, it
 *
 *   1. takes a slot for the context, if it has none (context_id stored last; live is never stored to),
 *   2. reads CLOCK_BOOTTIME into since_nsec, made greater than that of every request before,
 *   3. updates the request (BPF_ANY, `counted` is ignored), which the fork hook heeds from then on,
 *   4. runs the adopt iterator (iter_create on its link, read to the end; there is nothing to read) until a run
 *      leaves stats.adopted and stats.adopt_failed as they were,
 *   5. looks the pidfd up in the members map: if it is not a member of the context as of since_nsec (a thread that
 *      was not one yet has execed and is the leader now), it starts again at 3, a few times at most (the leader may
 *      have exited before its threads, and is no member then),
 *   6. deletes the request. (One that is left behind does no harm: it is older than whatever came after it.)
 *
 * Several requests may share the runs of step 4. The rule of adopt is that the newest since_nsec wins, among a
 * task's own value, the request for its process, its leader's value, and its parent's value, if the task was born
 * between that since_nsec and given_nsec (later, the fork hook saw to it). So all threads are taken in, and every
 * child born since the request, but no older child; what a newer request attached to something else stays there. */

/* The value in a task's storage, and a request. */
enum {
        MEMBER_NEW = 0,     /* made this instant, not in the slot's count yet */
        MEMBER_COUNTED = 1, /* in the slot's count */
        MEMBER_GONE = 2,    /* counted off: exits, or is being moved; a zombie keeps it until it is reaped */
};

struct membership_value {
        __u64 context_id;
        __u32 slot;   /* index into the slots array */
        __u32 policy; /* which of the context's policies (signal, kill-after, who attached) */
        __u32 counted;
        __u32 reserved;
        __u64 since_nsec; /* CLOCK_BOOTTIME of the request that this value comes from, inherited with it */
        __u64 given_nsec; /* when this task got it, UINT64_MAX for an instant; ignored in requests */
        __u64 pending; /* signals that its parent had not been given yet, and would be, when the fork hook saw it be
                             born; bit 0 is signal 1. 0 in requests, and where another than the hook has made it */
};

/* The slots array, BPF_F_MMAPABLE: the programs write live, ctxd writes the rest through its mapping, with
 * sequentially consistent atomics, since each side stores and then looks at what the other one stores:
 *
 *   context done:  ctxd sets done = SLOT_DONE, then reads live; the exit hook takes one off live, then reads done.
 *                  At least one of them sees that the context is drained.
 *   slot freed:    ctxd sets context_id = 0, then reads live, and puts the id back if it is not 0; the fork hook adds
 *                  one to live, then reads context_id, and takes it back if it is another one. live can be more than
 *                  the number of members for an instant, never less. */
enum {
        SLOT_ACTIVE = 0,
        SLOT_DONE = 1,
        SLOT_BORN = 2, /* done, and a task was born into it or adopted since ctxd last stored SLOT_DONE */
};

struct membership_slot {
        __u64 context_id; /* 0: free. A member whose context_id is another one is a stranger to this slot */
        __s32 live;       /* tasks (threads, not processes) that are members of exactly this context */
        __u32 done;       /* SLOT_* */
};

/* Ring buffer. A record too many does no harm: the reader looks at the slot. */
enum {
        MEMBERSHIP_DRAINED = 1, /* the last member of a done context has left */
        MEMBERSHIP_BORN =
                        2, /* a done context has a new member; once for each time that ctxd stores SLOT_DONE */
};

struct membership_event {
        __u64 context_id;
        __u32 slot;
        __u32 kind;
};

/* One record for each live member task, from the list iterator (which is readable by ctxd without any capability).
 * A read of it may end in the middle of a record. */
struct membership_task {
        struct membership_value value;
        __u32 pid; /* process (tgid) and thread, as the reader's pid namespace numbers them */
        __u32 tid;
        __u32 ppid; /* the parent process in the same numbering, 0 if it is outside */
        __u32 uid;  /* effective */
        __u32 ruid; /* real and saved: with these one asks whether a signal is allowed */
        __u32 suid;
        __u32 exit_state;        /* always 0: zombies and dead leaders are left out */
        __u32 flags;             /* PF_* */
        __u64 start_nsec;        /* of this thread, CLOCK_BOOTTIME */
        __u64 leader_start_nsec; /* of its process: with pid, the identity of the process */
        char comm[16];
};

/* Counters, in the one entry of the stats map. Any increase of a `failed` makes ctxd run adopt sweeps. */
struct membership_stats {
        __u64 inherited;
        __u64 inherit_failed;
        __u64 adopted; /* taken in or moved by adopt */
        __u64 adopt_failed;
        __u64 events_lost; /* the ring was full: look at all done slots */
};
