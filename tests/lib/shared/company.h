/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdatomic.h>

#include "tests/lib/shared/daemon.h"

/* Everything that waits, in one process, and whether it is told that a daemon is gone: however it waits, and
 * not too early. */

#define N_WAYS 4

struct waiter {
        struct ctx *ctx;
        int r;
        pthread_t thread;
};

/* Threads that wait for the context, each in its own way. */
void start_waiting(struct waiter waiters[N_WAYS], struct ctx *ctx);
void count(void *counter);

/* Who waits for a context, for one below it, and for a merge with another one. */
struct company {
        struct ctx *ctx, *local, *merge;
        struct waiter own[N_WAYS], below[N_WAYS], merged[N_WAYS];
        struct ctx_after *after;
        _Atomic int called;
        int done_fd, local_fd, drained_fd;
};

void gather(struct company *company, struct ctx *ctx, struct ctx *other);
/* Since then the daemon is gone, or will be. A machine that was too slow has nothing to show. */
void nobody_was_told(struct company *company, uint64_t since_usec);
/* Waits for that. Gives up the references. */
void all_were_told(struct company *company);
void is_lost(struct ctx *ctx);

/* For children that wait side by side until the daemon is killed. */
struct stage {
        struct daemon daemon;
        struct ctx *inherited;
        int ready[2], go[2];
};

/* Returns when it began to wait, which was before the daemon was killed. */
uint64_t wait_for_go(struct stage *stage);
/* A context that other users may read. */
struct ctx *show(struct ctx_client *client);
