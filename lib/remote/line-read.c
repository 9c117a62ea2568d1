/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/local/raw.h"
#include "lib/remote/line-inside.h"
#include "util/clock.h"

/* What the daemon, or the bus, says on a line: a few lines of text, and then messages. All but the answer
 * that is awaited is thrown away. */

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
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(16 * sizeof(int))];
        } control;
        struct iovec iov = {line->in + line->n, sizeof line->in - line->n};
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
        line->n += (size_t) n;
        return 1;
}

static void consume(struct line *line, size_t n)
{
        line->n -= n;
        memmove(line->in, line->in + n, line->n);
}

/* The answers to the lines of text. 1: that was all. */
static int read_text(struct line *line)
{
        uint8_t *end;

        while ((end = memchr(line->in, '\n', line->n))) {
                bool is_last = line->in[0] == 'A'; /* AGREE_UNIX_FD */

                if (line->in[0] == 'R' || line->in[0] == 'E') /* REJECTED, ERROR */
                        return -ECONNRESET;
                consume(line, (size_t) (end - line->in) + 1);
                if (is_last)
                        return 1;
        }
        return 0;
}

/* 1: a whole message is in line->answer; 0: there is none yet. */
static int take_message(struct line *line)
{
        size_t size, n;

        if (!line->has_begun) {
                int r = read_text(line);

                if (r <= 0)
                        return r;
                line->has_begun = true;
        }
        consume(line, line->used);
        line->used = 0;
        n = line->to_skip < line->n ? line->to_skip : line->n;
        consume(line, n);
        line->to_skip -= n;
        size = line->to_skip > 0 ? 0 : wire_size(line->in, line->n);
        if (size == SIZE_MAX)
                return -ECONNRESET;
        if (size > sizeof line->in) { /* no answer that is expected here */
                line->to_skip = size;
                return take_message(line);
        }
        if (size == 0 || size > line->n)
                return 0;
        line->used = size;
        return wire_read(line->in, size, &line->answer) ? 1 : -ECONNRESET;
}

int line_look(struct line *line, uint32_t serial)
{
        for (;;) {
                int r = take_message(line);

                if (r == 0)
                        r = receive(line);
                if (r <= 0)
                        return r;
                if (line->used == 0)
                        continue;
                line->heard_usec = now_monotonic_usec();
                if (line->answer.is_answer && line->answer.reply_serial == serial)
                        return 1;
        }
}
