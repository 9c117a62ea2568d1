/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/capability.h"

int capability_drop(uint64_t keep, uint64_t pass)
{
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[2] = {};

        if (syscall(SYS_capget, &header, data) < 0)
                return -errno;

        /* Without CAP_SETPCAP the bounding set cannot be changed. Then no_new_privs alone makes sure that
         * an exec gains no capability. */
        for (int i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
                if (!((keep | pass) >> i & 1))
                        (void) prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
        if (pass == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        (void) prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);

        for (int i = 0; i < 2; i++) {
                uint32_t mask = (uint32_t) (keep >> (32 * i));

                data[i].permitted &= mask;
                data[i].effective = data[i].permitted;
                data[i].inheritable = 0;
        }
        if (syscall(SYS_capset, &header, data) < 0)
                return -errno;
        return 0;
}
