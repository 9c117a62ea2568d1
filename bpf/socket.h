/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "bpf/sample.h"

/* Sockets, as reports name them:
 *
 *     tcp 127.0.0.1:44312 to 127.0.0.1:80     tcp [::]:80 (listening)     udp 127.0.0.1:53
 *     unix /run/server (listening)            unix to /run/server of server[17]
 *     unix @name to client[18]                unix socket:[4711]
 *
 * The process at the other end is the one that has called connect(), listen() or socketpair(). */

/* The text of any descriptor: of one that is no socket the path. */
void socket_text(const struct described *described, char *ret, size_t size);
/* A Unix socket without a peer connects or sends to an address of n bytes. */
void socket_set_destination(struct described *described, const char *address, size_t n);
/* Looks the socket of a descriptor up in the /proc/PID/net of the thread, so in its network namespace. That
 * does not tell the peer of a Unix socket. Where it is not found nothing changes. */
void socket_find(uint32_t pid, uint32_t tid, int fd, uint64_t inode, struct described *described);
