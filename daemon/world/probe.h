/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/probe-connection.h"

/* The connection to ctxd-probe (proto/probe-record.h). The probe connects to a socket, or it is a child that
 * ctxd starts and starts again (probe-child.c). ctxd tells it of every done context that has members, and it
 * tells ctxd what it finds.
 *
 * Nothing here waits for the probe. There is a list of the contexts of which it has to be told something.
 * Each context is in the list once, so the list cannot overflow. A connection is closed if the probe breaks
 * the protocol, or if it reads nothing for a long time. */

struct anchor;
struct probe;
struct probe_watched;
struct world;

enum probe_mode {
        PROBE_MODE_OFF,
        PROBE_MODE_AUTO,
        PROBE_MODE_PROC,
        PROBE_MODE_BPF, /* as AUTO, but it does not fall back to /proc */
};

struct probe_options {
        enum probe_mode mode;
        const char *program; /* the program that ctxd itself starts (--embedded, --user), or NULL */
        const char *socket;  /* the path to which the probe of a unit connects, or NULL */
        uid_t uid;           /* the uid that a probe on that socket has to have */
};

int probe_new(struct probe **ret, struct world *world);
struct probe *probe_free(struct probe *p);
int probe_start(struct probe *p, const struct probe_options *options);

/* These put a context into the list. */
/* It is done and has members. Does nothing before the probe has said HELLO. */
void probe_watch(struct probe *p, struct anchor *anchor);
/* Other threads have entered it. Does nothing if it is not watched. */
void probe_threads(struct probe *p, struct anchor *anchor);
/* It has no members any more. Does nothing if it is not watched. */
void probe_forget(struct probe *p, struct anchor *anchor);

/* A probe has connected and waits for its WELCOME. */
bool probe_is_new(const struct probe *p);
/* Receives a record: 1; or 0 if there is none, or the connection is lost. */
int probe_receive(struct probe *p, struct probe_message *ret);
/* Says which record has to be sent next, and about which context: PROBE_WATCH, PROBE_THREADS or PROBE_FORGET;
 * or 0 if there is none, or the socket is full. */
unsigned probe_next(struct probe *p, uint64_t *ret_context_id);
/* Sends the record that probe_next() has asked for: 1; or 0 if the socket is full or the connection is lost.
 * If the record is NULL nothing is sent, and the next one can be asked for. */
int probe_send(struct probe *p, const struct probe_header *record);
/* fds are the maps and links of an earlier probe, or NULL. */
void probe_send_welcome(struct probe *p, const int *fds);

/* The probe has said HELLO, and the engine has accepted it. */
void probe_accept(struct probe *p, const struct probe_hello *hello);
bool probe_is_known(const struct probe *p);
/* Closes the connection. A probe that is a child is killed, and started again. */
void probe_lost(struct probe *p, const char *why);
void probe_swept(struct probe *p, const struct probe_swept *record);
/* Waits until there is something to be received. Returns false if nobody is connected, or nothing came in
 * that time. */
bool probe_wait(struct probe *p, uint64_t timeout_usec);

/* How leaks are found now: "bpf", "proc", or "off"; and why it is not bpf. */
const char *probe_backend_name(const struct probe *p);
const char *probe_reason(const struct probe *p);
uint64_t probe_last_sweep_usec(const struct probe *p);
bool probe_is_child(const struct probe *p); /* ctxd itself starts it */
