/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "ctl/bus.h"
#include "ctl/handle.h"
#include "ctl/line.h"
#include "proto/daemon-address.h"
#include "proto/socket-address.h"
#include "proto/wire-stream.h"

/* See line.h. There is room for what is sent of ctxctl run: a path, or three of them ahead. */

#define AHEAD_MAX 3

struct line {
        int fd;
        int received; /* a descriptor that has come; -1: none */
        int error;    /* it has ended, or the daemon does not answer */
        uint32_t serial;
        struct {
                const char *member, *path;
                uint32_t serial;
        } ahead[AHEAD_MAX];
        struct wire unsent;
        struct wire_stream stream;
        uint8_t out[8192];
};

int line_fd(const struct line *line)
{
        return line->fd;
}

void line_close(struct ctl *ctl)
{
        struct line *line = ctl->line;

        ctl->line = NULL;
        if (!line)
                return;
        closep(&line->fd);
        closep(&line->received);
        free(line);
}

static int flush_out(struct line *line, int fd)
{
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof fd)];
        } control = {.header = {.cmsg_len = CMSG_LEN(sizeof fd),
                                     .cmsg_level = SOL_SOCKET,
                                     .cmsg_type = SCM_RIGHTS}};
        struct iovec iov = {line->out, line->unsent.at};
        struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t n;

        if (iov.iov_len == 0)
                return 0;
        if (fd >= 0) {
                memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
                m.msg_control = &control;
                m.msg_controllen = sizeof control.space;
        }
        line->unsent = (struct wire){.data = line->out, .size = sizeof line->out};
        n = sendmsg(line->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
                return errno == EPIPE ? -ECONNRESET : -errno;
        return (size_t) n == iov.iov_len ? 0 : -ECONNRESET;
}

static void take_descriptors(struct line *line, struct msghdr *m)
{
        for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
                size_t n = c->cmsg_type == SCM_RIGHTS ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;

                for (size_t i = 0; i < n; i++) {
                        closep(&line->received);
                        memcpy(&line->received, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                }
        }
}

static int receive(struct line *line)
{
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(4 * sizeof(int))];
        } control;
        struct wire_stream *stream = &line->stream;
        struct iovec iov = {stream->in + stream->n, sizeof stream->in - stream->n};
        struct msghdr m = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof control};
        ssize_t n = recvmsg(line->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (n < 0)
                return -errno;
        take_descriptors(line, &m);
        stream->n += (size_t) n;
        return n == 0 ? -ECONNRESET : 0;
}

static int wait_for_more(struct line *line, uint64_t until_usec)
{
        struct pollfd pollfd = {.fd = line->fd, .events = POLLIN};
        uint64_t now = now_monotonic_usec();

        if (now >= until_usec)
                return -ETIMEDOUT;
        return poll_until(&pollfd, 1, now_boottime_usec() + until_usec - now) < 0 && errno != EINTR ? -errno
                                                                                                    : 0;
}

/* 0: the answer is in line->stream.message. */
static int await(struct line *line, uint32_t serial, uint64_t until_usec)
{
        int r = flush_out(line, -1);

        while (r >= 0) {
                r = wire_stream_take(&line->stream);
                if (r > 0 && line->stream.message.is_answer && line->stream.message.reply_serial == serial)
                        return 0;
                if (r == 0)
                        r = receive(line);
                if (r == -EAGAIN || r == -EINTR)
                        r = wait_for_more(line, until_usec);
        }
        return r;
}

/* types: those with which it has to begin. */
static int answer(struct ctl *ctl, uint32_t serial, const char *types)
{
        struct line *line = ctl->line;

        if (line->error == 0)
                line->error = await(line, serial, bus_answers_until(ctl));
        if (line->error < 0) {
                ctl->unanswered |= line->error == -ETIMEDOUT;
                return bus_failed(ctl, &SD_BUS_ERROR_NULL, line->error);
        }
        if (line->stream.message.is_error)
                return LINE_REFUSED;
        return strncmp(line->stream.message.types, types, strlen(types)) == 0 ? 0 : bus_broken(-EBADMSG);
}

static uint32_t begin(struct line *line, const char *member, const char *types, bool with_fd)
{
        wire_begin_call(&line->unsent, &(struct wire_call){.destination = CTXD_BUS_NAME,
                                                       .path = CTXD_OBJECT,
                                                       .interface = CTXD_MANAGER_INTERFACE,
                                                       .member = member,
                                                       .types = types,
                                                       .serial = ++line->serial,
                                                       .n_fds = with_fd});
        return line->serial;
}

/* r: of what has written the arguments. Sends the message, or takes it back. */
static int end(struct line *line, const struct arguments *a, int r)
{
        wire_end_call(&line->unsent);
        if (r >= 0 && !line->unsent.is_over) {
                if (a->fd >= 0 && line->error == 0)
                        line->error = flush_out(line, a->fd);
                return 0;
        }
        line->unsent.at = line->unsent.from;
        line->unsent.is_over = false;
        return LINE_REFUSED;
}

int line_create(struct ctl *ctl, const char *path, const struct create_arguments *arguments,
                char *ret_reference, bool *ret_made)
{
        struct arguments a = {.wire = &ctl->line->unsent, .fd = -1};
        struct wire *body = &ctl->line->stream.message.body;
        uint32_t serial = begin(ctl->line, "CreateAndOpen", "sa{sv}b", arguments->attach_fd >= 0);
        int r = end(ctl->line, &a, create_add_arguments(&a, path, arguments));

        if (r == 0)
                r = answer(ctl, serial, "stb");
        if (r != 0)
                return r;
        path = wire_get_string(body);
        snprintf(ret_reference, CTXD_PATH_ID_MAX + 1, "%s#%" PRIu64, path, wire_get_u64(body));
        *ret_made = wire_get_u32(body);
        return body->is_over ? bus_broken(-EBADMSG) : 0;
}

int line_attach(struct ctl *ctl, const char *path, int pidfd, const struct attach_arguments *arguments)
{
        struct arguments a = {.wire = &ctl->line->unsent, .fd = -1};
        uint32_t serial = begin(ctl->line, "Attach", "sha{sv}", true);
        int r = end(ctl->line, &a, attach_add_arguments(&a, path, pidfd, arguments));

        return r == 0 ? answer(ctl, serial, "") : r;
}

/* 0: there is no room for it. */
static uint32_t put_call(struct line *line, const char *member, const char *path, const char *reason)
{
        struct arguments a = {.wire = &line->unsent, .fd = -1};
        uint32_t serial = begin(line, member, reason ? "ss" : "s", false);
        int r = arguments_add_string(&a, path);

        if (r >= 0 && reason)
                r = arguments_add_string(&a, reason);
        return end(line, &a, r) == 0 ? serial : 0;
}

void line_send_ahead(struct ctl *ctl, const char *member, const char *path)
{
        struct line *line = ctl->line;
        size_t i = 0;

        while (i < AHEAD_MAX && line->ahead[i].serial != 0)
                i++;
        if (i == AHEAD_MAX)
                return;
        line->ahead[i].member = member;
        line->ahead[i].path = path;
        line->ahead[i].serial = put_call(line, member, path, NULL);
}

static uint32_t take_ahead(struct line *line, const char *member, const char *path)
{
        for (size_t i = 0; i < AHEAD_MAX; i++) {
                uint32_t serial = line->ahead[i].serial;

                if (serial != 0 && line->ahead[i].path == path &&
                                strcmp(line->ahead[i].member, member) == 0) {
                        line->ahead[i].serial = 0;
                        return serial;
                }
        }
        return 0;
}

static int call(struct ctl *ctl, const char *member, const char *path, const char *reason, const char *types)
{
        uint32_t serial = take_ahead(ctl->line, member, path);

        if (serial == 0)
                serial = put_call(ctl->line, member, path, reason);
        return serial == 0 ? LINE_REFUSED : answer(ctl, serial, types);
}

int line_call(struct ctl *ctl, const char *member, const char *path, const char *reason)
{
        return call(ctl, member, path, reason, "");
}

int line_end(struct ctl *ctl, const char *path, const char **ret_err, int *ret_code, const char **ret_cause)
{
        struct wire *body = &ctl->line->stream.message.body;
        int r = call(ctl, "Err", path, NULL, "siis");

        if (r != 0)
                return r;
        *ret_err = wire_get_string(body);
        *ret_code = (int) wire_get_u32(body);
        (void) wire_get_u32(body);
        *ret_cause = wire_get_string(body);
        return body->is_over ? bus_broken(-EBADMSG) : 0;
}

int line_handle(struct ctl *ctl, const char *member, const char *path, int *ret_fd)
{
        int r = call(ctl, member, path, NULL, "h"), fd;

        if (r != 0)
                return r;
        fd = fd_above_streams(TAKE_FD(ctl->line->received));
        if (fd < 0)
                return bus_broken(-EBADMSG);
        *ret_fd = fd;
        return 0;
}

static int connect_to(const struct sockaddr_un *address, socklen_t length)
{
        int fd = fd_above_streams(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

        if (fd < 0 || connect(fd, (const struct sockaddr *) address, length) == 0)
                return fd;
        close(fd);
        return -1;
}

int line_open(struct ctl *ctl)
{
        struct daemon_place places[DAEMON_PLACES_MAX];
        struct sockaddr_un address;
        socklen_t length;
        const char *place;
        struct line *line;
        size_t n;
        char why[512];
        int r;

        daemon_places(bus_given_address(ctl), ctl->user, places);
        place = places->given ? places->given : places->address;
        n = strcspn(place, ";");
        /* Whether that is what the server says of itself sd-bus looks. */
        if (memmem(place, n, "guid=", strlen("guid=")) || !socket_address_parse(place, n, &address, &length))
                return 0;
        line = calloc(1, sizeof *line);
        if (!line)
                return 0;
        line->fd = connect_to(&address, length);
        line->received = -1;
        line->unsent = (struct wire){.data = line->out, .size = sizeof line->out};
        ctl->line = line;
        wire_put_hello(&line->unsent, ++line->serial);
        r = line->fd < 0 ? -ENOTCONN : await(line, line->serial, bus_connects_until(ctl));
        if (r == 0 && !line->stream.message.is_error)
                return bus_has_reached(ctl, place);
        line_close(ctl);
        snprintf(why, sizeof why, "at %s: %s", place, strerror(-r));
        return r == -ETIMEDOUT ? bus_not_reached(ctl, why, r) : 0;
}
