/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <poll.h>

#include "lib/ctx.h"

/* What has to be polled beside a descriptor: 0 to 2 entries, or a negative errno. */
int io_done_fds(struct ctx *ctx, struct pollfd fds[2]);
/* Until fd is ready for events: 0, the context's error, or another one. */
int io_wait(struct ctx *ctx, int fd, short events);
