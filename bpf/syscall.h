/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* NULL: the number has no name. */
const char *syscall_name(int64_t number);
/* -1: this architecture has no such call. */
int syscall_number(const char *name);

/* What the arguments mean. */
enum syscall_kind {
        SYSCALL_OTHER,
        SYSCALL_FD,    /* the first is a descriptor */
        SYSCALL_POLL,  /* the first two are an array of struct pollfd and its length */
        SYSCALL_OPEN,  /* one of them is a path */
        SYSCALL_WAIT4, /* the first is a pid; 0 or less: any child */
        SYSCALL_WAITID,
        SYSCALL_FUTEX,
        SYSCALL_SLEEP,
        SYSCALL_VFORK, /* vfork, and the clones that may wait as it does */
};
enum syscall_kind syscall_kind(int64_t number);
