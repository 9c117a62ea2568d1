/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/socket.h>

#include "daemon/bus/service.h"

/* Who is at the other end. The identity comes from the kernel (socket credentials) or from the broker, which
 * has it from the kernel. It is never a number that the client sent. */

struct endpoint;

/* Peers that may read the same contexts, and have subscribed. */
struct audience {
        struct caller caller; /* their user and groups */
        LIST_HEAD(, subscription) subscriptions;
        LIST_ENTRY(audience) audiences;
        gid_t gids[];
};

struct subscription {
        struct peer *peer;
        struct audience *audience;
        struct charge charge;
        LIST_ENTRY(subscription) of_audience, of_peer;
        char prefix[]; /* a path; "/" is everything */
};

void subscription_free(struct subscription *s);

struct peer {
        struct endpoint *endpoint;
        struct caller caller; /* what the model asks about */
        gid_t *gids;
        int pidfd;               /* from the kernel or the broker; -1: none */
        struct process *process; /* made on first use, if there is a pidfd */
        LIST_HEAD(, subscription) subscriptions;
        uint32_t n_subscriptions;
        LIST_HEAD(, later) laters; /* calls whose reply comes later */
        uint32_t n_laters;
        LIST_HEAD(, walk) walks; /* calls that go through a large tree */
        char *name;              /* unique name: where signals go */
};

#define PEER_SUBSCRIPTIONS_MAX 256

/* A bus on which requests come in: a direct connection, or the broker's bus with many peers. It is the first
 * member of the structs of both, and the userdata of every vtable. */
struct endpoint {
        struct service *service;
        sd_bus *bus;
        bool is_direct;                                                 /* of one peer */
        struct peer *(*peer_of)(struct endpoint *e, sd_bus_message *m); /* NULL: unknown, or it has gone */
        void (*sent)(struct endpoint *e); /* something was queued outside of a request */
        /* To be called before n descriptors are sent. Returns 0, or -EDQUOT with refused. NULL: there is no
         * limit. */
        int (*send_fds)(struct endpoint *e, unsigned n, struct refused *ret_refused);
        /* To be called before a reply of that size is sent. NULL: it is nobody's. */
        void (*replies)(struct endpoint *e, uint64_t bytes);
        /* The message is handled once more, from its beginning. 1 or a negative errno. */
        int (*again)(struct endpoint *e, sd_bus_message *m);
        /* What walk_count() has counted for the message that is handled. */
        uint32_t contexts, members;
        uint64_t leaks;
};

struct peer *peer_new(struct endpoint *e, const char *name);
struct peer *peer_free(struct peer *p);

/* Of a direct connection: asks the kernel who is at the other end of this socket; the first one as far as the
 * socket alone says it. */
int peer_credentials(int fd, struct ucred *ret);
int peer_identify(struct peer *p, int fd);

/* Reads the command of the peer's process into p->caller.comm, if it can. */
void peer_read_comm(struct peer *p);

/* For a peer of which neither the kernel nor the broker gave a pidfd. Finds the process by its pid now, while
 * it exists, and holds it. So another process that gets that number later is not taken for it. */
void peer_find_process(struct peer *p);

/* The peer's process, borrowed; 0, -ESRCH when it has gone, or another negative errno (error_caller()). */
int peer_process(struct peer *p, struct process **ret);

/* For a callback of a vtable on this bus: the endpoint, and the peer that asks. */
struct endpoint *endpoint_current(sd_bus *bus);
struct peer *peer_current(sd_bus *bus);
struct peer *peer_of_message(sd_bus_message *m);

/* Adds the objects of the API to a bus. */
int endpoint_add_objects(struct endpoint *e);
