/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <poll.h>

#include "lib/local/ctx.h"

/* Fills in what has to be polled beside a descriptor so that the end of ctx is noticed. Returns the number of
 * entries, 0 to POLL_DONE_FDS, or a negative errno. If one is readable, ctx is done. If one has hung up, or
 * after *ret_usec (CTX_NEVER: no limit), the caller calls this again. May ask the daemon. */
#define POLL_DONE_FDS 3
int poll_done_fds(struct ctx *ctx, struct pollfd fds[POLL_DONE_FDS], uint64_t *ret_usec);
/* Waits until fd is ready for events. Returns 0, the context's error, or another negative errno. */
int poll_one_fd(struct ctx *ctx, int fd, short events);
