/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <poll.h>

#include "lib/local/ctx.h"

/* What has to be polled beside a descriptor so that the end of ctx is noticed. */
#define POLL_DONE_FDS 3
struct poll_done {
        int n; /* entries */
        /* If one is readable, ctx is done. */
        struct pollfd fds[POLL_DONE_FDS];
        /* If one has hung up, or after this time (CTX_NEVER: no limit), the caller begins again. */
        uint64_t usec;
        struct ctx *local; /* the source that has to be left; NULL: none */
        unsigned fork_generation;
};

/* Returns 0 or a negative errno. Then the caller looks at the state of ctx, and polls if it is not done. May
 * ask the daemon, and waits a moment at most for it. */
int poll_done_begin(struct poll_done *done, struct ctx *ctx);
/* After each begin that has returned 0, also if the thread is cancelled (pthread_cleanup_push). userdata: the
 * struct poll_done. */
void poll_done_end(void *userdata);
/* ctx_poll() with valid arguments, if it was seen that none is ready. */
int poll_and_wait(struct ctx *ctx, struct pollfd *fds, nfds_t n_fds, uint64_t timeout_usec);
/* Waits until fd is ready for events. Returns 0, the context's error, or another negative errno. */
int poll_one_fd(struct ctx *ctx, int fd, short events);
/* The same for the end of a child process, which may have to be asked for again: while somebody else traces a
 * process that has ended, it cannot be reaped. (waitpid-flock.c) */
int poll_process(struct ctx *ctx, int pidfd);
