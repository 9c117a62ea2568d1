/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "tests/hostile/attack.h"

/* What Bob waits for his cycles, in µs. */
struct waited {
        double p99, most;
        double bare; /* the p99 of the same calls to a server that does nothing */
};

/* Begins Bob's process, and a bare server. */
void bob_start(const struct attack *a);
void bob_end(void);
/* He works for a while. */
struct waited bob_works(void);

/* What a process says through a pipe. It fails if that does not come, or if the process ends instead. */
char hear(int fd, pid_t pid, const struct attack *a);

/* peer.c: the bare server, and how Bob reaches it. */
struct server {
        const char *name; /* NULL: there is nobody else at the socket */
        sd_bus *(*connect)(void);
        sd_bus *bus; /* connected */
};

pid_t peer_start(void);
struct server peer_server(void);
