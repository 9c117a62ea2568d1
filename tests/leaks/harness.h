/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/membership.h"
#include "proto/probe-record.h"
#include "tests/harness/base.h"
#include "tests/harness/process.h"
#include "tests/harness/suite.h"

/* Plays ctxd for a ctxd-probe that it starts: hands out contexts, attaches processes to them, ends them, and
 * reads what the probe reports. Whatever goes wrong in it fails the test. */

#define HARNESS_RECORDS_MAX 65536 /* most of it is never touched */

struct harness {
        pid_t probe;
        int socket;
        struct probe_hello hello;
        int fds[PROBE_FDS]; /* -1: none */
        struct membership_slot *slots;
        struct membership_stats *stats;
        void *events; /* struct ring_buffer */
        uint64_t since_nsec;
        uid_t attached_by; /* whom ctxd says to have attached the members */
        uid_t cause_uid;   /* whose words ctxd says that the cause is */
        /* Between the time of a request and its update: there the daemon may be preempted. */
        uint64_t delay_usec;
        uint32_t n_slots;
        uint32_t drained[16], born[16]; /* events seen, by slot */
        struct harness_record {
                uint32_t type;
                union {
                        struct probe_leak leak;
                        struct probe_resolved resolved;
                };
        } * records; /* in the order in which they came */
        size_t n_records;
        size_t n_swept;
};

/* The first argument of the program: ctxd-probe. */
extern const char *harness_probe_path;

/* Leaves out what keeps members from being lost with preempt=full: to see that a test would find it. */
extern bool harness_without_realtime;

/* As whom the harness speaks to the probe. */
extern uid_t harness_uid;

/* Runs the suite. Says that all is skipped where BPF is refused and wanted. */
int harness_main(int argc, char **argv, bool needs_bpf, Suite *suite);

/* Starts a probe. kept: descriptors of an earlier one, or NULL. before_exec: in the child, or NULL. */
void harness_start(struct harness *h, enum probe_backend backend, const int *kept, void (*before_exec)(void));
void harness_stop(struct harness *h);
/* kill -9; the descriptors stay open. */
void harness_kill_probe(struct harness *h);

/* A new context: its slot. The context's id is 1000 + slot. */
uint32_t harness_context(struct harness *h);
#define CONTEXT_OF(slot) (1000 + (uint64_t) (slot))
/* What ctxd does for Attach: request, adopt until nothing is left, verify. Returns false if the process has
 * gone. */
bool harness_attach(struct harness *h, pid_t pid, uint32_t slot);
/* Only the request, without adopt. */
void harness_request(struct harness *h, pid_t pid, uint32_t slot);
/* Runs adopt until a run changes nothing. */
void harness_adopt(struct harness *h);
/* Reads the list; the result is the caller's. */
struct membership_task *harness_list(struct harness *h, size_t *ret_n);
/* The record of a thread, or false. */
bool harness_is_member(struct harness *h, pid_t tid, uint32_t slot);
int32_t harness_live(struct harness *h, uint32_t slot);
/* The number of members that the list shows in a slot. */
int32_t harness_listed(struct harness *h, uint32_t slot);

void harness_cancel(struct harness *h, uint32_t slot, uint64_t grace_usec);
void harness_cancel_pids(
                struct harness *h, uint64_t context_id, uint64_t grace_usec, const pid_t *pids, size_t n);
/* What ctxd says when a thread has entered the context by itself. */
void harness_enter(struct harness *h, uint32_t slot, pid_t pid, pid_t tid);
void harness_forget(struct harness *h, uint32_t slot);
/* Takes in what the probe and the ring buffer have to say for so long, or until done() says so. */
bool harness_wait(struct harness *h, uint64_t usec, bool (*done)(struct harness *h, const void *arg),
                const void *arg);
/* Waits for a record about a process; NULL after the time is up. */
const struct probe_leak *harness_leak(struct harness *h, pid_t pid, uint64_t usec);
const struct probe_resolved *harness_resolved(struct harness *h, uint64_t leak_id, uint64_t usec);
/* Waits until live is 0, and the event has come. */
bool harness_drained(struct harness *h, uint32_t slot, uint64_t usec);

#define reap end_process
#define sleep_usec nap
/* Waits until the task sleeps in the kernel (state S or D, or T, t). */
void wait_for_state(pid_t pid, pid_t tid, const char *letters);
/* Waits until live is n. */
void wait_for_live(struct harness *h, uint32_t slot, int32_t n);

/* For what must happen, however busy the machine is. */
#define PATIENCE_USEC UINT64_C(60000000)
