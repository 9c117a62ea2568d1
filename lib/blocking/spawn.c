/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/blocking/spawn.h"
#include "lib/blocking/task.h"
#include "lib/local/shared.h"
#include "lib/local/spawn-options.h"
#include "lib/local/thread.h"
#include "proto/names.h"

/* Starts a child process under a context. */

static int start_child(struct ctx_task *task, struct spawn_start *start)
{
        int r;

        r = spawn_fork(start);
        if (r < 0)
                return r;
        r = task_bind(task, start->pid, start->options);
        if (r >= 0)
                r = spawn_go_on(start);
        else
                spawn_give_up(start);
        if (r < 0)
                task_discard(start->pid);
        return r;
}

/* "NAME=value", or NULL if value is NULL. */
static int assignment(const char *name, const char *value, char **ret)
{
        *ret = NULL;
        if (value && asprintf(ret, "%s=%s", name, value) < 0)
                return -ENOMEM;
        return 0;
}

static int spawn(struct ctx_task *task, char *const argv[], const struct ctx_spawn_options *options)
{
        struct spawn_start start = {.argv = argv, .options = options};
        char *context = NULL, *address = NULL;
        int r = 0;

        if (task->shared) {
                const struct ctx_shared_ops *ops = task->shared->ops;

                r = assignment(CTXD_ENV_CONTEXT, ops->path(task->shared), &context);
                if (r >= 0)
                        r = assignment(CTXD_ENV_ADDRESS, ops->address(task->shared), &address);
        }
        start.env = r >= 0 ? spawn_env(options->env, context, address) : NULL;
        r = start.env ? start_child(task, &start) : -ENOMEM;
        free(start.env);
        free(context);
        free(address);
        return r;
}

struct ctx_task *ctx_spawn(struct ctx *ctx, char *const argv[], const struct ctx_spawn_options *options)
{
        struct ctx_spawn_options o;
        struct ctx_task *task;
        int r = ctx && argv && argv[0] ? 0 : -EINVAL;

        if (r == 0)
                r = spawn_take_options(options, SIGTERM, &o);
        if (r == 0)
                r = ctx_err(ctx);
        if (r < 0) {
                errno = -r;
                return NULL;
        }
        THREAD_STAYS;
        task = task_new(ctx, &o);
        if (!task)
                return NULL;
        r = spawn(task, argv, &o);
        if (r < 0) {
                ctx_task_unref(task);
                errno = -r;
                return NULL;
        }
        return task;
}
