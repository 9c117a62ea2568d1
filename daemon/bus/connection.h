/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/peer.h"

/* A direct connection: an sd-bus server on an accepted socket, without a broker in between.
 *
 * It is not attached to sd-event, because sd-event does work for every attached bus at every event: a ping
 * among 4,000 idle connections takes fifty times as long. We watch the connection's descriptor and its
 * timeout instead, and process only a connection that has something to do. */

struct connection;

/* Owns fd, also on failure. A connection that its uid may not have is closed (-EDQUOT). One that is taken
 * waits for a turn of that uid, and nothing is made for it before it has said something. */
int connection_accept(struct service *s, int fd, uid_t uid);
struct connection *connection_free(struct connection *c);
/* Whether clients may send descriptors to this socket, or to those that are accepted from it. Before Linux
 * 6.16 they always may. */
void connection_let_send_fds(int fd, bool may);
/* Sends as much of what waits as the sockets take. It is for the end of the daemon. */
void connections_send_rest(struct service *s);
