/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl/arguments.h"
#include "ctl/ctxctl.h"

struct attach_arguments {
        bool has_signal, has_kill_after;
        bool children;  /* what descends from it already, too (attach-children.c) */
        bool subreaper; /* what becomes our child is a member, too */
        int signal;     /* 0: none */
        uint64_t kill_after_usec;
};

/* Adds them to options that are open; all of Attach. 0 or a negative errno. */
int attach_add_options(struct arguments *to, const struct attach_arguments *arguments);
int attach_add_arguments(
                struct arguments *to, const char *path, int pidfd, const struct attach_arguments *arguments);
/* Makes a process a member. Returns what bus_send() returns. */
int attach_process(struct ctl *ctl, const char *path, int pidfd, const struct attach_arguments *arguments,
                const char *expected);
/* The same of a process and all that descend from it. Says who has not become a member, and why. Returns the
 * exit status. */
int attach_with_children(
                struct ctl *ctl, const char *path, pid_t pid, const struct attach_arguments *arguments);
