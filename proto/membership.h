/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-2.1-or-later */
#pragma once

/* What the BPF programs, ctxd and ctxd-probe share in maps. All fields have a fixed width, and there are no
 * pointers. BPF code includes this file, too, and brings its own definitions of the types. */

#ifndef __BPF__
#include <linux/types.h>
#endif

/* How many contexts can have members at one time. Slot 0 is never used. */
#define MEMBERSHIP_SLOTS_MAX 262144

/* How a task becomes a member, and how members are counted.
 *
 * The members map (task storage) is the one record of who is a member. Only the BPF programs write to it,
 * and they never change a value in it, except for `counted`. To move a task, they replace its value by
 * another one. So atomic operations in the kernel keep every count right, whatever forks, execs or exits
 * meanwhile, and no update from user space can lose a member.
 *
 * ctxd asks for members through the requests map, which is task storage, too; its key is a pidfd. To attach
 * a process, or to move a member to another context, ctxd takes these steps:
 *
 *   1. It takes a slot for the context, if the context has none, and gives it back when the last member has
 *      left. It stores context_id last, and never stores to live.
 *   2. It reads CLOCK_BOOTTIME into since_nsec, and makes that greater than in every request before.
 *   3. It updates the request (BPF_ANY; `counted` has no meaning there). From now on the fork hook acts
 *      on it.
 *   4. It runs the adopt iterator until a run leaves stats.adopted and stats.adopt_failed unchanged. To
 *      run it, it makes an iterator of its link and reads that to the end; there is nothing in it. A link
 *      that is limited to the process is enough, and does not take longer the more tasks there are on the
 *      host. Where a thread exits meanwhile it may end early: then stats.met has grown by less than
 *      stats.threads.
 *   5. It looks the pidfd up in the members map. The process may not be a member of the context as of
 *      since_nsec: a thread that was no member yet has execed, and is the leader now. Then ctxd starts
 *      again at step 3, a few times at most. (If the leader has exited before its threads, it stays no
 *      member.)
 *   6. It deletes the request. A request that is left behind does no harm: it is older than everything
 *      after it.
 *
 * Several requests may share the runs of step 4. In adopt, the newest since_nsec wins, among these: the
 * value of the task itself, the request for its process, the value of its leader, and the value of its
 * parent. The last one counts only if the task was born between its since_nsec and its given_nsec: children
 * that were born later have been handled by the fork hook. So all threads are taken in, and all children
 * that were born since the request, but no older ones. What a newer request has attached to another context
 * stays there. */

/* The value in a task's storage. A request has the same form. */
enum {
        MEMBER_NEW = 0,     /* just made, not in the slot's count yet */
        MEMBER_COUNTED = 1, /* in the slot's count */
        MEMBER_GONE = 2,    /* taken off the count: the task exits or is moved; a zombie keeps this value */
};

struct membership_value {
        __u64 context_id;
        __u32 slot;   /* index into the slots array */
        __u32 policy; /* which of the context's policies: signal, kill-after, who has attached it */
        __u32 counted;
        __u32 reserved;
        __u64 since_nsec; /* CLOCK_BOOTTIME of the request that this value comes from; children inherit it */
        __u64 given_nsec; /* when this task got it; UINT64_MAX at first. Not used in requests */
        /* The signals that were pending at its parent, and not blocked, when the fork hook made this value;
         * bit 0 is signal 1. It is 0 in requests, and in values that the hook has not made. */
        __u64 pending;
};

/* The slots array (BPF_F_MMAPABLE). The programs write live. ctxd writes the rest through its mapping, with
 * sequentially consistent atomics, since each side stores one thing and then looks at what the other side
 * stores:
 *
 * - The exit hook takes one off live, and tells of the last one, which ctxd may miss in a full ring alone.
 * - A slot is freed: ctxd sets context_id = 0 and then reads live; if live is not 0, it puts the id back.
 *   The fork hook adds one to live and then reads context_id; if it is another one, the hook takes off what
 *   it has added. For an instant live can be more than the number of members, but never less. */
enum {
        SLOT_ACTIVE = 0,
        SLOT_DONE = 1,
        SLOT_BORN = 2, /* done, and since ctxd last stored SLOT_DONE a task was born into it or adopted */
};

struct membership_slot {
        __u64 context_id; /* 0: free. A value with another context_id does not belong to this slot */
        __s32 live;       /* tasks (threads, not processes) that are members of this context itself */
        __u32 done;       /* SLOT_* */
        __u32 wanted;     /* not 0: the list iterator lists the members */
        __u32 reserved;
};

/* The processes in which a slot's members are, by their numbers in ctxd's pid namespace. It is a hint, so
 * that a few members are found without a look at all tasks of the host. Whoever has met all threads of these
 * (stats.met), and has found as many as live says, has found all, if is_crowded is 0: that is set for good
 * where a process had no room. ctxd makes it with the slot, and deletes it. */
#define MEMBERSHIP_PROCESSES 63

struct membership_processes {
        __u32 is_crowded;
        __u32 pids[MEMBERSHIP_PROCESSES];
};

/* The records of the ring buffer. One that comes needlessly does no harm, since the reader looks at the
 * slot. */
enum {
        MEMBERSHIP_DRAINED = 1, /* the last member has left, for the moment at least */
        /* A done context has a new member. Comes once for each time that ctxd stores SLOT_DONE. */
        MEMBERSHIP_BORN = 2,
};

struct membership_event {
        __u64 context_id;
        __u32 slot;
        __u32 kind;
};

/* The list iterator writes one record for each living member task of the slots that are wanted. ctxd may read
 * it without any capability. A read may end in the middle of a record. */
struct membership_task {
        struct membership_value value;
        /* Process (tgid), thread and parent process, by the reader's pid namespace; 0: not in there. */
        __u32 pid;
        __u32 tid;
        __u32 ppid;
        __u32 uid;  /* effective */
        __u32 ruid; /* real and saved: these decide whether a signal is allowed */
        __u32 suid;
        __u32 exit_state;        /* always 0: zombies and dead leaders are left out */
        __u32 flags;             /* PF_* */
        __u64 start_nsec;        /* of this thread, CLOCK_BOOTTIME */
        __u64 leader_start_nsec; /* of its process, which pid and this identify together */
        char comm[16];
};

/* Counters, in the only entry of the stats map. When one of the `failed` increases, ctxd runs adopt. */
struct membership_stats {
        __u64 inherited;
        __u64 inherit_failed;
        __u64 adopted; /* taken in or moved by adopt */
        __u64 adopt_failed;
        __u64 events_lost; /* the ring was full: look at all slots */
        __u64 met;         /* tasks that list has met, and adopt in processes with a request */
        __u64 threads;     /* of the last such process, when it was met */
};
