/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "ctl/bus.h"
#include "ctl/handle.h"
#include "ctl/line.h"

int handle_get(struct ctl *ctl, const char *member, const char *path, int *ret_fd)
{
        _cleanup_message_ sd_bus_message *reply = NULL;
        int r = ctl->line ? line_handle(ctl, member, path, ret_fd) : LINE_REFUSED, fd;

        if (r != LINE_REFUSED)
                return r;
        r = bus_call(ctl, &reply, member, "s", path);
        if (r > 0)
                return r;
        r = sd_bus_message_read(reply, "h", &fd);
        if (r < 0)
                return bus_broken(r);
        /* The message owns its descriptor. */
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return bus_broken(-errno);
        *ret_fd = fd;
        return 0;
}

int fd_above_streams(int fd)
{
        int low = fd;

        if (fd < 0 || fd > STDERR_FILENO)
                return fd;
        fd = fcntl(low, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        close(low);
        return fd;
}

int poll_until(struct pollfd *fds, nfds_t n, uint64_t when_usec)
{
        uint64_t now_usec = now_boottime_usec(), left = when_usec > now_usec ? when_usec - now_usec : 0;
        struct timespec ts = {(time_t) (left / 1000000), (long) (left % 1000000 * 1000)};

        return ppoll(fds, n, when_usec == UINT64_MAX ? NULL : &ts, NULL);
}

int handle_wait(struct ctl *ctl, int fd, const char *path, uint64_t timeout_usec, bool *ret_readable)
{
        uint64_t now_usec = now_boottime_usec();
        uint64_t end_usec = timeout_usec < UINT64_MAX - now_usec ? now_usec + timeout_usec : UINT64_MAX;

        for (;;) {
                struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = sd_bus_get_fd(ctl->bus)}};
                int r = poll_until(fds, ELEMENTSOF(fds), end_usec);

                if (r < 0 && errno != EINTR) {
                        print_error("cannot wait: %s", strerror(errno));
                        return EXIT_FAILED;
                }
                if (r > 0 && !fds[0].revents) {
                        print_error("lost the connection to ctxd while waiting for '%s'", path);
                        return EXIT_FAILED;
                }
                if (r > 0 || (r == 0 && now_boottime_usec() >= end_usec)) {
                        *ret_readable = r > 0;
                        return 0;
                }
        }
}
