/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A real ctxd, started as its unit does it. It has a directory of its own for the configuration, the socket
 * and the log. */

#include <stdbool.h>
#include <sys/types.h>

struct daemon {
        char directory[64]; /* "" before the first start: one is made */
        char address[128];  /* where it serves: its socket, or the bus */
        pid_t pid;
        int notify; /* what it says to its service manager arrives here, until it is ready */

        /* Set before it is started: */
        const char *program; /* NULL: $CTXD_PROGRAM */
        const char *bus;     /* the address of a bus to serve on; NULL: none, --embedded */
        bool system;         /* that bus is the system's */
        const char *probe;   /* the program of a probe, or NULL */
        int given;           /* a listening socket that it is started with, as systemd does it; 0: none */
        void (*prepare)(const struct daemon *d); /* runs in the child before it becomes ctxd; or NULL */
};

/* Writes the configuration (NULL: an empty one). */
void daemon_configure(struct daemon *d, const char *configuration);
/* Starts it, and does not wait for it. */
void daemon_launch(struct daemon *d);
bool daemon_becomes_ready(struct daemon *d); /* false if it ends before it says READY=1 */
/* Configures it, starts it, waits until it is ready, and sets $CTXD_ADDRESS. If that fails, ends the
 * program. */
void daemon_start(struct daemon *d, const char *configuration);

/* Stops it as systemd does, removes its directory, and returns its wait status. */
int daemon_stop(struct daemon *d);
/* SIGKILL. Waits until its sockets are closed, too, and all that waits in them. */
void daemon_kill(struct daemon *d);
void daemon_again(struct daemon *d);   /* a new one at the same place, with the same configuration */
void daemon_restart(struct daemon *d); /* both */

/* How many descriptors it has open, but for its sockets to processes that close for it (util/closer.h): those
 * that have nothing to do stay for a while. */
unsigned daemon_fds(const struct daemon *d);
/* Waits until the number of its open descriptors does not change any more, and returns it. Neither ctxd nor
 * the process `other` (0: none), which may send it something, had anything to do meanwhile. */
unsigned daemon_settled_fds(const struct daemon *d, pid_t other);
