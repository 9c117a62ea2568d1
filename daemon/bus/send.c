/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Limits how much is sent at once. The kernel takes as much as a client reads meanwhile on another processor,
 * so a reply of 4 MB would be sent in one call, for which all others wait 3 ms. sd-bus offers no hook for
 * this, and keeps what was not taken, so this program has a sendmsg() of its own (receive.c says how that can
 * be). */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "daemon/bus/send.h"
#include "util/cleanup.h"

#define PARTS 8 /* sd-bus has two: the header, and the body */

static int to = -1;
static bool nowhere;
static uint64_t sent;

void send_begin(int fd)
{
        to = fd;
        nowhere = false;
        sent = 0;
}

void send_begin_nowhere(int fd)
{
        send_begin(fd);
        nowhere = true;
}

uint64_t send_end(void)
{
        to = -1;
        return sent;
}

/* The first n bytes of what m sends are those of ret. */
static void cut(const struct msghdr *m, size_t n, struct iovec parts[static PARTS], struct msghdr *ret)
{
        size_t i;

        for (i = 0; i < m->msg_iovlen && i < PARTS && n > 0; i++) {
                parts[i] = m->msg_iov[i];
                if (parts[i].iov_len > n)
                        parts[i].iov_len = n;
                n -= parts[i].iov_len;
        }
        *ret = *m;
        ret->msg_iov = parts;
        ret->msg_iovlen = i;
}

static size_t size_of(const struct msghdr *m)
{
        size_t n = 0;

        for (size_t i = 0; i < m->msg_iovlen; i++)
                n += m->msg_iov[i].iov_len;
        return n;
}

/* sd-bus frees a message when all of it was sent. For the kernel that is half a microsecond for each page,
 * and 4 MB have a thousand. So the pages go as they are sent. A long part is of the body of a message, which
 * nobody reads again. */
static void drop_sent(const struct msghdr *m, size_t n)
{
        const uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);

        for (size_t i = 0; i < m->msg_iovlen && n > 0; i++) {
                const struct iovec *part = &m->msg_iov[i];
                size_t taken = part->iov_len < n ? part->iov_len : n;
                uintptr_t from = ((uintptr_t) part->iov_base + page - 1) & ~(page - 1),
                          until = ((uintptr_t) part->iov_base + taken) & ~(page - 1);

                if (part->iov_len > SEND_TURN && until > from)
                        (void) madvise((void *) from, until - from, MADV_DONTNEED);
                n -= taken;
        }
}

__attribute__((visibility("default"))) ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
        uint64_t left = fd == to ? SEND_TURN - sent : SEND_TURN;
        struct iovec parts[PARTS];
        const struct msghdr *whole = message;
        struct msghdr first;
        ssize_t n;

        if (left == 0) {
                errno = EAGAIN;
                return -1;
        }
        if ((flags & MSG_DONTWAIT) && size_of(message) > left) {
                cut(message, left, parts, &first);
                message = &first;
        }
        n = fd == to && nowhere ? (ssize_t) size_of(message) : syscall(SYS_sendmsg, fd, message, flags);
        if (message != whole && n > 0)
                drop_sent(whole, (size_t) n);
        if (fd == to && n > 0)
                sent += (uint64_t) n;
        return n;
}

int send_try(int fd)
{
        char control[CMSG_SPACE(sizeof fd)] = {};
        struct iovec iov = {.iov_base = "", .iov_len = 1};
        struct msghdr m = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control,
                        .msg_controllen = sizeof control};
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        _cleanup_close_ int from = -1, until = -1;
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        from = pair[0];
        until = pair[1];
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
        return sendmsg(from, &m, MSG_DONTWAIT) < 0 ? -errno : 0;
}
