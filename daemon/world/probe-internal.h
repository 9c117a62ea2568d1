/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What probe.c and probe-child.c share. Nobody else includes this. */

#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "daemon/world/probe.h"
#include "daemon/world/world.h"
#include "util/socket-file.h"

/* A context that the probe watches, has to watch, or has to forget. */
struct probe_watched {
        uint64_t context_id;
        bool is_told; /* a PROBE_WATCH was sent */
        bool wants_watch, wants_threads, wants_forget;
        bool is_queued;
        TAILQ_ENTRY(probe_watched) queue;
        LIST_ENTRY(probe_watched) all;
        struct anchor *anchor; /* NULL: the probe has to forget it */
};

struct probe {
        struct world *world;
        enum probe_mode mode;
        uid_t uid;

        struct socket_file socket_file;
        int listen_fd;
        sd_event_source *listen_source;

        struct probe_connection connection;
        pid_t pid; /* who is at its other end */
        sd_event_source *source;
        bool is_welcomed, is_known;
        bool is_full; /* the socket takes nothing now */
        enum probe_backend backend;
        char reason[256];
        uint64_t last_sweep_usec;
        struct fact ready;

        LIST_HEAD(, probe_watched) watched;
        TAILQ_HEAD(, probe_watched) queue;

        char *program; /* or NULL */
        int child_pidfd;
        sd_event_source *child_source, *restart_source;
        uint64_t child_started_usec, backoff_usec;
};

/* probe.c */
/* A probe with that pid is at the other end of fd, which the function takes over, also on failure. */
int probe_connected(struct probe *p, int fd, pid_t pid);

/* probe-child.c */
int probe_child_start(struct probe *p);
/* Starts it again after a pause, which is longer each time. */
void probe_child_again(struct probe *p);
void probe_child_stop(struct probe *p);
