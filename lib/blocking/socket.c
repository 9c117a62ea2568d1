/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "lib/blocking/poll.h"
#include "lib/local/after.h"
#include "lib/local/thread.h"

/* Accept and connect that end when a context is done; and a way out for code that blocks in a socket and does
 * not poll. */

int ctx_accept4(struct ctx *ctx, int fd, struct sockaddr *address, socklen_t *size, int flags)
{
        socklen_t room = size ? *size : 0;
        int flags_now, r;

        if (!ctx)
                return -EINVAL;
        flags_now = fcntl(fd, F_GETFL);
        if (flags_now < 0)
                return -errno;
        for (;;) {
                uint32_t state = ctx_state(ctx->source);

                if (state)
                        return state_to_errno(state);
                /* A blocking descriptor is asked only after poll has seen a connection. */
                if (!(flags_now & O_NONBLOCK)) {
                        r = poll_one_fd(ctx, fd, POLLIN);
                        if (r < 0)
                                return r;
                }
                if (size)
                        *size = room;
                r = accept4(fd, address, size, flags);
                if (r >= 0)
                        return r;
                if (errno != EAGAIN)
                        return -errno;
                r = poll_one_fd(ctx, fd, POLLIN);
                if (r < 0)
                        return r;
        }
}

int ctx_accept(struct ctx *ctx, int fd, struct sockaddr *address, socklen_t *size)
{
        return ctx_accept4(ctx, fd, address, size, 0);
}

/* Does not wait, whatever the mode of the descriptor is. */
static int start_connect(int fd, const struct sockaddr *address, socklen_t size)
{
        THREAD_STAYS;
        int flags = fcntl(fd, F_GETFL), r;

        if (flags < 0)
                return -errno;
        if (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return -errno;
        r = connect(fd, address, size) < 0 ? -errno : 0;
        if (!(flags & O_NONBLOCK))
                fcntl(fd, F_SETFL, flags);
        return r;
}

#define UNIX_RETRY_MAX_USEC 50000

int ctx_connect(struct ctx *ctx, int fd, const struct sockaddr *address, socklen_t size)
{
        uint64_t pause = 1000;
        socklen_t length = sizeof(int);
        int r, error = 0;

        if (!ctx || !address)
                return -EINVAL;
        r = state_to_errno(ctx_state(ctx->source));
        if (r < 0)
                return r;
        /* The queue of a listening Unix socket may be full. poll does not say when there is room again. */
        while ((r = start_connect(fd, address, size)) == -EAGAIN) {
                r = ctx_wait(ctx, pause);
                if (r < 0)
                        return r;
                pause = pause * 2 < UNIX_RETRY_MAX_USEC ? pause * 2 : UNIX_RETRY_MAX_USEC;
        }
        if (r != -EINPROGRESS && r != -EALREADY)
                return r;
        do
                r = poll_one_fd(ctx, fd, POLLOUT);
        while (r == -EINTR);
        if (r < 0)
                return r;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
                return -errno;
        return -error;
}

static void shut_down(void *userdata)
{
        shutdown((int) (intptr_t) userdata, SHUT_RDWR);
}

struct ctx_after *ctx_shutdown_on_cancel(struct ctx *ctx, int fd)
{
        if (fd < 0) {
                errno = EBADF;
                return NULL;
        }
        return after_new(ctx, shut_down, (void *) (intptr_t) fd, true);
}
