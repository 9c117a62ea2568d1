/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* What a client has sent of a message that is not whole yet: bytes, and descriptors that are in our table already. */
struct receiver {
        int fd;
        uint64_t bytes;
        uint32_t fds;
        uint64_t turn; /* bytes since receive_begin() */
};

#define RECEIVE_FDS_MAX \
        16 /* in one message; what dbus-daemon allows on the system bus, and more than any call takes */

#define RECEIVE_TURN (256 * 1024) /* then others are served */

/* In between, what is received from r->fd is counted there; more descriptors than one message may bring end that
 * connection. */
void receive_begin(struct receiver *r);
void receive_end(void);

/* A message has become whole: what comes now is another one's. */
void receive_whole(struct receiver *r);
