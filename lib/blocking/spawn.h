/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "lib/ctxclient.h"

/* A child that waits at a gate, and calls exec once it is let through (spawn-child.c). If the parent dies
 * before that, so does the child. */
struct spawn_start {
        char *const *argv;
        char **env; /* made by spawn_env() */
        const struct ctx_spawn_options *options;
        pid_t pid;
        struct spawn_page *page; /* shared with the child */
};

/* 0, or a negative errno. After success one of the next two follows. */
int spawn_fork(struct spawn_start *start);
/* Lets the child through, and waits until exec has succeeded or failed: 0, or a negative errno. It is 0 too
 * if the child was killed before. */
int spawn_go_on(struct spawn_start *start);
/* The child exits. */
void spawn_give_up(struct spawn_start *start);
/* Returns a copy of env (NULL: environ) in which $CTXD_CONTEXT and $CTXD_ADDRESS are as given ("NAME=value"),
 * or not set where NULL is given. If both are NULL, nothing is changed. The caller frees the array; the
 * strings are borrowed. */
char **spawn_env(char *const *env, char *context, char *address);
