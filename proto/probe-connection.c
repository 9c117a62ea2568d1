/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/probe-connection.h"
#include "util/cleanup.h"
#include "util/clock.h"

void probe_connection_init(struct probe_connection *c)
{
        *c = (struct probe_connection){.fd = -1};
}

void probe_connection_open(struct probe_connection *c, int fd)
{
        *c = (struct probe_connection){.fd = fd, .progress_usec = now_boottime_usec()};
}

void probe_connection_close(struct probe_connection *c)
{
        closep(&c->fd);
        c->fd = -1;
}

void probe_connection_restart_clock(struct probe_connection *c)
{
        c->progress_usec = now_boottime_usec();
}

bool probe_connection_is_stalled(const struct probe_connection *c, uint64_t limit_usec)
{
        return now_boottime_usec() - c->progress_usec > limit_usec;
}

int probe_connection_send(
                struct probe_connection *c, const struct probe_header *record, const int *fds, size_t n_fds)
{
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(PROBE_FDS * sizeof(int))];
        } control = {};
        struct iovec iov = {(void *) record, record->size};
        struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

        if (n_fds > 0) {
                message.msg_control = &control;
                message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                control.header = (struct cmsghdr){CMSG_LEN(n_fds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
                memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
        }
        if (sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                return errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM ? 0 : -errno;
        probe_connection_restart_clock(c);
        return 1;
}

static size_t size_of_type(uint32_t type)
{
        switch (type) {
        case PROBE_WELCOME:
                return sizeof(struct probe_welcome);
        case PROBE_HELLO:
                return sizeof(struct probe_hello);
        case PROBE_WATCH:
                return sizeof(struct probe_watch);
        case PROBE_FORGET:
                return sizeof(struct probe_forget);
        case PROBE_LEAK:
                return sizeof(struct probe_leak);
        case PROBE_RESOLVED:
                return sizeof(struct probe_resolved);
        case PROBE_SWEPT:
                return sizeof(struct probe_swept);
        case PROBE_THREADS:
                return sizeof(struct probe_threads);
        default:
                return 0;
        }
}

#define END_STRING(field) (field)[sizeof(field) - 1] = '\0'

static void end_strings(struct probe_message *m)
{
        switch (m->header.type) {
        case PROBE_HELLO:
                END_STRING(m->hello.reason);
                break;
        case PROBE_WATCH:
                END_STRING(m->watch.path);
                END_STRING(m->watch.cause);
                break;
        case PROBE_LEAK:
                END_STRING(m->leak.comm);
                END_STRING(m->leak.syscall_text);
                END_STRING(m->leak.waits_on);
                END_STRING(m->leak.why);
                END_STRING(m->leak.kernel_stack);
                END_STRING(m->leak.stack);
                break;
        default:
                break;
        }
}

static int message_check(struct probe_message *m, size_t size)
{
        bool may_have_fds = m->header.type == PROBE_WELCOME || m->header.type == PROBE_HELLO;

        if (size < sizeof m->header || m->header.size != size || size_of_type(m->header.type) != size)
                return -EPROTO;
        if (m->n_fds != 0 && (!may_have_fds || m->n_fds != PROBE_FDS))
                return -EPROTO;
        end_strings(m);
        return 1;
}

int probe_connection_receive(struct probe_connection *c, struct probe_message *ret)
{
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(PROBE_FDS * sizeof(int))];
        } control;
        struct iovec iov = {ret, offsetof(struct probe_message, n_fds)};
        struct msghdr message = {
                        .msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof control,
        };
        ssize_t n;
        int r;

        _Static_assert(sizeof control - CMSG_LEN(0) <= sizeof ret->fds, "all that fit");
        ret->n_fds = 0;
        n = recvmsg(c->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        /* The kernel gathers all descriptors of a message in one header. */
        for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h; h = CMSG_NXTHDR(&message, h))
                if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
                        ret->n_fds = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                        memcpy(ret->fds, CMSG_DATA(h), ret->n_fds * sizeof(int));
                }
        if (n == 0)
                r = -ECONNRESET;
        else if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
                r = -EPROTO;
        else
                r = message_check(ret, (size_t) n);
        if (r < 0)
                probe_message_close(ret);
        else
                probe_connection_restart_clock(c);
        return r;
}

void probe_message_close(struct probe_message *m)
{
        for (size_t i = 0; i < m->n_fds; i++)
                close(m->fds[i]);
        m->n_fds = 0;
}
