/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/blocking/poll.h"

/* Reads and writes that end when a context is done. Each is first tried without waiting (RWF_NOWAIT or
 * MSG_DONTWAIT), whatever the mode of the descriptor is. If that would block, the descriptor is polled
 * together with the context. The first try that succeeds is the result, even if it did less than was asked
 * for. Nothing is done twice, so no byte is lost.
 *
 * For some files (a terminal, some devices, pipes before Linux 6.4) the kernel cannot try without waiting.
 * These are polled first and then used. That blocks only if another thread or process takes what poll saw. */

int poll_one_fd(struct ctx *ctx, int fd, short events)
{
        int r = poll_and_wait(ctx, &(struct pollfd){.fd = fd, .events = events}, 1, CTX_NEVER);

        return r < 0 ? r : 0;
}

static bool is_regular(int fd)
{
        struct stat st;

        return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || S_ISDIR(st.st_mode));
}

static bool is_ready(int fd, short events)
{
        return poll(&(struct pollfd){.fd = fd, .events = events}, 1, 0) > 0;
}

static ssize_t result(ssize_t n)
{
        return n < 0 ? -errno : n;
}

static ssize_t try_read(int fd, const struct iovec *iov, int n_iov)
{
        struct msghdr message = {.msg_iov = (struct iovec *) (uintptr_t) iov, .msg_iovlen = (size_t) n_iov};
        ssize_t n = result(preadv2(fd, iov, n_iov, -1, RWF_NOWAIT));

        /* The kernel reads from a disk, and a context cannot end that. */
        if (n == -EAGAIN && is_regular(fd))
                return result(readv(fd, iov, n_iov));
        if (n != -EOPNOTSUPP && n != -ENOSYS && n != -ESPIPE)
                return n;
        n = result(recvmsg(fd, &message, MSG_DONTWAIT));
        if (n != -ENOTSOCK)
                return n;
        return is_regular(fd) || is_ready(fd, POLLIN) ? result(readv(fd, iov, n_iov)) : -EAGAIN;
}

/* Once poll says that a pipe is writable, it takes as many bytes as this without blocking. */
static ssize_t write_little(int fd, const struct iovec *iov, int n_iov)
{
        for (int i = 0; i < n_iov; i++)
                if (iov[i].iov_len > 0)
                        return result(write(fd, iov[i].iov_base,
                                        iov[i].iov_len < PIPE_BUF ? iov[i].iov_len : PIPE_BUF));
        return result(writev(fd, iov, n_iov));
}

/* No socket. */
static ssize_t write_file(int fd, const struct iovec *iov, int n_iov)
{
        ssize_t n = result(pwritev2(fd, iov, n_iov, -1, RWF_NOWAIT));

        if (n != -EAGAIN && n != -EOPNOTSUPP && n != -ENOSYS && n != -ESPIPE)
                return n;
        if (is_regular(fd))
                return result(writev(fd, iov, n_iov));
        if (n == -EAGAIN)
                return n;
        return is_ready(fd, POLLOUT) ? write_little(fd, iov, n_iov) : -EAGAIN;
}

/* Without a flag for the kernel: the signal is blocked in this thread meanwhile, and taken away. */
static ssize_t write_file_quietly(int fd, const struct iovec *iov, int n_iov)
{
        const struct timespec now = {};
        sigset_t pipe, before, pending;
        bool was_pending;
        ssize_t n;

        sigemptyset(&pipe);
        sigaddset(&pipe, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &pipe, &before);
        was_pending = sigismember(&before, SIGPIPE) && sigpending(&pending) == 0 &&
                      sigismember(&pending, SIGPIPE);
        n = write_file(fd, iov, n_iov);
        if (n == -EPIPE && !was_pending)
                while (sigtimedwait(&pipe, NULL, &now) < 0 && errno == EINTR)
                        ;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return n;
}

#define RWF_NOSIGNAL_ 0x100 /* RWF_NOSIGNAL of Linux 6.18 */

/* Raises no SIGPIPE. */
static ssize_t try_write(int fd, const struct iovec *iov, int n_iov)
{
        struct msghdr message = {.msg_iov = (struct iovec *) (uintptr_t) iov, .msg_iovlen = (size_t) n_iov};
        ssize_t n = result(pwritev2(fd, iov, n_iov, -1, RWF_NOWAIT | RWF_NOSIGNAL_));

        if (n == -EAGAIN && is_regular(fd))
                return result(writev(fd, iov, n_iov));
        if (n != -EOPNOTSUPP && n != -ENOSYS && n != -ESPIPE)
                return n;
        n = result(sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
        return n == -ENOTSOCK ? write_file_quietly(fd, iov, n_iov) : n;
}

static int check(struct ctx *ctx)
{
        return ctx ? state_to_errno(ctx_state(ctx->source)) : -EINVAL;
}

ssize_t ctx_readv(struct ctx *ctx, int fd, const struct iovec *iov, int n_iov)
{
        ssize_t r = check(ctx);

        while (r >= 0) {
                r = try_read(fd, iov, n_iov);
                if (r != -EAGAIN)
                        return r;
                r = poll_one_fd(ctx, fd, POLLIN);
        }
        return r;
}

ssize_t ctx_writev(struct ctx *ctx, int fd, const struct iovec *iov, int n_iov)
{
        ssize_t r = check(ctx);

        while (r >= 0) {
                r = try_write(fd, iov, n_iov);
                if (r != -EAGAIN)
                        return r;
                r = poll_one_fd(ctx, fd, POLLOUT);
        }
        return r;
}

ssize_t ctx_read(struct ctx *ctx, int fd, void *buffer, size_t size)
{
        return ctx_readv(ctx, fd, &(struct iovec){.iov_base = buffer, .iov_len = size}, 1);
}

ssize_t ctx_write(struct ctx *ctx, int fd, const void *buffer, size_t size)
{
        return ctx_writev(ctx, fd, &(struct iovec){.iov_base = (void *) (uintptr_t) buffer, .iov_len = size},
                        1);
}

ssize_t ctx_recvmsg(struct ctx *ctx, int fd, struct msghdr *message, int flags)
{
        ssize_t r = check(ctx);

        while (r >= 0) {
                r = result(recvmsg(fd, message, flags | MSG_DONTWAIT));
                if (r != -EAGAIN || flags & MSG_DONTWAIT)
                        return r;
                r = poll_one_fd(ctx, fd, POLLIN);
        }
        return r;
}

ssize_t ctx_sendmsg(struct ctx *ctx, int fd, const struct msghdr *message, int flags)
{
        ssize_t r = check(ctx);

        while (r >= 0) {
                r = result(sendmsg(fd, message, flags | MSG_DONTWAIT | MSG_NOSIGNAL));
                if (r != -EAGAIN || flags & MSG_DONTWAIT)
                        return r;
                r = poll_one_fd(ctx, fd, POLLOUT);
        }
        return r;
}

ssize_t ctx_recv(struct ctx *ctx, int fd, void *buffer, size_t size, int flags)
{
        struct iovec iov = {.iov_base = buffer, .iov_len = size};

        return ctx_recvmsg(ctx, fd, &(struct msghdr){.msg_iov = &iov, .msg_iovlen = 1}, flags);
}

ssize_t ctx_send(struct ctx *ctx, int fd, const void *buffer, size_t size, int flags)
{
        struct iovec iov = {.iov_base = (void *) (uintptr_t) buffer, .iov_len = size};

        return ctx_sendmsg(ctx, fd, &(struct msghdr){.msg_iov = &iov, .msg_iovlen = 1}, flags);
}
