/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

#include "daemon/bus/connection.h"
#include "daemon/bus/receive.h"
#include "daemon/bus/turns.h"

/* What the files of a connection share. Nobody else includes this. */

/* How long a client may leave a long reply unread while others of its uid have to wait for that. */
#define UNREAD_USEC 10000000

struct connection {
        struct endpoint endpoint; /* first: the vtables' userdata */
        struct taker taker;
        struct peer *peer; /* NULL: it was accepted, and nothing more yet */
        struct user *user;
        struct charge charge, incoming, incoming_fds, stalled, messages, flight, unread;
        struct receiver receiver;
        uint64_t authenticate_until; /* 0: it is authenticated */
        uint64_t look_until;         /* 0: no look at its descriptors is waited for */
        /* sd-bus may have more messages that we have not asked for. They need not be in the socket any more,
         * so it does not wake us. */
        bool more;
        uint64_t read_usec; /* when the client has read of a long reply, or could begin to */
        int in_socket;      /* bytes of that which it had not read, when this was noted last */
        uint64_t sent;      /* bytes that were sent in this turn */
        uint64_t replies;   /* of replies: bytes that were sent in this turn, and may have been read */
        bool answered;      /* its call; and not all was sent since */
        bool is_ending;     /* no call of it is answered any more */
        bool is_held;       /* it is not served while its uid leaves too much unread */
        TAILQ_ENTRY(connection) held;
        TAILQ_ENTRY(connection) flying; /* where flight is not 0 */
        unsigned alone;                 /* so many more calls are taken to be alone */
        sd_event_source *timer;
        TAILQ_ENTRY(connection) connections;
};

static inline struct connection *connection_of_taker(struct taker *taker)
{
        return (struct connection *) ((char *) taker - offsetof(struct connection, taker));
}

/* connection-new.c: what comes after the accept. */
int connection_set_up(struct connection *c);

/* connection.c: serves it. */
void connection_run(struct taker *taker);
void connection_on_look(struct look *l);
void connection_sent(struct endpoint *e);
int connection_again(struct endpoint *e, sd_bus_message *m);

/* connection-unread.c */
uint64_t connection_unread(const struct connection *c); /* messages that wait for the client to read */
bool connection_leaves_too_much_unread(const struct connection *c);
int connection_send_fds(struct endpoint *e, unsigned n, struct refused *ret_refused);
void connection_forget_flight(struct connection *c);
/* A long reply is sent: it is charged until it was read. */
void connection_replies(struct endpoint *e, uint64_t bytes);
void connection_charge_unread(struct connection *c);
/* Where a long reply waits: notes whether the client has read some of it. */
void connection_note_reading(struct connection *c);
/* Whether others of its uid have to wait for it, and it does not read. */
bool connection_is_in_the_way(const struct connection *c);
/* Whether it may make no call until others have read. */
bool connection_has_to_wait(const struct connection *c);
void connection_hold(struct connection *c, bool hold);
