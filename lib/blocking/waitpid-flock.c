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

/* To wait for a child, and for a file lock. */

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
                /* It is reaped here and nowhere else, and then it is the result. */
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

/* flock() can be ended by a signal only, and a lock belongs to the open file: so a task of its own, which
 * shares memory and descriptors with us, waits in it, and is killed when the context is done. It makes system
 * calls only. Only a lock that is held by somebody else costs that. */

#define STACK_SIZE 16384

/* ThreadSanitizer does not know of tasks that share memory and are no threads. */
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
        int saved = errno; /* the caller's, which we share */
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
        /* No signal at its end, so that it is no child for the program's own wait(). */
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
        /* Killed, perhaps between the lock and the word about it. */
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
