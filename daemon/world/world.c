/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/world/world.h"
#include "util/clock.h"
#include "util/proc.h"

uint64_t world_now_usec(const struct world *w)
{
        return w->now_usec > 0 ? w->now_usec : now_boottime_usec();
}

uint64_t world_clock_usec(const struct world *w)
{
        return now_boottime_usec();
}

int world_signal(const struct world *w, int pidfd, int signal)
{
        return pidfd_signal(pidfd, signal);
}

int world_eventfd(const struct world *w, int flags)
{
        int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC | flags);

        return fd < 0 ? -errno : fd;
}

int world_pipe(const struct world *w, int ret_ends[2])
{
        return pipe2(ret_ends, O_CLOEXEC | O_NONBLOCK) < 0 ? -errno : 0;
}

int world_memfd(const struct world *w, const char *name)
{
        int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

        return fd < 0 ? -errno : fd;
}
