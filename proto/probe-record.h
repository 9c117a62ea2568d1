/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* What ctxd and ctxd-probe say to each other: records of fixed size over a SOCK_SEQPACKET socket, one a message.
 *
 * ctxd listens (or hands one end to the probe it starts itself). It speaks first: a WELCOME, with the descriptors of
 * an earlier probe's maps and links if it kept any. The probe then loads its programs (on the kept maps, if any) and
 * answers HELLO with the descriptors, in the order of enum probe_fd. From then on ctxd announces each done context
 * that may have members (WATCH), and takes it back (FORGET); the probe reports.
 *
 * The side that reads treats the other as fallible: a record of the wrong size, type or version ends the
 * connection, strings are ended by the reader. */

#define PROBE_PROTOCOL_VERSION 2

enum probe_record_type {
        PROBE_WELCOME = 1, /* ctxd -> probe */
        PROBE_HELLO,       /* probe -> ctxd */
        PROBE_WATCH,       /* ctxd -> probe */
        PROBE_FORGET,      /* ctxd -> probe */
        PROBE_LEAK,        /* probe -> ctxd: found, or found again with newer figures (same leak_id) */
        PROBE_RESOLVED,    /* probe -> ctxd */
        PROBE_SWEPT,       /* probe -> ctxd: a sweep has run */
        PROBE_THREADS,     /* ctxd -> probe: threads that have entered a watched context (thread-page.h) */
};

/* Descriptors that travel with HELLO (backend bpf) and with WELCOME (kept ones), all or none. */
enum probe_fd {
        PROBE_FD_MEMBERS, /* map: task storage of struct membership_value, for look-ups by pidfd */
        PROBE_FD_SLOTS,   /* map: array of struct membership_slot, mmapable */
        PROBE_FD_EVENTS,  /* map: ring buffer of struct membership_event */
        PROBE_FD_STATS,   /* map: array of one struct membership_stats, mmapable */
        PROBE_FD_ADOPT,   /* link: iter/task that adopts and counts */
        PROBE_FD_LIST,    /* link: iter/task that writes struct membership_task */
        PROBE_FD_FORK,    /* link: the hooks; whoever holds one keeps it attached */
        PROBE_FD_EXIT,
        PROBE_FD_REQUESTS, /* map: task storage of struct membership_value, written by ctxd (proto/membership.h) */
        PROBE_FDS,
};

enum probe_backend {
        PROBE_BACKEND_OFF,
        PROBE_BACKEND_PROC,
        PROBE_BACKEND_BPF,
};

struct probe_header {
        uint32_t type;
        uint32_t size; /* of the whole record */
};

struct probe_welcome {
        struct probe_header header;
        uint32_t version;
        uint32_t kept;    /* PROBE_FDS, or 0 */
        uint32_t backend; /* the one that is wanted: Probe= of the configuration (bpf also stands for auto) */
        uint32_t strict;  /* Probe=bpf: do not fall back to /proc */
};

struct probe_hello {
        struct probe_header header;
        uint32_t version;
        uint32_t backend;
        uint32_t kept; /* 1: these are the maps and links of the WELCOME, 0: new ones; kept ones are to be closed */
        char reason[256]; /* why it is not bpf; empty if it is */
};

#define PROBE_PIDS_MAX 64
#define PROBE_UIDS_MAX 32

/* A context is done and may have members. */
struct probe_watch {
        struct probe_header header;
        uint64_t context_id;
        uint32_t slot;       /* 0: known by pids alone (backend direct) */
        uint32_t state;      /* enum state_word */
        uint64_t done_usec;  /* CLOCK_BOOTTIME */
        uint64_t grace_usec; /* UINT64_MAX: never report */
        uint32_t n_pids;     /* backend direct: the members, as far as they fit */
        uint32_t n_uids;     /* of those who have attached its members */
        uint32_t pids[PROBE_PIDS_MAX];
        uint32_t uids[PROBE_UIDS_MAX];
        char path[1032];
        char cause[1032];
};

/* The threads that work for a watched context without being members by their process; replaces what was said before.
 * Each was seen to be a thread of that process. */
#define PROBE_THREADS_MAX 512

struct probe_threads {
        struct probe_header header;
        uint64_t context_id;
        uint32_t n;
        uint32_t reserved;
        struct probe_thread {
                uint32_t pid, tid;
        } threads[PROBE_THREADS_MAX];
};

struct probe_forget {
        struct probe_header header;
        uint64_t context_id;
};

enum probe_leak_kind {
        PROBE_LEAK_BLOCKED = 1,
        PROBE_LEAK_IGNORING = 2,
};

struct probe_leak {
        struct probe_header header;
        uint64_t leak_id; /* unique in the life of a probe */
        uint64_t context_id;
        uint32_t kind;
        uint32_t backend;
        uint32_t pid, tid;
        uint64_t blocked_usec; /* UINT64_MAX: unknown */
        uint64_t since_done_usec;
        uint64_t count; /* threads that this report stands for */
        char comm[16];
        char syscall_text[96]; /* read(7) */
        char waits_on[256];
        char why[256];
        char kernel_stack[1024]; /* one frame a line */
        char stack[2048];
};

struct probe_resolved {
        struct probe_header header;
        uint64_t leak_id;
        uint64_t context_id;
};

struct probe_swept {
        struct probe_header header;
        uint64_t when_usec; /* CLOCK_BOOTTIME */
};
