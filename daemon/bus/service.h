/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/queue.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "daemon/engine/engine.h"
#include "daemon/model/tree.h"
#include "util/turn.h"

/* All of bus/ in one structure: what requests work on, and everybody who is connected. A request is decoded
 * and given to the model, which authorises it. It is answered when its effects have been carried out. */

struct broker;
struct connection;
struct peer;
struct polkit;

#define SERVICE_QUESTIONS_MAX 16        /* calls of one uid that wait for polkit */
#define SERVICE_INCOMING_MAX (32 << 20) /* bytes of messages of one uid that are not whole yet */
#define SERVICE_STALLED_MAX 256         /* connections of one uid that have not read a reply */

struct service {
        sd_event *event;
        struct tree *tree;
        struct engine *engine;
        struct turn turn;         /* drains, and goes on with large ends; the engine asks for it */
        uint64_t kill_after_usec; /* for an attach that has a signal, but does not say when to kill */

        struct polkit *polkit;               /* NULL without the system bus */
        struct broker *broker;               /* the system's or the session's bus; NULL when embedded */
        LIST_HEAD(, connection) connections; /* direct ones */
        uint32_t n_connections;
        uint64_t last_connection;
        int listen_fd;
        int reserve_fd; /* is closed when no descriptor is left, so that a caller can be turned away */
        sd_event_source *listen_source, *pause_source;
        uint64_t warned_usec; /* when a full table of descriptors was logged last */
        char server_id[33];
        char *socket_path;

        LIST_HEAD(, subscription) subscriptions;
        struct {
                uint64_t origin_id; /* the root of the cancel of which subscribers are being told */
                uint64_t looks;
                uint32_t n_subscriptions, n_blind;
        } below;
        LIST_HEAD(, later) laters;
};

/* Makes the engine, too. */
int service_init(struct service *s, sd_event *event, struct tree *tree);
void service_deinit(struct service *s);

/* Has the effects carried out, and sends the news to those who have subscribed. Returns how many members have
 * to leave, as engine_drain() does. Contexts may be gone after this. */
uint32_t service_drain(struct service *s, const struct context *origin);
/* Does the same until all large ends are over, and serves nobody between. It is for the end of the daemon. */
void service_finish(struct service *s);
/* emit.c: sends the news that a drain has left. */
void service_tell(struct service *s);

/* Listens for direct connections at path. Everybody may connect. The model decides what they may do. */
int service_listen(struct service *s, const char *path);
/* The same with a socket that listens already. Owns the descriptor, but not its path: that stays. */
int service_take_socket(struct service *s, int listen_fd);

/* Takes org.ctxd1 on the system bus, or on the session bus. Runs the event loop until the name is ours, so
 * direct connections are served however long the bus needs. 0: the loop was told to end. */
int service_own_name(struct service *s, bool user);
