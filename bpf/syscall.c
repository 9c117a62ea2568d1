/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <asm/unistd.h>
#include <string.h>

#include "bpf/syscall.h"
#include "util/cleanup.h"

static const char *const names[] = {
#include "bpf/syscall-names.h"
};

static const struct {
        const char *name;
        enum syscall_kind kind;
} kinds[] = {
                {"read", SYSCALL_FD},
                {"write", SYSCALL_FD},
                {"readv", SYSCALL_FD},
                {"writev", SYSCALL_FD},
                {"pread64", SYSCALL_FD},
                {"pwrite64", SYSCALL_FD},
                {"preadv", SYSCALL_FD},
                {"pwritev", SYSCALL_FD},
                {"preadv2", SYSCALL_FD},
                {"pwritev2", SYSCALL_FD},
                {"recvfrom", SYSCALL_FD},
                {"recvmsg", SYSCALL_FD},
                {"recvmmsg", SYSCALL_FD},
                {"sendto", SYSCALL_FD},
                {"sendmsg", SYSCALL_FD},
                {"sendmmsg", SYSCALL_FD},
                {"accept", SYSCALL_FD},
                {"accept4", SYSCALL_FD},
                {"connect", SYSCALL_FD},
                {"fsync", SYSCALL_FD},
                {"fdatasync", SYSCALL_FD},
                {"flock", SYSCALL_FD},
                {"fcntl", SYSCALL_FD},
                {"ioctl", SYSCALL_FD},
                {"splice", SYSCALL_FD},
                {"tee", SYSCALL_FD},
                {"vmsplice", SYSCALL_FD},
                {"ftruncate", SYSCALL_FD},
                {"fallocate", SYSCALL_FD},
                {"getdents64", SYSCALL_FD},
                {"epoll_wait", SYSCALL_FD},
                {"epoll_pwait", SYSCALL_FD},
                {"epoll_pwait2", SYSCALL_FD},
                {"io_uring_enter", SYSCALL_FD},
                {"open", SYSCALL_OPEN},
                {"openat", SYSCALL_OPEN},
                {"poll", SYSCALL_POLL},
                {"ppoll", SYSCALL_POLL},
                {"wait4", SYSCALL_WAIT4},
                {"waitid", SYSCALL_WAITID},
                {"futex", SYSCALL_FUTEX},
                {"futex_wait", SYSCALL_FUTEX},
                {"futex_waitv", SYSCALL_FUTEX},
                {"nanosleep", SYSCALL_SLEEP},
                {"clock_nanosleep", SYSCALL_SLEEP},
                {"vfork", SYSCALL_VFORK},
                {"clone", SYSCALL_VFORK},
                {"clone3", SYSCALL_VFORK},
};

const char *syscall_name(int64_t number)
{
        if (number < 0 || (uint64_t) number >= ELEMENTSOF(names))
                return NULL;
        return names[number];
}

int syscall_number(const char *name)
{
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (names[i] && strcmp(names[i], name) == 0)
                        return (int) i;
        return -1;
}

enum syscall_kind syscall_kind(int64_t number)
{
        const char *name = syscall_name(number);

        for (size_t i = 0; name && i < ELEMENTSOF(kinds); i++)
                if (strcmp(kinds[i].name, name) == 0)
                        return kinds[i].kind;
        return SYSCALL_OTHER;
}
