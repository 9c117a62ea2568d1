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
 * Descriptors are looked at before they are received (foreign.h). Meanwhile nothing is received.
 *
 * To know where a message ends, one has to know where it has begun. It begins behind the message before it,
 * or behind the end of the authentication. sd-bus is given that end alone, even if the first message was sent
 * in one piece with it. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "util/closer.h"
#include "daemon/bus/receive.h"
#include "util/cleanup.h"

/* So much is looked at before a message is received, so that a small one needs one look. */
#define PEEK_MIN 4096
/* How long all that comes from the bus may wait for a look at descriptors. It takes microseconds; but on a
 * busy machine a process that was killed is not replaced at once, and without a look the bus is given up. */
#define WAIT_USEC 1000000

static struct receiver *receiving, *from_bus;

void receive_begin(struct receiver *r)
{
        r->turn = 0;
        receiving = r;
}

void receive_end(void)
{
        receiving = NULL;
}

void receive_nothing(struct receiver *r)
{
        r->turn = RECEIVE_TURN;
}

void receive_from_bus(struct receiver *r)
{
        from_bus = r;
}

uint64_t receive_bytes_from_bus(void)
{
        uint64_t n = from_bus ? from_bus->bytes : 0;

        if (from_bus)
                from_bus->bytes = 0;
        return n;
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
                size_t n;

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                taken = taken && r->aligned && r->fds + n <= RECEIVE_FDS_MAX;
                for (size_t i = 0; i < n; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
                        if (taken)
                                r->fd_list[r->fds++] = fd;
                        else
                                close(fd);
                }
        }
        return taken;
}

/* Looks whether descriptors come, without receiving any: a buffer that has no room for them is told only that
 * there are some. They need not come with these bytes, because the kernel also looks behind them. */
static ssize_t peek(int fd, char bytes[CLOSER_LOOK_MAX], size_t n, bool *ret_fds)
{
        struct iovec iov = {.iov_base = bytes, .iov_len = n};
        struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t k = syscall(SYS_recvmsg, fd, &m, MSG_PEEK | MSG_DONTWAIT);

        *ret_fds = k > 0 && m.msg_flags & MSG_CTRUNC;
        return k;
}

/* The number of bytes up to the end of the authentication, or all: what comes behind it begins a message. */
static size_t until_begin(const struct receiver *r, const char *bytes, size_t n)
{
        struct receiver copy = {.begin_matched = r->begin_matched, .n_begin = r->n_begin};

        for (size_t i = 0; i < n; i++) {
                look_for_begin(&copy, bytes + i, 1);
                if (copy.n_begin > r->n_begin)
                        return i + 1;
        }
        return n;
}

#define TRIES 8 /* more than there are processes that look for all */

/* Whether there is an answer in time. Who should have looked may have been killed: then another is asked. */
static bool is_looked_at(struct receiver *r, uint32_t window)
{
        for (int i = 0; i < TRIES; i++) {
                if (r->look.size == 0 && foreign_look(&r->look, r->fd, window) < 0)
                        return false;
                if (foreign_wait(&r->look, WAIT_USEC) < 0)
                        return false;
                if (r->look.size > 0)
                        return r->look.n_fds != CLOSER_NOT_ALL;
        }
        return false;
}

/* Finds out how many of the next bytes may be received, up to n, so that no descriptor comes of which nothing
 * is known. Returns -1 with errno, and 0 at the end. */
static ssize_t find_room(struct receiver *r, size_t n)
{
        static char bytes[CLOSER_LOOK_MAX];
        size_t window = n < PEEK_MIN ? PEEK_MIN : n;
        ssize_t k;
        bool fds;

        if (r->look.size > 0 && !foreign_is_held(&r->look))
                foreign_forget(&r->look);
        if ((r->ready || r->is_waited_for) && (r->plain > 0 || r->look.size > 0))
                return r->plain > 0 && r->plain < n ? r->plain : (ssize_t) n;
        k = peek(r->fd, bytes, window, &fds);
        if (k <= 0)
                return k;
        if (!fds)
                r->plain = (uint32_t) k;
        else if (r->look.size == 0 && foreign_look(&r->look, r->fd, (uint32_t) window) < 0) {
                errno = ECONNRESET;
                return -1;
        }
        if (receive_waits(r) && r->is_waited_for && !is_looked_at(r, (uint32_t) window)) {
                foreign_forget(&r->look);
                if (foreign_look_and_keep(&r->look, r->fd, (uint32_t) window, WAIT_USEC) < 0) {
                        errno = ECONNRESET; /* what waits is closed by another, with the socket */
                        return -1;
                }
        }
        if (receive_waits(r)) {
                errno = EAGAIN;
                return -1;
        }
        if ((size_t) k > n)
                k = (ssize_t) n;
        return r->ready || r->is_waited_for ? k : (ssize_t) until_begin(r, bytes, (size_t) k);
}

/* Receives no descriptor. Says whether some have come. */
static ssize_t receive_plain(struct receiver *r, struct msghdr *m, int flags, size_t n, bool *ret_fds)
{
        struct iovec iov = {.iov_base = m->msg_iov[0].iov_base, .iov_len = n};
        struct msghdr plain = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t k = syscall(SYS_recvmsg, r->fd, &plain, flags);

        *ret_fds = k > 0 && plain.msg_flags & MSG_CTRUNC;
        m->msg_controllen = 0;
        m->msg_flags = plain.msg_flags & ~MSG_CTRUNC;
        return k;
}

/* Fills in as many descriptors as have come: our own for the same processes, or of /dev/null. */
static bool open_others(struct look *l, int fds[static RECEIVE_FDS_MAX])
{
        uint32_t i;

        if (l->only_pidfds) {
                memcpy(fds, l->pidfds, l->n_pidfds * sizeof *fds);
                i = l->n_pidfds;
                l->n_pidfds = 0;
                return i == l->n_fds;
        }
        for (i = 0; i < l->n_fds && (fds[i] = foreign_dummy(l->foreign)) >= 0; i++)
                ;
        if (i == l->n_fds)
                return true;
        while (i > 0)
                close(fds[--i]);
        return false;
}

/* As if the client had sent those. */
static bool put_others(struct receiver *r, struct msghdr *m, size_t size)
{
        struct cmsghdr *c = m->msg_control;
        uint32_t n = r->look.n_fds;
        int fds[RECEIVE_FDS_MAX];

        if (size < CMSG_SPACE(n * sizeof(int)) || !open_others(&r->look, fds))
                return false;
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n * sizeof(int));
        m->msg_controllen = CMSG_SPACE(n * sizeof(int));
        return true;
}

/* Receives where the next descriptors are known. They come now, or with a later message. */
static ssize_t receive_known(struct receiver *r, struct msghdr *m, int flags, size_t n)
{
        bool too_many = r->look.n_fds > RECEIVE_FDS_MAX, fds;
        size_t size = m->msg_control ? m->msg_controllen : 0;
        ssize_t k;

        if (too_many && !r->is_waited_for) {
                errno = ECONNRESET;
                return -1;
        }
        k = receive_plain(r, m, flags, n, &fds);
        /* Without its descriptors sd-bus throws a message of the bus away. */
        if (fds && r->look.n_fds > 0 && !too_many && !put_others(r, m, size) && !r->is_waited_for) {
                errno = ECONNRESET;
                k = -1;
        }
        if (fds)
                foreign_forget(&r->look);
        return k;
}

static ssize_t receive(struct receiver *r, struct msghdr *m, int flags)
{
        size_t n = m->msg_iov[0].iov_len;
        ssize_t k;
        bool fds;

        if (receive_waits(r)) {
                errno = EAGAIN;
                return -1;
        }
        k = find_room(r, n < CLOSER_LOOK_MAX ? n : CLOSER_LOOK_MAX);
        if (k <= 0)
                return k;
        if (r->look.size > 0)
                return receive_known(r, m, flags, (size_t) k);
        k = receive_plain(r, m, flags, (size_t) k, &fds);
        if (k > 0)
                r->plain -= (uint32_t) k;
        return k;
}

static ssize_t receive_counted(struct receiver *r, struct msghdr *message, int flags)
{
        ssize_t n;

        if (receive_has_lost(r)) {
                errno = ECONNRESET;
                return -1;
        }
        /* A client that writes as fast as we read would keep us for ever. */
        if (r->turn >= RECEIVE_TURN) {
                errno = EAGAIN;
                return -1;
        }
        n = receive(r, message, flags);
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

__attribute__((visibility("default"))) ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
        if (receiving && fd == receiving->fd)
                return receive_counted(receiving, message, flags);
        if (from_bus && fd == from_bus->fd) {
                ssize_t n = receive(from_bus, message, flags);

                from_bus->bytes += n > 0 ? (uint64_t) n : 0;
                return n;
        }
        return syscall(SYS_recvmsg, fd, message, flags);
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
