/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

/* One of the addresses of a list of D-Bus, such as unix:path=/run/ctxd/bus,guid=... False: it is no socket's,
 * or none that the kernel would take. */
bool socket_address_parse(const char *text, size_t n, struct sockaddr_un *ret, socklen_t *ret_length);
