/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "daemon/world/effects.h"
#include "proto/probe-connection.h"

struct announcement;
struct member_slot;

/* The link to ctxd-probe (proto/probe-record.h). probe-link.c speaks; probe-child.c starts a probe of our
 * own. */
struct probe_link {
        enum probe_mode mode;
        char *program; /* or NULL */
        uid_t uid;
        char *socket_path;
        int listen_fd;
        sd_event_source *listen_source;

        struct probe_connection connection;
        sd_event_source *source;
        bool said_hello;
        enum probe_backend backend;
        char reason[256];
        uint64_t last_sweep_usec;
        STAILQ_HEAD(, announcement) queue;
        unsigned n_queued;

        int child_pidfd;
        sd_event_source *child_source, *restart_source;
        uint64_t child_started_usec, backoff_usec;
};

/* probe-link.c */
void probe_link_init(struct effects *e);
int probe_link_start(struct effects *e, const struct effects_options *options);
void probe_link_deinit(struct effects *e);
int probe_link_connected(struct effects *e, int fd); /* takes fd over */
void probe_link_lost(struct effects *e, const char *why);
/* Until it has said HELLO, or is gone, or the time is up. */
void probe_link_wait(struct effects *e, uint64_t timeout_usec);

/* probe-send.c */
int probe_send_welcome(struct effects *e);
void probe_announce_all(struct effects *e); /* every done context that has members */
void probe_queue_flush(struct effects *e);
void probe_queue_clear(struct probe_link *l);
void probe_link_watch(struct effects *e, struct member_slot *slot);
void probe_link_forget(struct effects *e, struct member_slot *slot);
void probe_link_threads(struct effects *e, struct member_slot *slot); /* which have entered it */

/* probe-child.c */
int probe_child_start(struct effects *e);
void probe_child_again(struct effects *e); /* in a while, longer each time */
void probe_child_stop(struct effects *e);
