/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <time.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "ctl/handle.h"

int handle_wait(struct ctl *ctl, int handle, uint64_t timeout_usec)
{
        uint64_t start = now_boottime_usec();

        for (;;) {
                struct pollfd fds[] = {{.fd = handle, .events = POLLIN}, {.fd = sd_bus_get_fd(ctl->bus)}};
                uint64_t passed = now_boottime_usec() - start, left;
                struct timespec ts, *timeout = NULL;
                int r;

                left = passed < timeout_usec ? timeout_usec - passed : 0;
                if (timeout_usec != UINT64_MAX) {
                        ts = (struct timespec){(time_t) (left / 1000000), (long) (left % 1000000 * 1000)};
                        timeout = &ts;
                }
                r = ppoll(fds, ELEMENTSOF(fds), timeout, NULL);
                if (r < 0 && errno != EINTR)
                        return -errno;
                if (r > 0 && fds[0].revents)
                        return HANDLE_READABLE;
                if (r > 0)
                        return HANDLE_LOST;
                if (r == 0 && now_boottime_usec() - start >= timeout_usec)
                        return HANDLE_TIME_IS_UP;
        }
}
