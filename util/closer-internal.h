/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "util/closer.h"

/* One process starts the others, the hands, and never gets a descriptor of a client. All hands wait for jobs
 * at the same socket. A hand that gets something it must not close says that it leaves, and another one takes
 * its place. They are processes of their own, with tables of their own: a thread, or a process that shares
 * the daemon's table, would keep all of the daemon's sockets open for as long as it cannot end.
 *
 * To start a process takes a hundred times as long as to look, and to close can take longer still. So a hand
 * that has left stays with the sender for whom it has left, at a socket of its own. One that closes runs only
 * when nobody else wants to: who sends such descriptors takes no time from others. But all who are on a bus
 * are one sender, for whose looks all of them wait: those that look for it are quick, and what takes
 * long to close is closed by one that ends then.
 *
 * A pidfd is closed as any other descriptor of a client, since its last close can hang, too: it waits for
 * each epoll set that the file is in, and whoever waits there can make that take for ever. So the daemon gets
 * other files for the same processes. But who has sent nothing but pidfds is honest most often, so whoever
 * looks for it does not step back.
 *
 * Of those who keep sockets (closer.h) there is none before it is wanted, and then one that receives.
 *
 * All of this happens after a fork without exec, so nothing here allocates memory. */

/* The first process. It starts the others. */
_Noreturn void closer_chief(int jobs, int keeps);
/* One that takes jobs. To leaving it writes its pid when it leaves. gone: a pidfd of a process that has been
 * reaped. */
_Noreturn void closer_hand(int jobs, int leaving, int gone);
/* One that keeps sockets. */
_Noreturn void closer_keep(int keeps, int leaving, int gone);

/* Answers. Ends this process where the daemon has gone. */
void closer_say(int socket, const struct closer_answer *answer, const int *fds, unsigned n);
