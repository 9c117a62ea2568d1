/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* What ctxd and ctxd-probe say to each other: records of fixed size over a SOCK_SEQPACKET socket, one
 * record in each message. probe-connection.h sends and receives them.
 *
 * ctxd listens on the socket, or it starts a probe of its own and gives it one end of a pair. ctxd speaks
 * first. It sends WELCOME, together with the descriptors of an earlier probe's maps and links, if it has
 * kept any. The probe loads its programs, on the kept maps if there are some. It answers HELLO, together
 * with its descriptors, in the order of enum probe_fd. From then on ctxd names each done context that may
 * have members (WATCH), and takes it back when there are none (FORGET). The probe reports what it finds.
 *
 * Each side must expect errors of the other one. A record of the wrong size, type or version ends the
 * connection. */

#define PROBE_PROTOCOL_VERSION 3

enum probe_record_type {
        PROBE_WELCOME = 1, /* ctxd -> probe */
        PROBE_HELLO,       /* probe -> ctxd */
        PROBE_WATCH,       /* ctxd -> probe */
        PROBE_FORGET,      /* ctxd -> probe */
        PROBE_LEAK,        /* probe -> ctxd: a new leak, or newer figures of an old one (the same leak_id) */
        PROBE_RESOLVED,    /* probe -> ctxd */
        PROBE_SWEPT,       /* probe -> ctxd: a sweep has run */
        PROBE_THREADS,     /* ctxd -> probe: threads that have entered a watched context (thread-page.h) */
};

/* The descriptors that travel with HELLO if the backend is bpf, and with WELCOME if ctxd has kept them.
 * Either all of them travel, or none. */
enum probe_fd {
        PROBE_FD_MEMBERS, /* map: task storage of struct membership_value, to be looked up by pidfd */
        PROBE_FD_SLOTS,   /* map: array of struct membership_slot, mmapable */
        PROBE_FD_EVENTS,  /* map: ring buffer of struct membership_event */
        PROBE_FD_STATS,   /* map: array of one struct membership_stats, mmapable */
        PROBE_FD_ADOPT,   /* link: iter/task that adopts and counts */
        PROBE_FD_LIST,    /* link: iter/task that writes struct membership_task */
        PROBE_FD_FORK,    /* link: the fork hook, which is attached for as long as somebody holds this */
        PROBE_FD_EXIT,    /* link: the exit hook, likewise */
        /* map: task storage of struct membership_value, which ctxd writes (proto/membership.h) */
        PROBE_FD_REQUESTS,
        PROBE_FD_PROCESSES,     /* map: hash of struct membership_processes by slot, which ctxd makes */
        PROBE_FD_ADOPT_PROGRAM, /* programs, of which ctxd makes links that are limited to a process */
        PROBE_FD_LIST_PROGRAM,
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
        uint32_t kept;    /* the number of descriptors: PROBE_FDS or 0 */
        uint32_t backend; /* that is wanted, by Probe= of the configuration; for auto it is bpf, too */
        uint32_t strict;  /* Probe=bpf: /proc is not to be used instead */
};

struct probe_hello {
        struct probe_header header;
        uint32_t version;
        uint32_t backend;
        /* 1: the descriptors are those of the WELCOME. 0: they are new ones, and ctxd closes what it kept. */
        uint32_t kept;
        char reason[256]; /* why the backend is not bpf; empty if it is */
};

#define PROBE_PIDS_MAX 64
#define PROBE_UIDS_MAX 32
#define PROBE_NOBODY UINT32_MAX /* in place of a uid */

/* A context is done, and may have members. */
struct probe_watch {
        struct probe_header header;
        uint64_t context_id;
        uint32_t slot;       /* 0: the members are known by their pids alone (backend direct) */
        uint32_t state;      /* enum state_word */
        uint64_t done_usec;  /* CLOCK_BOOTTIME */
        uint64_t grace_usec; /* UINT64_MAX: nothing is to be reported */
        uint32_t n_pids;     /* backend direct: the members, as many as there is room for */
        uint32_t n_uids;     /* of the users who have attached its members */
        uint32_t pids[PROBE_PIDS_MAX];
        uint32_t uids[PROBE_UIDS_MAX];
        uint32_t cause_uid; /* of the user whose words the cause is; PROBE_NOBODY: ctxd's own */
        uint32_t reserved;
        char path[1032];
        char cause[1032];
};

/* The threads that have entered a watched context, while their process is no member of it. They replace
 * those of the record before. ctxd has seen that each is a thread of that process. */
#define PROBE_THREADS_MAX 512

struct probe_threads {
        struct probe_header header;
        uint64_t context_id;
        uint32_t n;
        uint32_t n_more; /* for which there is no room here */
        struct probe_thread {
                uint32_t pid, tid;
                uint32_t uid; /* of its process */
        } threads[PROBE_THREADS_MAX];
};

struct probe_forget {
        struct probe_header header;
        uint64_t context_id;
};

/* How many leaks are kept, on both sides. One user gets a share of that (util/share.h). Of the threads that
 * are beyond it only the number is told, in one record for each context. */
#define PROBE_LEAKS_MAX 4096

enum probe_leak_kind {
        PROBE_LEAK_BLOCKED = 1,
        PROBE_LEAK_IGNORING = 2,
        PROBE_LEAK_MORE = 3, /* count threads of the context, which have no record of their own */
};

struct probe_leak {
        struct probe_header header;
        uint64_t leak_id; /* a probe uses each number once */
        uint64_t context_id;
        uint32_t kind;
        uint32_t backend;
        uint32_t pid, tid; /* 0 if the kind is more */
        uint32_t uid;      /* who pays for it: the real uid of the process */
        /* Besides root only this user may see the texts. PROBE_NOBODY: nobody else may. */
        uint32_t reader;
        uint32_t kernel_reader; /* the same for the kernel stack, which the kernel shows to root alone */
        uint32_t reserved;
        uint64_t blocked_usec; /* UINT64_MAX: not known */
        uint64_t since_done_usec;
        uint64_t count; /* of the threads that this report is about */
        char comm[16];
        /* The texts from here on are empty if they are not known, or must not be told. */
        char syscall_text[96]; /* "read(7)" */
        char waits_on[256];
        char why[256];
        char kernel_stack[1024]; /* one frame on a line, and so below */
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
