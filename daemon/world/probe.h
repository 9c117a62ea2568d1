/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/probe-connection.h"

/* The connection to ctxd-probe (proto/probe-record.h). The probe connects to a socket, or is a child that we
 * start and start again (probe-child.c). It is told of every done context that has members, and tells what it
 * finds.
 *
 * Nothing here waits for it. What has to be said stands in a list of contexts, of which each is in it once,
 * so that the list cannot overflow. A probe that takes nothing for a long time is given up, as is one that
 * breaks the protocol. */

struct anchor;
struct probe;
struct probe_watched;
struct world;

enum probe_mode {
        PROBE_MODE_OFF,
        PROBE_MODE_AUTO,
        PROBE_MODE_PROC,
        PROBE_MODE_BPF, /* no falling back */
};

struct probe_options {
        enum probe_mode mode;
        const char *program; /* started and restarted by ctxd itself (embedded, --user); or NULL */
        const char *socket;  /* where the probe of a unit connects to; or NULL */
        uid_t uid;           /* who may be the probe on that socket: 0 */
};

int probe_new(struct probe **ret, struct world *world);
struct probe *probe_free(struct probe *p);
int probe_start(struct probe *p, const struct probe_options *options);

/* What it is told, in turn, as soon as it has said HELLO. */
void probe_watch(struct probe *p, struct anchor *anchor); /* done, and has members */
void probe_threads(
                struct probe *p, struct anchor *anchor); /* other threads have entered it; if it is watched */
void probe_forget(struct probe *p, struct anchor *anchor); /* if it is watched */

/* FACT_PROBE_READY: it has connected and wants a WELCOME; */
bool probe_is_new(const struct probe *p);
/* a record that it has sent: 1, or 0 where there is none (left), or the connection is lost; */
int probe_receive(struct probe *p, struct probe_message *ret);
/* the next one that it is to have, of that context: PROBE_WATCH, PROBE_THREADS, PROBE_FORGET; 0: nothing, or
 * not now. */
unsigned probe_next(struct probe *p, uint64_t *ret_context_id);
/* The record for it, which takes it off the list where there was room: 1; 0: later, or lost. NULL: it needs
 * none any more. */
int probe_send(struct probe *p, const struct probe_header *record);
/* With the maps and links of an earlier probe, or NULL. */
void probe_send_welcome(struct probe *p, const int *fds);

/* It has said HELLO, and it was accepted. */
void probe_known(struct probe *p, const struct probe_hello *hello);
bool probe_is_known(const struct probe *p);
void probe_lost(struct probe *p, const char *why);
void probe_swept(struct probe *p, const struct probe_swept *record);
/* Until there is something to be received, for some time at most. False: nobody is there, or nothing came. */
bool probe_wait(struct probe *p, uint64_t timeout_usec);

const char *probe_backend_name(const struct probe *p); /* "bpf", "proc", "off" */
const char *probe_reason(const struct probe *p);
uint64_t probe_last_sweep_usec(const struct probe *p);
bool probe_is_child(const struct probe *p); /* we start it ourselves */
