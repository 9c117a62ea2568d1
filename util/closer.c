/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/closer-internal.h"

/* Takes or gives a message with descriptors. */
struct note {
        struct iovec iov;
        union {
                char bytes[CMSG_SPACE(CLOSER_FDS_MAX * sizeof(int))];
                struct cmsghdr align;
        } control;
        struct msghdr message;
};

static void note_init(struct note *n, void *bytes, size_t size)
{
        n->iov = (struct iovec){.iov_base = bytes, .iov_len = size};
        n->message = (struct msghdr){.msg_iov = &n->iov,
                        .msg_iovlen = 1,
                        .msg_control = &n->control,
                        .msg_controllen = sizeof n->control};
}

void closer_fds_close(struct closer_fds *fds)
{
        while (fds->n > 0)
                close(fds->fds[--fds->n]);
}

int closer_send_fds(int socket, const void *bytes, size_t size, const int *fds, unsigned n, int flags)
{
        struct note note;
        struct cmsghdr *c;
        ssize_t k;

        note_init(&note, (void *) bytes, size);
        if (n > 0) {
                c = CMSG_FIRSTHDR(&note.message);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(n * sizeof *fds);
                memcpy(CMSG_DATA(c), fds, n * sizeof *fds);
        }
        note.message.msg_controllen = n > 0 ? CMSG_SPACE(n * sizeof *fds) : 0;
        while ((k = sendmsg(socket, &note.message, flags | MSG_NOSIGNAL)) < 0 && errno == EINTR)
                ;
        return k < 0 ? -errno : 0;
}

int closer_receive_fds(int socket, void *bytes, size_t size, struct closer_fds *ret, int flags)
{
        struct cmsghdr *c;
        struct note note;
        ssize_t k;

        note_init(&note, bytes, size);
        ret->n = 0;
        while ((k = recvmsg(socket, &note.message, flags | MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
                ;
        if (k < 0)
                return -errno;
        c = CMSG_FIRSTHDR(&note.message);
        if (c && c->cmsg_type == SCM_RIGHTS) {
                ret->n = (unsigned) ((c->cmsg_len - CMSG_LEN(0)) / sizeof *ret->fds);
                memcpy(ret->fds, CMSG_DATA(c), ret->n * sizeof *ret->fds);
        }
        return k == (ssize_t) size ? 1 : 0;
}

int closer_send(int socket, const void *bytes, size_t size, int fd, int flags)
{
        return closer_send_fds(socket, bytes, size, &fd, fd >= 0, flags);
}

int closer_receive(int socket, void *bytes, size_t size, int *ret_fd, int flags)
{
        struct closer_fds fds;
        int r = closer_receive_fds(socket, bytes, size, &fds, flags);

        if (r < 0)
                return r;
        *ret_fd = fds.n > 0 ? fds.fds[0] : -1;
        while (fds.n > 1)
                close(fds.fds[--fds.n]);
        return r;
}

void closer_say(int socket, const struct closer_answer *answer, const int *fds, unsigned n)
{
        if (closer_send_fds(socket, answer, sizeof *answer, fds, n, 0) < 0)
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
