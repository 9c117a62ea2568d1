/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/blocking/poll.h"

/* Waiting for a child process and for a file lock. */

pid_t ctx_waitpid(struct ctx *ctx, pid_t pid, int *ret_status)
{
        int fd, status, r;
        pid_t p;

        if (!ctx || pid <= 0)
                return -EINVAL;
        r = state_to_errno(ctx_state(ctx->source));
        if (r < 0)
                return r;
        fd = (int) syscall(SYS_pidfd_open, pid, 0);
        if (fd < 0)
                return errno == ESRCH ? -ECHILD : -errno;
        for (;;) {
                /* waitpid() without waiting is the only call that reaps. If it does, that is the result. */
                p = waitpid(pid, &status, WNOHANG);
                if (p != 0)
                        break;
                r = poll_one_fd(ctx, fd, POLLIN);
                if (r < 0)
                        break;
        }
        if (p < 0)
                r = -errno;
        close(fd);
        if (p <= 0)
                return r;
        if (ret_status)
                *ret_status = status;
        return p;
}

/* Only a signal ends flock(), and a lock belongs to the open file. So a task waits in flock(): it shares
 * memory and descriptors with this process, makes system calls only, and is killed when the context is done.
 * That is needed only if somebody else holds the lock. */

#define STACK_SIZE 16384

/* ThreadSanitizer does not know tasks that share memory and are not threads. */
#ifdef __SANITIZE_THREAD__
#define TASK_FLAGS (CLONE_FILES | CLONE_PIDFD)
#else
#define TASK_FLAGS (CLONE_VM | CLONE_FILES | CLONE_PIDFD)
#endif

struct lock_wait {
        int fd, operation;
};

static int wait_for_lock(void *userdata)
{
        const struct lock_wait *wait = userdata;
        int saved = errno; /* the task shares errno with the caller */
        int result = syscall(SYS_flock, wait->fd, wait->operation) < 0 ? errno : 0;

        errno = saved;
        syscall(SYS_exit, result);
        return 0;
}

static int flock_in_task(struct ctx *ctx, int fd, int operation)
{
        struct lock_wait wait = {.fd = fd, .operation = operation};
        siginfo_t info = {};
        int pidfd, pid, r;
        char *stack;

        stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1,
                        0);
        if (stack == MAP_FAILED)
                return -errno;
        /* It sends no signal when it ends, so the program's own wait() does not see it. */
        pid = clone(wait_for_lock, stack + STACK_SIZE, TASK_FLAGS, &wait, &pidfd);
        if (pid < 0) {
                r = -errno;
                munmap(stack, STACK_SIZE);
                return r;
        }
        do
                r = poll_one_fd(ctx, pidfd, POLLIN);
        while (r == -EINTR);
        if (r < 0)
                syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
        while (waitid(P_PIDFD, (id_t) pidfd, &info, WEXITED | __WALL) < 0 && errno == EINTR)
                ;
        close(pidfd);
        munmap(stack, STACK_SIZE);

        if (info.si_code == CLD_EXITED)
                return -info.si_status;
        /* It was killed, and may have got the lock without being able to say so. */
        flock(fd, LOCK_UN);
        return r < 0 ? r : -EINTR;
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
        return flock_in_task(ctx, fd, operation);
}
