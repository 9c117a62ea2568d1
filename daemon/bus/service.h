/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/queue.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "daemon/world/effects.h"
#include "daemon/model/tree.h"

/* bus/ in one structure: what requests work on, and everybody who is connected. A request is decoded, authorised,
 * given to the model, and answered when its effects have been carried out. Policy lives in the model; nothing here
 * decides who may. */

struct broker;
struct connection;
struct peer;
struct polkit;

#define SERVICE_QUESTIONS_MAX 16        /* calls of one uid that wait for polkit */
#define SERVICE_INCOMING_MAX (32 << 20) /* bytes of messages of one uid that are not whole yet */
#define SERVICE_STALLED_MAX 256 /* connections of one uid that have left a reply unread, of up to some MiB */

struct service {
        sd_event *event;
        struct tree *tree;
        struct effects *effects;
        uint64_t kill_after_usec; /* the default, where an attach with a signal names none */

        struct polkit *polkit;               /* where the system's bus is; else nobody is asked */
        struct broker *broker;               /* the system's or the session's bus; NULL when embedded */
        LIST_HEAD(, connection) connections; /* direct ones */
        uint32_t n_connections;
        uint64_t last_connection;
        int listen_fd;
        int reserve_fd; /* given up to turn a caller away when no other is left */
        sd_event_source *listen_source, *pause_source;
        uint64_t warned_usec; /* of a full table */
        char server_id[33];
        char *socket_path;

        LIST_HEAD(, subscription) subscriptions;
        struct {
                uint64_t origin_id; /* whose end is being told */
                uint64_t looks;
                uint32_t n_subscriptions, n_blind;
        } below;
        LIST_HEAD(, later) laters;
};

/* The sink of struct effects: what it has to say becomes signals to those who subscribed. */
extern const struct effects_sink service_sink;

int service_init(struct service *s, sd_event *event, struct tree *tree, struct effects *effects);
void service_deinit(struct service *s);

/* Listens for direct connections at path; anybody may connect, what they may do is the tree's policy. */
int service_listen(struct service *s, const char *path);
/* The same with a socket that listens already; takes it. Its name is another's, and stays. */
int service_take_socket(struct service *s, int listen_fd);

/* Takes org.ctxd1 on the system bus, or on the session bus. Runs the event loop until it is ours, so that direct
 * connections are served however long the bus needs; 0 if that loop was told to end. */
int service_own_name(struct service *s, bool user);
