/* SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-2.1-or-later */
#pragma once

/* What a sweep finds out about a thread. Both backends fill it in, the BPF programs or the code that reads
 * /proc, and the probe judges by it. */

#ifndef __BPF__
#include <linux/types.h>
#endif

/* Frames of the kernel stack. */
#define SAMPLE_FRAMES 24
#define SAMPLE_POLLFDS 16
#define SAMPLE_PATH 128

/* A thread that has entered a done context by itself (proto/thread-page.h), as the probe tells the
 * programs. The key is its tid. Both numbers are those of the reader's pid namespace. */
struct entered {
        __u64 context_id;
        __u32 pid;
        __u32 slot;
};

#define ENTERED_MAX 8192

/* Processes that look (look.h): one, and those that no signal ends. */
#define LOOKERS_MAX 17

struct sample {
        __u64 context_id;
        __u32 slot;
        __u32 policy;
        /* These four are numbers of the reader's pid namespace; 0: it is not in there. */
        __u32 pid;
        __u32 tid;
        __u32 ppid;
        __u32 ptid;  /* the thread that has forked it */
        __u32 state; /* the kernel's __state: 0 runs; bit 0 or 1: sleeps */
        __u32 flags; /* PF_* */
        __u32 exit_state;
        __u32 ptrace;
        __u64 jobctl;
        __u32 core;  /* its process is dumping core */
        __u32 vfork; /* its parent waits until it execs or exits */
        __u32 uid;   /* real */
        __u32 named; /* it is here only because ctxd has said so; it is no member that the kernel knows */
        __u64 nvcsw;
        __u64 nivcsw;
        __u64 start_nsec; /* CLOCK_BOOTTIME */
        __u64 leader_start_nsec;
        __u64 runtime_nsec; /* on a CPU since it was born */
        __u64 slept_nsec;   /* since it left the CPU, if it sleeps; UINT64_MAX: not known */
        __s64 syscall;      /* -1: none */
        __u64 args[6];
        __u64 ip;
        __u64 sp;
        char comm[16];
};

/* A sample, and what is read only of threads that leak. The symbols of the frames follow as text, one on a
 * line. */
struct evidence {
        struct sample sample;
        __u64 nvcsw_after;
        __u64 nivcsw_after;
        __u32 n_frames;
        __u32 n_pollfds; /* of pollfds[]; 0 if it polls more than fit */
        __u64 frames[SAMPLE_FRAMES];
        struct {
                __s32 fd;
                __u16 events;
                __u16 revents;
        } pollfds[SAMPLE_POLLFDS];
        /* What is being opened; may be cut; "" if nothing is. Or, if n_address > 0, the address to which a
         * Unix socket connects or sends, as the kernel is given it. */
        char path[SAMPLE_PATH];
        __u32 n_address;
        __u32 reserved;
};

#define SAMPLE_UNIX_NAME 108

/* What a descriptor refers to. */
struct described {
        char path[256]; /* socket:[n] of a socket */
        __u32 is_socket;
        __u32 peer_pid; /* of the reader's pid namespace; 0: not known, or it has exited */
        __u16 family;
        __u16 type;
        __u16 protocol;
        __u16 state;           /* as of TCP, for every family */
        __u8 addresses[2][16]; /* the socket's, and its peer's; of IPv4 the first four bytes */
        __u16 ports[2];
        __u32 lengths[2]; /* of the names of Unix sockets; 0: it has none */
        char names[2][SAMPLE_UNIX_NAME];
};
