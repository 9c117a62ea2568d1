/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/remote/line.h"
#include "proto/wire-stream.h"

/* A line, as line.c, line-address.c and line-read.c know it. */

struct line_place {
        struct sockaddr_un address;
        socklen_t length; /* 0: there is none */
};

/* Never changed. A handler may be reading it, so it is freed with the client. */
struct line_address {
        struct line_address *next; /* an older one */
        struct line_place bus;     /* where a person can be asked for an authorization */
        size_t n;
        struct line_place places[]; /* to be tried in this order */
};

struct line {
        int fd;
        pid_t pid; /* whose it is, as of a client */
        unsigned fork_generation;
        unsigned generation; /* client->line_generation when it was opened */
        uint32_t serial;     /* of the last message */
        bool is_ready;       /* the daemon has said who it is */
        bool is_broken;
        uint64_t epoch;
        uint64_t heard_usec;
        char daemon[256];
        struct wire_stream stream; /* its message is the answer */
        uint8_t out[2048];
};

/* Reads what has come. 1: the answer to that message is in line->stream.message; 0: it has not come yet;
 * -ECONNRESET. */
int line_look(struct line *line, uint32_t serial);

/* Around whatever is done with the socket: no handler runs meanwhile. One that had been running before may
 * have forked, and then this is false in the child: the socket is the parent's, and another message would
 * begin in the middle of the parent's, or its answer be read here. */
bool line_hold(const struct line *line, sigset_t *ret_before);
void line_let_go(const sigset_t *before);

/* client->line_address becomes that of the client's connection, or NULL: no line can be opened. The lock is
 * held. */
void line_set_address(struct ctx_client *client);
