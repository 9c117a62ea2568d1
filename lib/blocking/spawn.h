/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "lib/ctxclient.h"

/* A child that waits at a gate, and calls exec once it is let through (spawn-child.c). */
struct spawn_start {
        char *const *argv;
        char **env; /* made by spawn_env() */
        const struct ctx_spawn_options *options;
        /* The parent's end of a pipe. The child goes on when it reads a byte, and exits at the end of
         * file. */
        int gate;
        /* The parent's end of a pipe. The child writes errno, as an int, if exec fails; nothing if it
         * succeeds. */
        int report;
};

/* 0 with the pid and the two descriptors, or a negative errno. */
int spawn_fork(struct spawn_start *start, pid_t *ret_pid);
/* Returns a copy of env (NULL: environ) in which $CTXD_CONTEXT and $CTXD_ADDRESS are as given ("NAME=value"),
 * or not set where NULL is given. If both are NULL, nothing is changed. The caller frees the array; the
 * strings are borrowed. */
char **spawn_env(char *const *env, char *context, char *address);
