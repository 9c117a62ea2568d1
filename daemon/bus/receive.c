/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Limits what a client can make sd-bus keep. sd-bus keeps what it has received until the message is whole,
 * and has no limit for that. Each byte of half a message can bring 253 descriptors, so one client could fill
 * the daemon's table and shut everybody else out. When a whole message is invalid, sd-bus throws it away, and
 * forgets to close its descriptors.
 *
 * sd-bus offers no hook for this. So this program has a recvmsg() of its own, which the linker prefers to the
 * C library's, also for the libraries that the program is linked with. It looks only at what is received for
 * a direct connection while that connection is served. sd-bus never asks for more than the rest of one
 * message at a time.
 *
 * To know where a message ends, one has to know where it has begun. It begins behind the message before it,
 * or behind the end of the authentication if nothing else came with that end. If the first message was sent
 * in one piece with that end, this is not known, and no descriptors are taken from it. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "daemon/bus/receive.h"
#include "util/cleanup.h"

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

static void next_message(struct receiver *r)
{
        r->bytes = r->size = 0;
        r->fds = 0;
        r->aligned = true;
}

void receive_ready(struct receiver *r)
{
        bool nothing_more = r->n_begin == 1 && r->begin_matched == strlen("BEGIN\r\n");

        r->ready = true;
        next_message(r);
        r->aligned = nothing_more;
}

void receive_whole(struct receiver *r)
{
        next_message(r);
}

bool receive_has_lost(const struct receiver *r)
{
        return r->size > 0 && r->bytes >= r->size;
}

void receive_close_lost(const struct receiver *r)
{
        for (uint32_t i = 0; i < r->fds; i++)
                if (fcntl(r->fd_list[i], F_GETFD) >= 0)
                        close(r->fd_list[i]);
}

/* Looks for the end of the authentication. If it has come once, and nothing behind it, the next message
 * begins now. Else messages have begun already. */
static void look_for_begin(struct receiver *r, const char *bytes, size_t n)
{
        static const char begin[] = "BEGIN\r\n";

        for (size_t i = 0; i < n; i++) {
                if (r->begin_matched == strlen(begin))
                        r->begin_matched = 0;
                if (bytes[i] != begin[r->begin_matched])
                        r->begin_matched = 0;
                if (bytes[i] == begin[r->begin_matched] && ++r->begin_matched == strlen(begin) &&
                                r->n_begin < 2)
                        r->n_begin++;
        }
}

static uint64_t get_u32(const uint8_t *p, bool big)
{
        return big ? (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3]
                   : (uint32_t) p[3] << 24 | (uint32_t) p[2] << 16 | (uint32_t) p[1] << 8 | p[0];
}

/* The sizes of the body and of the header's fields, which are padded to 8. */
static void look_at_header(struct receiver *r, const void *bytes, size_t n)
{
        bool big;

        if (r->bytes >= sizeof r->header)
                return;
        if (n > sizeof r->header - r->bytes)
                n = sizeof r->header - r->bytes;
        memcpy(r->header + r->bytes, bytes, n);
        if (r->bytes + n < sizeof r->header)
                return;
        big = r->header[0] == 'B';
        r->size = sizeof r->header + get_u32(r->header + 4, big) +
                  ((get_u32(r->header + 12, big) + 7) & ~UINT64_C(7));
}

static bool take_fds(struct receiver *r, struct msghdr *m)
{
        bool taken = !(m->msg_flags & MSG_CTRUNC);

        for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
                const struct linger none = {};
                size_t n;

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                taken = taken && r->aligned && r->fds + n <= RECEIVE_FDS_MAX;
                for (size_t i = 0; i < n; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
                        /* A client can make a socket linger when it is closed, and then we would have to
                         * wait. */
                        (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
                        if (taken)
                                r->fd_list[r->fds++] = fd;
                        else
                                close(fd);
                }
        }
        return taken;
}

__attribute__((visibility("default"))) ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
        struct receiver *r = receiving;
        ssize_t n;

        if (!r || fd != r->fd)
                return syscall(SYS_recvmsg, fd, message, flags);
        if (receive_has_lost(r)) {
                errno = ECONNRESET;
                return -1;
        }
        /* A client that writes as fast as we read would keep us for ever. */
        if (r->turn >= RECEIVE_TURN) {
                errno = EAGAIN;
                return -1;
        }
        n = syscall(SYS_recvmsg, fd, message, flags);
        if (n < 0)
                return n;
        if (message->msg_controllen > 0 && !take_fds(r, message)) {
                errno = ECONNRESET;
                return -1;
        }
        if (!r->ready)
                look_for_begin(r, message->msg_iov[0].iov_base, (size_t) n);
        else if (r->aligned)
                look_at_header(r, message->msg_iov[0].iov_base, (size_t) n);
        r->bytes += (uint64_t) n;
        r->turn += (uint64_t) n;
        return n;
}

/* Lets sd-bus receive the first line of a client, and looks whether our function was called. */
bool receive_takes_effect(void)
{
        static const char line[] = "\0AUTH EXTERNAL\r\n";
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
        _cleanup_close_ int client = -1;
        struct receiver r = {};
        sd_id128_t id = {};
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
                return false;
        client = pair[1];
        r.fd = pair[0];
        if (sd_bus_new(&bus) < 0 || sd_bus_set_fd(bus, r.fd, r.fd) < 0) {
                close(r.fd);
                return false;
        }
        receive_begin(&r);
        if (write(client, line, sizeof line - 1) > 0 && sd_bus_set_server(bus, 1, id) >= 0 &&
                        sd_bus_start(bus) >= 0)
                (void) sd_bus_process(bus, NULL);
        receive_end();
        return r.bytes > 0;
}
