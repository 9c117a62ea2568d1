/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/local/ctx.h"
#include "lib/local/timer.h"

/* A child process under a context. The daemon ends it with the shared context that it is attached to. To end
 * it with a local context is left to the library: a direct callback (struct ctx_after) sends the signal, and
 * a timer sends SIGKILL later. Neither waits for callbacks of the program. All that they need is there before
 * the child runs, so they also work in a process that is out of descriptors or memory by then. */
struct ctx_task {
        pid_t pid;
        int pidfd;
        /* The daemon signals for this one; or NULL. ctx keeps it alive. */
        struct ctx_shared *shared;
        struct ctx *ctx;
        int signal;
        uint64_t kill_after_usec;
        bool is_tree;

        struct lock lock;
        bool reaped;
        int status;

        struct ctx_after *on_done;
        struct ctx_timer overtime; /* in the heap from task_bind() on */
        _Atomic uint32_t firing;   /* a futex */
        unsigned fork_generation;
};

/* NULL: there is no memory. The options are complete. */
struct ctx_task *task_new(struct ctx *ctx, const struct ctx_spawn_options *options);
/* The process is there, and does not run the command yet. From now on the context ends it. 0 or a negative
 * errno. */
int task_bind(struct ctx_task *task, pid_t pid, const struct ctx_spawn_options *options);
/* Reaps a process that is about to end. Nobody gets its status. */
void task_discard(pid_t pid);
