/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <signal.h>

#include "ctl/attach.h"
#include "ctl/create.h"
#include "ctl/scope.h"

/* What verb-run.c and run-command.c share. */
struct run {
        struct create_arguments create;
        struct attach_arguments attach;
        char reference[CTXD_PATH_ID_MAX + 1];
        bool made; /* we have made the context, and it ends with the command */
        bool wants_scope;
        struct scope scope;
        int done;        /* with a scope: the context's "Done" handle; -1: none, or it has become readable */
        int signals;     /* signalfd */
        sigset_t before; /* the signal mask that the command gets */
};

/* Runs the command in the context, and waits for it. Returns the exit status. */
int run_command(struct ctl *ctl, struct run *run, char *argv[]);
/* Releases the context if we have made it. */
void run_release(struct ctl *ctl, struct run *run);
