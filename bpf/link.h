/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "proto/probe-connection.h"

struct probe;

/* The connection to ctxd (proto/probe-record.h). With an address it is made again whenever it is lost; a
 * descriptor that was inherited is the only one there will be, and its end is the program's. */

struct link_record {
        STAILQ_ENTRY(link_record) next;
        char data[]; /* a record */
};

struct link {
        const char *address; /* NULL: inherited */
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
/* Sends a record, or queues it while ctxd does not read. */
void link_send(struct probe *probe, const struct probe_header *record);
/* Sends HELLO, with the backend's descriptors where it has some. */
int link_hello(struct probe *probe, bool kept);
