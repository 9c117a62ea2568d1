/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "util/closer.h"

/* Descriptors that clients send. To close one can take as long as its sender likes: the close of a file in a
 * file system of the sender's own waits for an answer of that file system, and not even SIGKILL ends the
 * wait. The last close of a large memfd frees its memory first, and that of a socket may linger. That of any
 * file that is in an epoll set waits for the set's lock, which whoever waits at the set can hold for ever. So
 * the daemon lets no descriptor of a client into its table. Another process looks at them. Where they are
 * pidfds, which is all that any call wants, the message gets files of our own for the same processes, else
 * descriptors of /dev/null. A socket in which descriptors still wait is closed by another process, too.
 *
 * They also close what clients were given and may have put into a set, and write to eventfds that many wait
 * for: whoever writes has to wake each of them.
 *
 * What those processes do is done in turns for each party: a uid, or those who share one part of what all
 * share. A party whose descriptors have to be closed gets a few processes of its own for that. If they all
 * hang its other descriptors wait. */

#define FOREIGN_BUS UINT32_MAX /* the party of all who are on a bus: nobody knows who they are */

struct foreign;
struct foreign_hand;

/* What is known of the first descriptors that wait in a socket. */
struct look {
        struct foreign *foreign; /* NULL: nobody can look */
        uint32_t party;
        uid_t uid;                    /* one of the party's, for the log */
        void (*over)(struct look *l); /* there is an answer */
        struct foreign_job *job;      /* while there is none */
        uint32_t size;                /* of those bytes; 0: nothing was asked */
        uint32_t n_fds;
        bool only_pidfds;
        uint32_t n_pidfds; /* files of our own for the processes, if they are not too many */
        int pidfds[CLOSER_PIDFDS_MAX];
        struct foreign_hand *hand; /* the process that has the descriptors, too, until they are dropped */
};

int foreign_new(struct foreign **ret, sd_event *event);
/* Everybody who has asked must have gone. What waits to be closed stays open: this is the end of the daemon
 * (heir.h). */
struct foreign *foreign_free(struct foreign *f);

/* Asks for a look at the first descriptors in so many bytes of a socket. */
int foreign_look(struct look *l, int fd, uint32_t size);
/* Waits for the answer for so long, for FOREIGN_BUS. -ETIMEDOUT; -EBUSY: nobody can look now, so it is not
 * waited for. */
int foreign_wait(struct look *l, uint64_t usec);
/* Where nobody answers: has the one look who keeps sockets, which never hangs, and who also keeps what is
 * foreign. Waits for so long. */
int foreign_look_and_keep(struct look *l, int fd, uint32_t size, uint64_t usec);
/* Takes some of the answers that are there. The event loop does, too, but a caller with much to do may be
 * early. */
void foreign_take_answers(struct foreign *f);
/* Whether the process that has the descriptors, too, has them still: it may have been killed, and its end is
 * told later. Else what was answered is to be forgotten, since the last close could be here. What is left are
 * the microseconds from here to the receive, and only root can kill it in those. */
bool foreign_is_held(const struct look *l);
/* Forgets what was asked and answered. */
void foreign_forget(struct look *l);

/* To be called before a socket is closed: nothing more can be sent to it. If there are descriptors in it,
 * another process gets it. Then this returns true, and when that process has closed it, release(owned) is
 * called. */
bool foreign_close_before(struct look *l, int fd, void (*release)(void *owned), void *owned);

/* Closes the socket of a connection that nobody is charged for. If there are descriptors in it, a process
 * gets it that keeps it until it ends, so nothing of it stays here. */
void foreign_refuse(struct foreign *f, int fd);
/* Whether there is room for another one. There is none while so many that hang are kept that no process more
 * may be started for them. */
bool foreign_may_refuse(struct foreign *f);

/* Writes to an eventfd of a party, so that it stays readable, and closes it, and calls release(owned) then.
 * On failure the caller still has both. */
int foreign_write(struct foreign *f, uint32_t party, uid_t uid, int fd, void (*release)(void *owned),
                void *owned);

/* Has others close descriptors that clients of a party may have, too, and calls release(owned) when that is
 * done. On failure the caller still has them. */
int foreign_close(struct foreign *f, uint32_t party, uid_t uid, const int *fds, unsigned n,
                void (*release)(void *owned), void *owned);
/* Gives the processes what they were not given because the kernel refused it. */
void foreign_try_again(struct foreign *f);

/* A descriptor of /dev/null that the caller closes. -errno. */
int foreign_dummy(const struct foreign *f);
