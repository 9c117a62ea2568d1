/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/closer-internal.h"

/* Takes or gives a message with up to one descriptor. */
struct note {
        struct iovec iov;
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control;
        struct msghdr message;
};

static void note_init(struct note *n, void *bytes, size_t size)
{
        *n = (struct note){.iov = {.iov_base = bytes, .iov_len = size}};
        n->message = (struct msghdr){.msg_iov = &n->iov,
                        .msg_iovlen = 1,
                        .msg_control = &n->control,
                        .msg_controllen = sizeof n->control};
}

int closer_send(int socket, const void *bytes, size_t size, int fd, int flags)
{
        struct note n;
        struct cmsghdr *c;
        ssize_t k;

        note_init(&n, (void *) bytes, size);
        if (fd >= 0) {
                c = CMSG_FIRSTHDR(&n.message);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof fd);
                memcpy(CMSG_DATA(c), &fd, sizeof fd);
        } else {
                n.message.msg_controllen = 0;
        }
        while ((k = sendmsg(socket, &n.message, flags | MSG_NOSIGNAL)) < 0 && errno == EINTR)
                ;
        return k < 0 ? -errno : 0;
}

int closer_receive(int socket, void *bytes, size_t size, int *ret_fd, int flags)
{
        struct cmsghdr *c;
        struct note n;
        ssize_t k;
        int fd = -1;

        note_init(&n, bytes, size);
        while ((k = recvmsg(socket, &n.message, flags | MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
                ;
        if (k < 0)
                return -errno;
        c = CMSG_FIRSTHDR(&n.message);
        if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof fd))
                memcpy(&fd, CMSG_DATA(c), sizeof fd);
        *ret_fd = fd;
        return k == (ssize_t) size ? 1 : 0;
}

void closer_say(int socket, const struct closer_answer *answer, int fd)
{
        if (closer_send(socket, answer, sizeof *answer, fd, 0) < 0)
                _exit(0); /* the daemon has gone */
}

static int fork_chief(pid_t *ret_pid, int jobs, int keeps)
{
        *ret_pid = fork();
        if (*ret_pid == 0)
                closer_chief(jobs, keeps);
        return *ret_pid < 0 ? -errno : 0;
}

int closer_start(struct closer *ret)
{
        int jobs[2], keeps[2], r;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, jobs) < 0)
                return -errno;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, keeps) < 0) {
                r = -errno;
                close(jobs[0]);
                close(jobs[1]);
                return r;
        }
        r = fork_chief(&ret->pid, jobs[1], keeps[1]);
        close(jobs[1]);
        close(keeps[1]);
        if (r < 0) {
                close(jobs[0]);
                close(keeps[0]);
                return r;
        }
        ret->jobs = jobs[0];
        ret->keeps = keeps[0];
        return 0;
}
