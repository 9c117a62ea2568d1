/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/foreign.h"

/* How many descriptors one message may bring. dbus-daemon allows as many on the system bus, and no call takes
 * more. */
#define RECEIVE_FDS_MAX CLOSER_PIDFDS_MAX
/* How many bytes are received from one client before others are served. */
#define RECEIVE_TURN (256 * 1024)

/* What a client has sent of a message that is not whole yet: bytes, and descriptors, which are in our table
 * already. */
struct receiver {
        int fd;
        uint64_t bytes; /* of the message */
        uint64_t turn;  /* since receive_begin() */
        uint32_t fds;
        int fd_list[RECEIVE_FDS_MAX];

        bool ready;            /* authenticated: messages come now */
        uint8_t begin_matched; /* before that: with how much of "BEGIN\r\n" the bytes end */
        uint8_t n_begin;       /* how often that has come */
        bool aligned;          /* the bytes are those of one message from its beginning on */
        uint8_t header[16];
        uint64_t size; /* of the message; 0 until its header is there */

        uint32_t plain;     /* so many bytes come next that bring no descriptor */
        struct look look;   /* at the first descriptors that wait in the socket */
        bool is_waited_for; /* recvmsg() waits for the look */
};

/* Whether sd-bus calls our recvmsg() in this process. */
bool receive_takes_effect(void);

/* From here until receive_end() the bytes and descriptors that come from r->fd are counted. If a message
 * brings too many descriptors, its connection is ended. */
void receive_begin(struct receiver *r);
void receive_end(void);
/* Until then nothing more comes from it. */
void receive_nothing(struct receiver *r);
/* What comes from r->fd is looked at for descriptors, and nothing is counted. NULL ends it. */
void receive_from_bus(struct receiver *r);
/* How many bytes have come from the bus since this was asked last. */
uint64_t receive_bytes_from_bus(void);

/* Whether nothing can be received before there is an answer about the descriptors that come. */
static inline bool receive_waits(const struct receiver *r)
{
        return r->look.job != NULL;
}

/* The client has authenticated, and nothing was received since. */
void receive_ready(struct receiver *r);
/* sd-bus has delivered a message. What comes now belongs to the next one. */
void receive_whole(struct receiver *r);

/* A message was whole, but receive_whole() was not called: sd-bus has thrown it away as invalid. */
bool receive_has_lost(const struct receiver *r);

/* To be called after the bus was freed: closes the descriptors that sd-bus has forgotten. */
void receive_close_lost(const struct receiver *r);
