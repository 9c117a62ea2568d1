/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/blocking/spawn.h"
#include "lib/local/after.h"
#include "lib/local/shared.h"
#include "lib/local/spawn-options.h"
#include "proto/names.h"

#define LOCAL_KILL_AFTER_USEC UINT64_C(10000000) /* as the default of ctxd's KillAfterSec= */

/* A child process under a context. The daemon ends it with the shared context that it is attached to. To end
 * it with a local context is left to the library: a callback sends the signal, and a second context, with a
 * timeout, sends SIGKILL later. Both callbacks are direct ones (struct ctx_after): they do not wait for
 * callbacks of the program. */

struct ctx_task {
        pid_t pid;
        int pidfd;
        /* The daemon signals for this one; or NULL. ctx keeps it alive. */
        struct ctx_shared *shared;
        struct ctx *ctx;
        int signal;
        uint64_t kill_after_usec;

        struct lock lock;
        bool reaped;
        int status;

        struct ctx_after *on_done;
        struct ctx *overtime; /* made by end_task() */
        struct ctx_after *on_overtime;
};

static void send_signal(struct ctx_task *task, int signal)
{
        syscall(SYS_pidfd_send_signal, task->pidfd, signal, NULL, 0);
}

static void kill_task(void *userdata)
{
        send_signal(userdata, SIGKILL);
}

static void end_task(void *userdata)
{
        struct ctx_task *task = userdata;

        if (task->shared && task->shared->ops->seems_done(task->shared))
                return; /* the daemon sends it: a member gets its signal once */
        send_signal(task, task->signal);
        if (task->kill_after_usec == UINT64_MAX)
                return;
        task->overtime = ctx_with_timeout(ctx_background(), task->kill_after_usec);
        if (task->overtime)
                task->on_overtime = after_new(task->overtime, kill_task, task, true);
}

static struct ctx_task *task_free(struct ctx_task *task)
{
        if (task->on_done)
                ctx_after_stop_wait(task->on_done);
        if (task->on_overtime)
                ctx_after_stop_wait(task->on_overtime);
        ctx_after_unref(task->on_overtime);
        ctx_after_unref(task->on_done);
        ctx_unref(task->overtime);
        if (task->pidfd >= 0)
                close(task->pidfd);
        ctx_unref(task->ctx);
        free(task);
        return NULL;
}

static struct ctx_task *task_new(struct ctx *ctx, const struct ctx_spawn_options *options)
{
        struct ctx_task *task = calloc(1, sizeof *task);

        if (!task)
                return NULL;
        task->lock.rank = LOCK_TASK;
        task->pidfd = -1;
        task->ctx = ctx_ref(ctx);
        task->shared = ctx_shared_above(ctx->source);
        task->signal = options->signal;
        task->kill_after_usec = options->kill_after_usec;
        if (task->kill_after_usec == CTX_KILL_AFTER_DEFAULT)
                task->kill_after_usec = options->signal ? LOCAL_KILL_AFTER_USEC : UINT64_MAX;
        return task;
}

/* Decides who ends the task: the daemon, this library, or both, each for its own part. */
static int bind_task(struct ctx_task *task, const struct ctx_spawn_options *options)
{
        int r = 0;

        if (task->shared)
                r = task->shared->ops->attach(
                                task->shared, task->pidfd, options->signal, options->kill_after_usec);
        if (r < 0)
                return r == -EALREADY && ctx_err(task->ctx) != 0 ? ctx_err(task->ctx) : r;
        if ((task->shared && task->ctx->source == &task->shared->wide.ctx) ||
                        ctx_never_done(task->ctx->source) ||
                        (task->signal == 0 && task->kill_after_usec == UINT64_MAX))
                return 0;
        task->on_done = after_new(task->ctx, end_task, task, true);
        return task->on_done ? 0 : -errno;
}

/* The result of exec: 0, or -errno. */
static int read_report(int fd)
{
        int error = 0;
        ssize_t n;

        while ((n = read(fd, &error, sizeof error)) < 0 && errno == EINTR)
                ;
        return n == sizeof error ? -error : 0;
}

static int start_child(struct ctx_task *task, struct spawn_start *start)
{
        int r;

        r = spawn_fork(start, &task->pid);
        if (r < 0)
                return r;
        task->pidfd = (int) syscall(SYS_pidfd_open, task->pid, 0);
        r = task->pidfd < 0 ? -errno : bind_task(task, start->options);
        if (r >= 0 && write(start->gate, "g", 1) < 0 && errno != EPIPE)
                r = -errno;
        close(start->gate); /* if the byte was not written, the child exits */
        if (r >= 0)
                r = read_report(start->report);
        close(start->report);
        if (r < 0)
                while (waitpid(task->pid, NULL, 0) < 0 && errno == EINTR)
                        ;
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
        task = task_new(ctx, &o);
        if (!task)
                return NULL;
        r = spawn(task, argv, &o);
        if (r < 0) {
                task_free(task);
                errno = -r;
                return NULL;
        }
        return task;
}

static int status_of(const siginfo_t *info)
{
        switch (info->si_code) {
        case CLD_EXITED:
                return (info->si_status & 0xff) << 8;
        case CLD_DUMPED:
                return info->si_status | 0x80;
        default:
                return info->si_status;
        }
}

/* Several threads may wait. They sleep without reaping the child, and then one of them reaps it. */
static int reap(struct ctx_task *task)
{
        siginfo_t info = {};
        int r = 0;

        while (waitid(P_PIDFD, (id_t) task->pidfd, &info, WEXITED | WNOWAIT) < 0)
                if (errno != EINTR)
                        break; /* another thread has reaped it, or the program has */
        lock_acquire(&task->lock);
        if (!task->reaped) {
                while ((r = waitid(P_PIDFD, (id_t) task->pidfd, &info, WEXITED)) < 0 && errno == EINTR)
                        ;
                if (r < 0) {
                        r = -errno;
                } else {
                        task->status = status_of(&info);
                        task->reaped = true;
                }
        }
        lock_release(&task->lock);
        return r;
}

int ctx_task_wait(struct ctx_task *task, int *ret_status)
{
        bool reaped;
        int r;

        if (!task)
                return -EINVAL;
        lock_acquire(&task->lock);
        reaped = task->reaped;
        lock_release(&task->lock);
        if (!reaped) {
                r = reap(task);
                if (r < 0)
                        return r;
        }
        if (ret_status)
                *ret_status = task->status;
        return 0;
}

int ctx_task_pidfd(struct ctx_task *task)
{
        return task ? task->pidfd : -EINVAL;
}

struct ctx_task *ctx_task_unref(struct ctx_task *task)
{
        return task ? task_free(task) : NULL;
}
