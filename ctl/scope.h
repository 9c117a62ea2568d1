/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "ctl/attach.h"

/* A transient scope of systemd's: a control group that everything which is forked in it stays in, whatever becomes of
 * it, with a unit that names it. */
struct scope {
        char unit[256];
        char *directory; /* of its control group; NULL: there is no scope */
        int events; /* polls with POLLPRI when somebody is in it for the first time, or nobody is any more */
        char invocation[33]; /* systemd's id of this run of the unit, empty where it has none */
};

#define SCOPE                \
        {                    \
                .events = -1 \
        }

/* Puts a process of ours, before it does anything, into a scope that is named after the context. The scope ends its
 * processes as the attach does if it is stopped by others. 0, or EXIT_RUN_FAILED after it has said why. */
int scope_start(struct ctl *ctl, const char *reference, pid_t pid, char *const command[],
                const struct attach_arguments *attach, struct scope *scope);
bool scope_populated(const struct scope *scope);
int scope_kill(const struct scope *scope); /* SIGKILL to whoever is in it, at once */
void scope_deinit(struct scope *scope);
