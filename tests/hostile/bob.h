/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "tests/hostile/attack.h"

/* What Bob waits for his cycles, in µs. */
struct waited {
        double p99, most;
        double of_bus; /* the p99 of the same calls to a server that does nothing; 0: there is no bus */
};

/* Begins Bob's process, and a bare server where there is a bus. */
void bob_start(const struct attack *a);
void bob_end(void);
/* He works for a while. */
struct waited bob_works(void);

/* What a process says through a pipe. It fails if that does not come, or if the process ends instead. */
char hear(int fd, pid_t pid, const struct attack *a);
