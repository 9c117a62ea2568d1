/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A daemon that is killed, or crashes, closes all that it has by its end. In the sockets of clients, and in
 * its queue of those who connect, descriptors may wait at which nobody has looked yet, and the last close of
 * one can take for ever (foreign.h). Then there could be no other daemon: whoever starts it waits for the end
 * of this one.
 *
 * So another process shares the daemon's table of descriptors. It does nothing until the daemon has ended.
 * Then its own end closes all. The kernel closes each socket before that which waits in it. So also where the
 * heir hangs all others see that the connections are gone, an instant after the end of the daemon.
 *
 * The last close of what clients were given can hang, too (daemon/world/given.h), and is not behind the
 * sockets. So before it ends the heir forks a process that has those files alone, and ends after it. */

/* Starts the process. -errno. */
int heir_start(void);
