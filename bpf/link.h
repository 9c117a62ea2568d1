/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "proto/probe-connection.h"

struct probe;

/* The connection to ctxd (proto/probe-connection.h). If there is an address, a lost connection is made
 * again. If the descriptor was inherited, there will be no other one, and the program ends with it. */

struct link_record {
        STAILQ_ENTRY(link_record) next;
        char data[]; /* a record */
};

struct link {
        const char *address; /* NULL: the descriptor was inherited */
        struct probe_connection connection;
        sd_event_source *io, *retry;
        uint64_t backoff_usec;
        bool greeted; /* HELLO was sent */
        STAILQ_HEAD(, link_record) queue;
        size_t n_queued;
        int error; /* why the program ends */
};

int link_init(struct probe *probe, const char *address, int fd);
void link_deinit(struct probe *probe);
/* Sends a record. It waits in a queue while ctxd does not read. */
void link_send(struct probe *probe, const struct probe_header *record);
/* Sends HELLO, with the descriptors of the backend if it has some. */
int link_hello(struct probe *probe, bool kept);
