/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <poll.h>

#include "lib/local/ctx.h"

/* What has to be polled beside a descriptor: 0 to POLL_DONE_FDS entries, of which a readable one tells that ctx is done,
 * and a hung-up one that this is to be asked for again; or a negative errno. It is also to be asked for again after
 * *ret_usec (CTX_NEVER: no need). Asks the daemon, where it has to. */
#define POLL_DONE_FDS 3
int poll_done_fds(struct ctx *ctx, struct pollfd fds[POLL_DONE_FDS], uint64_t *ret_usec);
/* Until fd is ready for events: 0, the context's error, or another one. */
int poll_one_fd(struct ctx *ctx, int fd, short events);
