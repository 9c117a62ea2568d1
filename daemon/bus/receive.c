/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* sd-bus keeps what it has received until the message is whole, and asks nobody how much that may be: each byte of
 * half a message can bring 253 descriptors along, so that one client fills the daemon's table and shuts everybody
 * else out. It has no place to hook in, so the function that it receives by is ours: a program's own recvmsg() comes
 * before the C library's for the libraries that it is linked with. Only what is received for a direct connection, on
 * its turn, is looked at; and sd-bus never asks for more than the rest of one message at a time. */

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/bus/receive.h"

static struct receiver *receiving;

void receive_begin(struct receiver *r)
{
        r->turn = 0;
        receiving = r;
}

void receive_end(void)
{
        receiving = NULL;
}

void receive_whole(struct receiver *r)
{
        r->bytes = 0;
        r->fds = 0;
}

/* A socket can be made to linger when it is closed, which would be our time. */
static void disarm(int fd)
{
        const struct linger none = {};

        (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

static bool take_fds(struct receiver *r, struct msghdr *m)
{
        for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
                size_t n;

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < n; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
                        disarm(fd);
                        if (r->fds + n > RECEIVE_FDS_MAX)
                                close(fd);
                }
                if (r->fds + n > RECEIVE_FDS_MAX)
                        return false;
                r->fds += (uint32_t) n;
        }
        return true;
}

__attribute__((visibility("default"))) ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
        ssize_t n;

        if (!receiving || fd != receiving->fd)
                return syscall(SYS_recvmsg, fd, message, flags);
        /* Who writes as fast as we read would never let go of us. */
        if (receiving->turn >= RECEIVE_TURN) {
                errno = EAGAIN;
                return -1;
        }
        n = syscall(SYS_recvmsg, fd, message, flags);
        if (n < 0)
                return n;
        receiving->bytes += (uint64_t) n;
        receiving->turn += (uint64_t) n;
        if (message->msg_controllen > 0 && !take_fds(receiving, message)) {
                errno = ECONNRESET;
                return -1;
        }
        return n;
}
