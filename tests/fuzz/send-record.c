/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/send-record.h"

void send_record(int socket_fd, const void *record, size_t size, unsigned n_fds)
{
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(SEND_FDS_MAX * sizeof(int))];
        } control = {};
        struct iovec iov = {(void *) record, size};
        struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
        int fds[SEND_FDS_MAX];

        if (n_fds > 0) {
                message.msg_control = &control;
                message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                control.header.cmsg_level = SOL_SOCKET;
                control.header.cmsg_type = SCM_RIGHTS;
                control.header.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                for (unsigned i = 0; i < n_fds; i++)
                        fds[i] = eventfd(0, EFD_CLOEXEC);
                memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
        }
        (void) sendmsg(socket_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        for (unsigned i = 0; i < n_fds; i++)
                close(fds[i]);
}
