/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* NULL if the number has no name. */
const char *syscall_name(int64_t number);
/* -1 if there is no such call here. */
int syscall_number(const char *name);

/* How its first argument is to be read. */
enum syscall_kind {
        SYSCALL_OTHER,
        SYSCALL_FD,    /* a descriptor */
        SYSCALL_POLL,  /* an array of struct pollfd, and its length */
        SYSCALL_OPEN,  /* a path, in some argument */
        SYSCALL_WAIT4, /* a pid, or 0 and less: any */
        SYSCALL_WAITID,
        SYSCALL_FUTEX,
        SYSCALL_SLEEP,
        SYSCALL_VFORK, /* vfork, and the clones that may wait like it */
};
enum syscall_kind syscall_kind(int64_t number);
