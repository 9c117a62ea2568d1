/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "lib/ctxclient.h"

/* spawn-child.c: a child that waits at a gate before it execs. */
struct spawn_start {
        char *const *argv;
        char **env; /* by spawn_env() */
        const struct ctx_spawn_options *options;
        int gate;   /* the parent's end: a byte lets it go, the end of file ends it */
        int report; /* the parent's end: an int, what exec gave; nothing if it went well */
};

/* 0 with the pid and the two descriptors, or -errno. */
int spawn_fork(struct spawn_start *start, pid_t *ret_pid);
/* env (NULL: environ) with $CTXD_CONTEXT and $CTXD_ADDRESS as given ("NAME=value"), and without those where
 * NULL. The strings are borrowed, the array is to be freed. If both are NULL all is as it was. */
char **spawn_env(char *const *env, char *context, char *address);
