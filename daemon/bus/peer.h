/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/service.h"

/* Who is at the other end: an identity from the kernel (socket credentials) or from the broker, which has it from
 * there, never a number that the client sent. */

struct endpoint;

struct subscription {
        struct peer *peer;
        struct charge charge;
        LIST_ENTRY(subscription) all; /* of the service */
        LIST_ENTRY(subscription) of_peer;
        char prefix[]; /* a path; "/" is everything */
};

void subscription_free(struct subscription *s);

struct peer {
        struct endpoint *endpoint;
        struct caller caller; /* what the model asks about */
        gid_t *gids;
        int pidfd;               /* from the kernel or the broker; or -1 */
        struct process *process; /* made on first use, where there is a pidfd */
        LIST_HEAD(, subscription) subscriptions;
        uint32_t n_subscriptions;
        LIST_HEAD(, later) laters; /* calls whose reply comes later */
        uint32_t n_laters;
        char *name; /* unique name: where signals go */
};

#define PEER_SUBSCRIPTIONS_MAX 256

/* A bus that requests come in by: one direct connection, or the broker's with many peers. The first member of both,
 * and the userdata of every vtable. */
struct endpoint {
        struct service *service;
        sd_bus *bus;
        struct peer *(*peer_of)(struct endpoint *e, sd_bus_message *m); /* NULL: not known (any more) */
        void (*sent)(struct endpoint *e); /* something was queued outside of a request */
        /* So many descriptors are about to be sent: 0, or -EDQUOT with refused. NULL: no need to ask. */
        int (*send_fds)(struct endpoint *e, unsigned n, struct refused *ret_refused);
};

struct peer *peer_new(struct endpoint *e, const char *name);
struct peer *peer_free(struct peer *p);

/* Reads the command of the peer's process into p->caller.comm; best effort. */
void peer_read_comm(struct peer *p);

/* Where neither kernel nor broker gave a pidfd: holds the process of its pid, now, while it is there, so that another
 * one which gets that number later is not taken for it. */
void peer_find_process(struct peer *p);

/* The peer's process, borrowed; 0 or -ESRCH when it has gone. */
int peer_process(struct peer *p, struct process **ret);

/* In a callback of a vtable on this bus: the endpoint, and who asks. */
struct endpoint *endpoint_current(sd_bus *bus);
struct peer *peer_current(sd_bus *bus);
struct peer *peer_of_message(sd_bus_message *m);

/* Adds the objects of the API to a bus. */
int endpoint_add_objects(struct endpoint *e);
