/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/probe-record.h"

/* One end of the connection between ctxd and ctxd-probe: records and their descriptors over a SOCK_SEQPACKET
 * socket. Both ends use this, and both treat the other as fallible. What arrives here has been checked: the
 * record has the size of its type, its strings end, and it brought no descriptors, or PROBE_FDS of them with
 * a record that may have some. Nothing here waits. */
struct probe_connection {
        int fd;                 /* -1: not connected */
        uint64_t progress_usec; /* CLOCK_BOOTTIME: when a record was last sent or received */
};

/* A record that was received. Its descriptors are closed with it; who keeps them sets n_fds to 0. */
struct probe_message {
        union {
                struct probe_header header;
                struct probe_welcome welcome;
                struct probe_hello hello;
                struct probe_watch watch;
                struct probe_forget forget;
                struct probe_leak leak;
                struct probe_resolved resolved;
                struct probe_swept swept;
                struct probe_threads threads;
        };
        size_t n_fds;
        int fds[PROBE_FDS + 1]; /* the room for an odd number of descriptors holds one more */
};

void probe_connection_init(struct probe_connection *c);
/* Takes fd over. */
void probe_connection_open(struct probe_connection *c, int fd);
void probe_connection_close(struct probe_connection *c);

/* 1: sent. 0: the socket does not take it now; ask again when it can be written to. -errno: the connection
 * is lost. There are no descriptors (n_fds is 0), or PROBE_FDS of them; they stay the caller's. */
int probe_connection_send(
                struct probe_connection *c, const struct probe_header *record, const int *fds, size_t n_fds);

/* 1: a record was received. 0: there is none now. -ECONNRESET: the other side has left; -EPROTO: it breaks
 * the protocol; another -errno: the connection is lost. */
int probe_connection_receive(struct probe_connection *c, struct probe_message *ret);
void probe_message_close(struct probe_message *m);

/* The work that waits to be sent starts now: the other side's time to take it is counted from here. */
void probe_connection_restart_clock(struct probe_connection *c);
/* For so long no record was sent or received. */
bool probe_connection_is_stalled(const struct probe_connection *c, uint64_t limit_usec);
