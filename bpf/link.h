/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "proto/probe-connection.h"

struct probe;

/* The connection to ctxd (proto/probe-connection.h). If there is an address, a lost connection is made
 * again. If the descriptor was inherited, there will be no other one, and the program ends with it. */

struct link {
        const char *address; /* NULL: the descriptor was inherited */
        struct probe_connection connection;
        sd_event_source *io, *retry;
        uint64_t backoff_usec;
        bool greeted; /* HELLO was sent */
        bool is_full; /* ctxd has to read first */
        uid_t uid;    /* of ctxd */
        int error;    /* why the program ends */
};

int link_init(struct probe *probe, const char *address, int fd);
void link_deinit(struct probe *probe);
/* Sends what ctxd has to be told: the news of leaks, and that a sweep has run. While ctxd does not read, they
 * wait where they are (leak.h). */
void link_tell(struct probe *probe);
/* Sends HELLO, with the descriptors of the backend if it has some. */
int link_hello(struct probe *probe, bool kept);
