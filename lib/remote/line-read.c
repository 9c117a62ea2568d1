/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/local/raw.h"
#include "lib/remote/line-inside.h"
#include "util/clock.h"

/* What the daemon, or the bus, says on a line. All but the answer that is awaited is thrown away. */

/* Nobody here wants a descriptor. */
static void close_received(struct msghdr *m)
{
        for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
                size_t n = c->cmsg_type == SCM_RIGHTS ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
                int fd;

                for (size_t i = 0; i < n; i++) {
                        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
                        raw_close(fd);
                }
        }
}

/* 1: something has come; 0: nothing; -ECONNRESET. */
static int receive(struct line *line)
{
        struct wire_stream *stream = &line->stream;
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(16 * sizeof(int))];
        } control;
        struct iovec iov = {stream->in + stream->n, sizeof stream->in - stream->n};
        struct msghdr m = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof control};
        ssize_t n = -1;
        sigset_t before;

        errno = ECHILD;
        if (line_hold(line, &before))
                n = recvmsg(line->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        line_let_go(&before);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n <= 0)
                return -ECONNRESET;
        close_received(&m);
        stream->n += (size_t) n;
        return 1;
}

int line_look(struct line *line, uint32_t serial)
{
        for (;;) {
                int r = wire_stream_take(&line->stream);

                if (r == 0)
                        r = receive(line);
                if (r <= 0)
                        return r;
                if (line->stream.used == 0)
                        continue;
                line->heard_usec = now_monotonic_usec();
                if (line->stream.message.is_answer && line->stream.message.reply_serial == serial)
                        return 1;
        }
}
