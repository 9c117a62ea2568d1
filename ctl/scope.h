/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "ctl/attach.h"

/* A transient scope: a unit of systemd with a control group. All processes that are forked in the control
 * group stay in it. */
struct scope {
        char unit[256];
        char *directory;     /* of the control group; NULL: there is no scope */
        int events;          /* polls with POLLPRI when the group gets its first process or loses its last */
        char invocation[33]; /* systemd's id for this run of the unit; empty: none */
};

#define SCOPE                \
        {                    \
                .events = -1 \
        }

/* Moves our child, which waits for its command, into a new scope that is named after the context. If
 * others stop the scope, systemd ends its processes with the signal and the time of `attach`. 0, or
 * EXIT_RUN_FAILED after an error message. */
int scope_start(struct ctl *ctl, const char *reference, pid_t pid, char *const command[],
                const struct attach_arguments *attach, struct scope *scope);
bool scope_populated(const struct scope *scope);
/* Kills all processes in the scope. 0 or -errno. */
int scope_kill(const struct scope *scope);
void scope_deinit(struct scope *scope);
