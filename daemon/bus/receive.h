/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RECEIVE_FDS_MAX \
        16 /* in one message; what dbus-daemon allows on the system bus, and more than any call takes */
#define RECEIVE_TURN (256 * 1024) /* bytes, then others are served */

/* What a client has sent of a message that is not whole yet: bytes, and descriptors that are in our table
 * already. */
struct receiver {
        int fd;
        uint64_t bytes, turn; /* of the message; since receive_begin() */
        uint32_t fds;
        int fd_list[RECEIVE_FDS_MAX];

        bool ready;            /* authenticated: what comes now are messages */
        uint8_t begin_matched; /* before that: how much of "BEGIN\r\n" the bytes end with */
        uint8_t n_begin;       /* how often it was there */
        bool aligned;          /* bytes are of one message, from its first one on */
        uint8_t header[16];
        uint64_t size; /* of the message, once its header is there */
};

/* Whether sd-bus receives by our recvmsg() in this process. */
bool receive_takes_effect(void);

/* In between, what is received from r->fd is counted there; more descriptors than one message may bring end
 * that connection. */
void receive_begin(struct receiver *r);
void receive_end(void);

void receive_ready(struct receiver *r); /* it has authenticated, and nothing was received since */
void receive_whole(struct receiver *r); /* a message is there: what comes now is another one's */

/* A message was whole, and receive_whole() was not called: sd-bus has thrown it away as invalid. */
bool receive_has_lost(const struct receiver *r);

/* After the bus was freed: closes what it has forgotten. */
void receive_close_lost(const struct receiver *r);
