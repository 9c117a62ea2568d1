/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

/* Descriptors that clients send. To close one can take as long as its sender likes: the close of a file in a
 * file system of the sender's own waits for an answer of that file system, and not even SIGKILL ends the
 * wait. The last close of a large memfd frees its memory first, and that of a socket may linger. So the
 * daemon lets no descriptor into its table before another process has looked at it, and takes only pidfds,
 * which is all that any call wants. In place of others a message gets descriptors of /dev/null. A socket in
 * which descriptors still wait is closed by another process, too.
 *
 * They also write to eventfds that many wait for: whoever writes has to wake each of them.
 *
 * What those processes do is done in turns for each uid. A uid that makes them hang may have only a few of
 * them, and then its other descriptors wait. */

struct foreign;

/* What is known of the first descriptors that wait in a socket. */
struct look {
        struct foreign *foreign; /* NULL: nobody can look */
        uid_t uid;
        void (*over)(struct look *l); /* there is an answer */
        struct foreign_job *job;      /* while there is none */
        uint32_t size;                /* of those bytes; 0: nothing was asked */
        uint32_t n_fds;
        bool only_pidfds;
        bool holds;  /* there is hold_fd */
        int hold_fd; /* as long as it is open, another process has the descriptors, too */
};

int foreign_new(struct foreign **ret, sd_event *event);
struct foreign *foreign_free(struct foreign *f); /* everybody who has asked must have gone */

/* Asks for a look at the first descriptors in so many bytes of a socket. */
int foreign_look(struct look *l, int fd, uint32_t size);
/* Waits for the answer for so long. -ETIMEDOUT; -EBUSY: nobody can look now, so it is not waited for. */
int foreign_wait(struct look *l, uint64_t usec);
/* Forgets what was asked and answered. */
void foreign_forget(struct look *l);

/* To be called before a socket is closed: nothing more can be sent to it. If there are descriptors in it,
 * another process gets it. Then this returns true, and when that process has closed it, release(owned) is
 * called. */
bool foreign_close_before(struct look *l, int fd, void (*release)(void *owned), void *owned);

/* Writes to an eventfd of a uid, so that it stays readable, and closes it, and calls release(owned) then. On
 * failure the caller still has both. */
int foreign_write(struct foreign *f, uid_t uid, int fd, void (*release)(void *owned), void *owned);

/* A descriptor of /dev/null that the caller closes. -errno. */
int foreign_dummy(const struct foreign *f);
