/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

/* Descriptors of files that clients have, too, because they were given them: handles, lifelines, pidfds, the
 * eventfds of threads. A client can put such a file into an epoll set, hold the set's lock, and close its own
 * descriptor. Then the last close would be ours, and would hang for as long as the client likes. So those
 * descriptors are marked, and another process closes them (util/foreign.h).
 *
 * sd-bus duplicates what it sends and closes that when it frees the message, for which it offers no hook. So
 * this program has a close() and an fcntl() of its own, as it has a recvmsg() (daemon/bus/receive.c says how
 * that can be). A duplicate of a marked descriptor is marked. As long as another one of the same file is open
 * here a close() is not the last one, and does what it always does. Else it only puts the descriptor into a
 * queue of its holder's, from where many go to that process together. So no close() is slow, or fails.
 *
 * What waits there because those processes hang is charged to its holder, as if it had never been closed
 * (batch.h). */

struct foreign;
struct users;

/* From now on descriptors can be marked. Before that nothing is. */
int given_start(sd_event *event, struct foreign *foreign, struct users *users);
/* What waits stays open, and so does what is marked: this is the end of the daemon (util/heir.h). */
void given_stop(void);

/* A client of that uid will have the file, too. It may be marked already. 0 or -ENOMEM. */
int given_mark(int fd, uid_t uid);
/* It was not sent, so nobody else has the file. */
void given_unmark(int fd);
/* Whether what was given to that uid, or its party, has been charged, since those who close it do not. Then
 * it gets what nobody is charged for only as long as it could also have a handle. */
bool given_is_charged(uid_t uid);
/* Hands over what waits now. It need not be called, but where descriptors are short. */
void given_flush(void);

/* Whether sd-bus closes and duplicates by our functions in this process. */
bool given_takes_effect(void);
