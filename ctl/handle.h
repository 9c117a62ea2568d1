/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <poll.h>
#include <stdint.h>

#include "ctl/ctxctl.h"

/* Handles: the descriptors that the daemon gives for a context. A handle becomes readable when the context
 * is done (member "Done"), or when its last member has left as well ("Drained"). */

/* Asks for a handle. 0, or a positive exit status after an error message. */
int handle_get(struct ctl *ctl, const char *member, const char *path, int *ret_fd);
/* Waits until the handle is readable or the time is up, and says which. 0, or a positive exit status after
 * an error message: also if the connection ends, since then nobody makes the handle readable any more. */
int handle_wait(struct ctl *ctl, int fd, const char *path, uint64_t timeout_usec, bool *ret_readable);

/* Takes the descriptor over, and gives one that has not the number of a standard stream that is closed: what
 * is printed would go through it. -1: with errno, or what was taken over was negative. */
int fd_above_streams(int fd);

/* ppoll() until a time on CLOCK_BOOTTIME; UINT64_MAX: without a limit. */
int poll_until(struct pollfd *fds, nfds_t n, uint64_t when_usec);
