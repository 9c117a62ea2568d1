/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <signal.h>

#include "ctl/attach.h"
#include "ctl/contexts.h"
#include "ctl/create.h"
#include "ctl/saved-terminal.h"
#include "ctl/scope.h"

/* What verb-run.c, run-command.c and run-wait.c share. */
struct run {
        struct create_arguments create;
        struct attach_arguments attach;
        char reference[CTXD_PATH_ID_MAX + 1];
        bool made;     /* we have made the context, and it ends with the command */
        bool is_taken; /* its name, by a context that is done */
        bool attached; /* the call that made it has made the command a member */
        bool no_wait, preserve_status, print_id;
        const char *without_dashes; /* the PATH, where no -- stands between it and the command; or NULL */
        bool wants_scope;
        struct scope scope;
        int owner;       /* pidfd: the context ends with that process; -1: none, or it has exited */
        int done;        /* with a scope: the context's "Done" handle; -1: none, or it has become readable */
        pid_t pid;       /* the command's; it executes nothing before it gets a message through the gate */
        int pidfd, gate; /* -1: none yet, or no more */
        int signals;     /* signalfd */
        bool ignores_children; /* it also gets SIGCHLD ignored */
        bool has_children;     /* of the program that has executed us */
        bool alone;            /* ctxd does not answer, or does not know the context any more */
        struct saved_terminal terminal;
};

#define RUN                                                                                      \
        {                                                                                        \
                .create = CREATE_ARGUMENTS, .attach = {.has_signal = true, .signal = SIGTERM},   \
                .scope = SCOPE, .owner = -1, .done = -1, .pidfd = -1, .gate = -1, .signals = -1, \
                .terminal = SAVED_TERMINAL,                                                      \
        }

/* Forks the child that is to be the command. 0, or the exit status. */
int run_fork(struct ctl *ctl, struct run *run, char *argv[]);
/* Lets it execute the command in the context, and waits for it. Returns the exit status. */
int run_command(struct ctl *ctl, struct run *run, char *argv[]);
/* Ends a child that was not let go. */
void run_dismiss(struct run *run);
/* Releases the context if we have made it. */
void run_release(struct ctl *ctl, struct run *run);
/* 124 or 123, by how the context ended. -1 if it is active, or if ctxd cannot be asked; then run->alone. */
int run_end_status(struct ctl *ctl, struct run *run, struct context_end *ret);
/* Says why the context has ended. */
void run_tell_end(const struct run *run, const struct context_end *end);

/* run-alone.c: sends the signal (0: none) to all that descend from us, and says how many they are. */
size_t run_signal_family(struct ctl *ctl, const struct run *run, int signal);

/* Where whom the command leaves behind comes to nobody who would know it, says so. */
void run_tell_unseen(struct ctl *ctl, const struct run *run);

/* run-stop.c: stops us until somebody continues us; false if nobody would. */
bool run_stop(void);
/* The command, our child, was stopped by that signal: we stop with it. */
void run_stop_with(pid_t command, int signal);

/* run-wait.c: waits until the command has ended, and until nobody is left of what ends with it. Returns the
 * exit status. */
int run_wait(struct ctl *ctl, struct run *run);
