/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

#define SEND_FDS_MAX 32

/* Sends a record of the probe's protocol, right or wrong, with n_fds descriptors, none of which is what it
 * should be. It never waits. */
void send_record(int socket_fd, const void *record, size_t size, unsigned n_fds);
