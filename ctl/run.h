/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <signal.h>

#include "ctl/attach.h"
#include "ctl/options-create.h"
#include "ctl/scope.h"

/* What the two files of ctxctl run share. */
struct run {
        struct create_arguments create;
        struct attach_arguments attach;
        char reference[CTXD_PATH_ID_MAX + 1];
        bool made; /* the context is ours, and ends with the command */
        bool wants_scope;
        struct scope scope;
        int done;        /* the context's done handle, with a scope; -1: none, or it was seen */
        int signals;     /* signalfd */
        sigset_t before; /* the mask that the command gets */
};

/* run-command.c: the exit status */
int run_command(struct ctl *ctl, struct run *run, char *argv[]);
void run_release(struct ctl *ctl, struct run *run); /* if we have made it */
