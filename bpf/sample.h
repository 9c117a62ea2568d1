/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-2.1-or-later */
#pragma once

/* What a sweep tells of a thread, from either backend: the BPF programs write it, the probe judges it. */

#ifndef __BPF__
#include <linux/types.h>
#endif

#define SAMPLE_FRAMES 24 /* of the kernel stack */
#define SAMPLE_POLLFDS 16
#define SAMPLE_PATH 128

/* A thread that has entered a done context by itself (proto/thread-page.h): what the probe tells the programs. */
struct entered {
        __u64 context_id;
        __u32 pid; /* of its process, as the reader's pid namespace numbers it; the key is its tid likewise */
        __u32 slot;
};

#define ENTERED_MAX 8192

struct sample {
        __u64 context_id;
        __u32 slot;
        __u32 policy;
        __u32 pid; /* these four as the reader's pid namespace numbers them; 0: not in it */
        __u32 tid;
        __u32 ppid;
        __u32 ptid;  /* the thread that is its parent: the one that waits, after a vfork */
        __u32 state; /* the kernel's __state: 0 runs, bits 0 and 1 sleep */
        __u32 flags; /* PF_* */
        __u32 exit_state;
        __u32 ptrace;
        __u64 jobctl;
        __u32 core;  /* its process is dumping core */
        __u32 vfork; /* its parent waits until it execs or exits */
        __u64 nvcsw;
        __u64 nivcsw;
        __u64 start_nsec; /* CLOCK_BOOTTIME */
        __u64 leader_start_nsec;
        __u64 runtime_nsec; /* on the CPU, ever */
        __u64 slept_nsec;   /* since it last left the CPU, if it is asleep; UINT64_MAX: not known */
        __s64 syscall;      /* -1: none */
        __u64 args[6];
        __u64 ip;
        __u64 sp;
        char comm[16];
};

/* The same, and what is asked of leaked threads only. The symbols of the frames follow as text, a line each.
 */
struct evidence {
        struct sample sample;
        __u64 nvcsw_after;
        __u64 nivcsw_after;
        __u32 n_frames;
        __u32 n_pollfds; /* of pollfds[]: a poll of at most SAMPLE_POLLFDS descriptors */
        __u64 frames[SAMPLE_FRAMES];
        struct {
                __s32 fd;
                __u16 events;
                __u16 revents;
        } pollfds[SAMPLE_POLLFDS];
        char path[SAMPLE_PATH]; /* that is being opened; may be cut, empty where there is none */
};
