/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/blocking/poll.h"
#include "lib/blocking/task.h"
#include "lib/local/after.h"
#include "lib/local/fork.h"
#include "lib/local/callback-thread.h"
#include "lib/local/patience.h"
#include "lib/local/shared.h"
#include "lib/local/thread.h"

#define LOCAL_KILL_AFTER_USEC UINT64_C(10000000) /* as the default of ctxd's KillAfterSec= */

#ifndef PIDFD_SIGNAL_PROCESS_GROUP
#define PIDFD_SIGNAL_PROCESS_GROUP (1U << 2) /* Linux 6.9 */
#endif

/* 0 or a negative errno, as all of these. */
static int signal_pidfd(int pidfd, int signal, unsigned flags)
{
        return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, flags) < 0 ? -errno : 0;
}

/* The process may have ended, but nobody has reaped it: its pid is still its own. */
static bool has_pid(const struct ctx_task *task)
{
        siginfo_t info;

        return !task->reaped && waitid(P_PIDFD, (id_t) task->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* To a process, or to the group -number: by the pidfd, or by number where that is refused. A filter may
 * refuse the call, and an older kernel knows no groups. The lock is held, so that nobody reaps it here
 * meanwhile. */
static int signal_by_any(struct ctx_task *task, pid_t number, int signal)
{
        int r = signal_pidfd(task->pidfd, signal, number < 0 ? PIDFD_SIGNAL_PROCESS_GROUP : 0);

        if (r < 0 && r != -ESRCH && has_pid(task))
                r = kill(number, signal) < 0 ? -errno : 0;
        return r;
}

static int signal_task(struct ctx_task *task, int signal)
{
        int r = task->is_tree ? -ESRCH : signal_pidfd(task->pidfd, signal, 0);

        if (r == 0 || (r == -ESRCH && !task->is_tree))
                return r;
        lock_acquire(&task->lock);
        r = task->is_tree ? signal_by_any(task, -task->pid, signal) : r;
        /* A child that was let through a moment ago has no group yet. */
        if (r < 0)
                r = signal_by_any(task, task->pid, signal);
        lock_release(&task->lock);
        return r;
}

static struct ctx_task *of_timer(struct ctx_timer *timer)
{
        return (struct ctx_task *) ((char *) timer - offsetof(struct ctx_task, overtime));
}

/* Under the lock of the timers, where ctx_task_unref() takes it away. */
static uint64_t hold_task(struct ctx_timer *timer, uint64_t now_usec)
{
        atomic_store(&of_timer(timer)->firing, 1);
        return now_usec;
}

static void kill_task(struct ctx_timer *timer)
{
        struct ctx_task *task = of_timer(timer);

        signal_task(task, SIGKILL);
        /* After this the task may be gone: the wake-up is for an address. */
        atomic_store(&task->firing, 0);
        futex_wake_all(&task->firing);
}

static void end_task(void *userdata)
{
        struct ctx_task *task = userdata;

        if (task->shared && task->shared->ops->seems_done(task->shared))
                return; /* the daemon sends it: a member gets its signal once */
        signal_task(task, task->signal);
        /* One that is stopped, as by its terminal, notices the signal only when it runs on. */
        if (task->signal != 0 && task->signal != SIGSTOP)
                signal_task(task, SIGCONT);
        if (task->kill_after_usec != UINT64_MAX)
                timer_move(&task->overtime, deadline_after(task->kill_after_usec));
}

struct ctx_task *task_new(struct ctx *ctx, const struct ctx_spawn_options *options)
{
        struct ctx_task *task = malloc(sizeof *task);

        if (!task)
                return NULL;
        *task = (struct ctx_task){
                        .pidfd = -1,
                        .shared = ctx_shared_above(ctx->source),
                        .ctx = ctx_ref(ctx),
                        .signal = options->signal,
                        .kill_after_usec = options->kill_after_usec,
                        .is_tree = options->flags & CTX_SPAWN_TREE,
                        .lock = LOCK_INIT(LOCK_TASK),
                        .overtime = {.hold = hold_task, .fire = kill_task},
                        .fork_generation = fork_generation,
        };
        if (task->kill_after_usec == CTX_KILL_AFTER_DEFAULT)
                task->kill_after_usec = options->signal ? LOCAL_KILL_AFTER_USEC : UINT64_MAX;
        return task;
}

/* Decides who ends the task: the daemon, this library, or both, each for its own part. */
int task_bind(struct ctx_task *task, pid_t pid, const struct ctx_spawn_options *options)
{
        uint64_t before;
        int r = 0;

        task->pid = pid;
        task->pidfd = (int) syscall(SYS_pidfd_open, pid, 0);
        if (task->pidfd < 0)
                return -errno;
        before = patience_begin_ctx(task->ctx);
        if (task->shared)
                r = task->shared->ops->attach(
                                task->shared, task->pidfd, options->signal, options->kill_after_usec);
        patience_end(before);
        if (r < 0)
                return (r == -EALREADY || r == -ETIMEDOUT) && ctx_err(task->ctx) != 0 ? ctx_err(task->ctx)
                                                                                      : r;
        if ((task->shared && task->ctx->source == &task->shared->wide.ctx) ||
                        ctx_never_done(task->ctx->source) ||
                        (task->signal == 0 && task->kill_after_usec == UINT64_MAX))
                return 0;
        if (task->kill_after_usec != UINT64_MAX) {
                r = service_thread_start();
                if (r == 0)
                        r = timer_arm(&task->overtime, CTX_NEVER);
                if (r < 0)
                        return r;
        }
        task->on_done = after_new(task->ctx, end_task, task, true);
        return task->on_done ? 0 : -errno;
}

void task_discard(pid_t pid)
{
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
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

/* -EAGAIN: it has not ended. That is also what a parent sees while somebody else traces the process. */
static int look(struct ctx_task *task, siginfo_t *info, int options)
{
        info->si_pid = 0;
        if (waitid(P_PIDFD, (id_t) task->pidfd, info, WEXITED | WNOHANG | options) < 0)
                return -errno;
        return info->si_pid == 0 ? -EAGAIN : 0;
}

/* Several threads may have seen that the process has ended, and one of them reaps it. */
static int reap(struct ctx_task *task, int *ret_status)
{
        siginfo_t info;
        int r = 0;

        THREAD_STAYS;
        lock_acquire(&task->lock);
        if (!task->reaped) {
                r = look(task, &info, task->is_tree ? WNOWAIT : 0);
                if (r == 0 && task->is_tree) {
                        signal_by_any(task, -task->pid, SIGKILL);
                        r = look(task, &info, 0);
                }
                if (r == 0) {
                        task->status = status_of(&info);
                        task->reaped = true;
                }
        }
        lock_release(&task->lock);
        if (r == 0 && ret_status)
                *ret_status = task->status;
        return r;
}

static bool is_reaped(struct ctx_task *task)
{
        bool reaped;

        lock_acquire(&task->lock);
        reaped = task->reaped;
        lock_release(&task->lock);
        return reaped;
}

int ctx_task_wait(struct ctx_task *task, int *ret_status)
{
        siginfo_t info;
        int r;

        if (!task)
                return -EINVAL;
        /* It sleeps without the lock, and does not reap. Where that fails, somebody has reaped it. */
        while ((r = reap(task, ret_status)) == -EAGAIN)
                waitid(P_PIDFD, (id_t) task->pidfd, &info, WEXITED | WNOWAIT);
        return r;
}

int ctx_task_wait_for(struct ctx *ctx, struct ctx_task *task, int *ret_status)
{
        int r;

        if (!ctx || !task)
                return -EINVAL;
        r = ctx_err(ctx);
        while (r == 0) {
                r = reap(task, ret_status);
                if (r != -EAGAIN)
                        break;
                r = poll_process(ctx, task->pidfd);
        }
        return r;
}

pid_t ctx_task_pid(struct ctx_task *task)
{
        return task ? task->pid : -EINVAL;
}

int ctx_task_pidfd(struct ctx_task *task)
{
        return task ? task->pidfd : -EINVAL;
}

int ctx_task_kill(struct ctx_task *task, int signal)
{
        if (!task)
                return -EINVAL;
        if (is_reaped(task))
                return -ESRCH;
        return signal_task(task, signal);
}

struct ctx_task *ctx_task_unref(struct ctx_task *task)
{
        if (!task)
                return NULL;
        THREAD_STAYS;
        if (task->on_done)
                ctx_after_stop_wait(task->on_done);
        ctx_after_unref(task->on_done);
        timer_disarm(&task->overtime);
        /* After a fork, the thread that fires is the parent's. */
        while (task->fork_generation == fork_generation && atomic_load(&task->firing))
                futex_wait(&task->firing, 1);
        if (task->pidfd >= 0)
                close(task->pidfd);
        ctx_unref(task->ctx);
        free(task);
        return NULL;
}
