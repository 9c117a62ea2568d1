/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdint.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/eventfd.h"

int eventfd_fill(int fd)
{
        /* If a client has written to its own handle, the largest value may not fit. A smaller one is still
         * more than anybody reads. */
        static const uint64_t values[] = {UINT64_MAX - 1, UINT64_C(1) << 63, UINT64_C(1) << 32};

        for (size_t i = 0; i < ELEMENTSOF(values); i++) {
                if (write(fd, &values[i], sizeof values[i]) == sizeof values[i])
                        return 0;
                if (errno == EINTR)
                        return -EINTR;
        }
        return 0;
}

void eventfd_wake(int fd)
{
        static const uint64_t nothing;

        (void) !write(fd, &nothing, sizeof nothing);
}
