/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <execinfo.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/blocking/poll.h"
#include "lib/local/thread.h"

/* Waiting for a child process and for a file lock. */

#define TRACED_AGAIN_USEC 10000

int poll_process(struct ctx *ctx, int pidfd)
{
        siginfo_t info = {};
        int r = poll_one_fd(ctx, pidfd, POLLIN);

        if (r < 0 || waitid(P_PIDFD, (id_t) pidfd, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
                return r;
        return info.si_pid != 0 ? 0 : ctx_wait(ctx, TRACED_AGAIN_USEC);
}

static void close_it(void *fd)
{
        close(*(int *) fd);
}

/* waitpid() without waiting is the only call that reaps. If it does, that is the result. */
static pid_t wait_for_child(struct ctx *ctx, pid_t pid, int pidfd, int *ret_status)
{
        pid_t p = 0;
        int r;

        for (;;) {
                {
                        THREAD_STAYS;
                        p = waitpid(pid, ret_status, WNOHANG);
                }
                if (p != 0)
                        return p < 0 ? -errno : p;
                r = poll_process(ctx, pidfd);
                if (r < 0)
                        return r;
        }
}

pid_t ctx_waitpid(struct ctx *ctx, pid_t pid, int *ret_status)
{
        int fd, status;
        pid_t p;

        if (!ctx || pid <= 0)
                return -EINVAL;
        p = state_to_errno(ctx_state(ctx->source));
        if (p < 0)
                return p;
        fd = (int) syscall(SYS_pidfd_open, pid, 0);
        if (fd < 0)
                return errno == ESRCH ? -ECHILD : -errno;
        pthread_cleanup_push(close_it, &fd);
        p = wait_for_child(ctx, pid, fd, &status);
        pthread_cleanup_pop(1);
        if (p > 0 && ret_status)
                *ret_status = status;
        return p;
}

/* Only a signal ends flock(), and a lock belongs to the open file. So another thread waits in flock(), and is
 * cancelled when the context is done. It ends with the process, has nothing that the process has not, and
 * blocks all signals but the one of the C library that cancels it. That is needed only if somebody else holds
 * the lock. */

struct lock_wait {
        int fd, operation;
        int ended; /* an eventfd */
        _Atomic bool is_over;
        int result;
};

static void *wait_for_lock(void *userdata)
{
        struct lock_wait *wait = userdata;
        int r;

        /* Nothing is held between these two. */
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
        pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
        r = flock(wait->fd, wait->operation) < 0 ? -errno : 0;
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);

        wait->result = r;
        atomic_store(&wait->is_over, true);
        eventfd_write(wait->ended, 1);
        return NULL;
}

/* The C library aborts if it cannot load what unwinds the stack of a cancelled thread. This loads it. */
static bool can_cancel(void)
{
        void *frame;

        return backtrace(&frame, 1) > 0;
}

static int flock_in_thread(struct ctx *ctx, int fd, int operation)
{
        struct lock_wait wait = {.fd = fd, .operation = operation};
        pthread_t thread;
        int r;

        if (!can_cancel())
                return -ENOMEM;
        wait.ended = eventfd(0, EFD_CLOEXEC);
        if (wait.ended < 0)
                return -errno;
        r = thread_start(wait_for_lock, &wait, "ctx-flock", &thread);
        if (r < 0) {
                close(wait.ended);
                return r;
        }
        do
                r = poll_one_fd(ctx, wait.ended, POLLIN);
        while (r == -EINTR);
        if (r < 0)
                pthread_cancel(thread);
        pthread_join(thread, NULL);
        close(wait.ended);

        if (atomic_load(&wait.is_over))
                return wait.result;
        /* It may have got the lock without being able to say so. */
        flock(fd, LOCK_UN);
        return r;
}

int ctx_flock(struct ctx *ctx, int fd, int operation)
{
        int r;

        if (!ctx)
                return -EINVAL;
        r = state_to_errno(ctx_state(ctx->source));
        if (r < 0)
                return r;
        r = flock(fd, operation | LOCK_NB) < 0 ? -errno : 0;
        if (r != -EWOULDBLOCK || operation & LOCK_NB)
                return r;
        THREAD_STAYS;
        return flock_in_thread(ctx, fd, operation);
}
