/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "lib/io.h"

/* poll(2) with a context beside the descriptors: its own descriptor, and that of the nearest shared ancestor,
 * so that nobody has to carry the news from one to the other. */

int io_done_fds(struct ctx *ctx, struct pollfd fds[2])
{
        struct ctx_shared *shared = ctx_shared_done(ctx);
        struct ctx *source = ctx->source;
        int n = 0, fd;

        if (ctx_never_done(source))
                return 0;
        if (shared) {
                fd = shared->ops->done_fd(shared);
                if (fd < 0)
                        return fd;
                fds[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
        }
        if (!shared || &shared->wide.ctx != source) {
                fd = local_done_fd(source);
                if (fd < 0)
                        return fd;
                fds[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
        }
        return n;
}

#define FDS_ON_STACK 16

int ctx_poll(struct ctx *ctx, struct pollfd *fds, nfds_t n_fds, uint64_t timeout_usec)
{
        struct pollfd on_stack[FDS_ON_STACK + 2], done[2], *all = on_stack;
        struct timespec ts;
        uint32_t state;
        int n_done, n, r;

        if (!ctx || (n_fds > 0 && !fds) || n_fds > INT32_MAX / sizeof(struct pollfd))
                return -EINVAL;
        state = ctx_state(ctx->source);
        if (state)
                return state_to_errno(state);
        n_done = io_done_fds(ctx, done);
        if (n_done < 0)
                return n_done;

        if (n_fds > FDS_ON_STACK) {
                all = malloc((n_fds + 2) * sizeof(struct pollfd));
                if (!all)
                        return -ENOMEM;
        }
        if (n_fds > 0)
                memcpy(all, fds, n_fds * sizeof(struct pollfd));
        memcpy(all + n_fds, done, (size_t) n_done * sizeof(struct pollfd));
        if (timeout_usec != CTX_NEVER)
                ts = (struct timespec){
                                .tv_sec = (time_t) (timeout_usec / 1000000),
                                .tv_nsec = (long) (timeout_usec % 1000000) * 1000,
                };
        r = ppoll(all, n_fds + (nfds_t) n_done, timeout_usec == CTX_NEVER ? NULL : &ts, NULL);
        r = r < 0 ? -errno : 0;

        n = 0;
        for (nfds_t i = 0; r == 0 && i < n_fds; i++) {
                fds[i].revents = all[i].revents;
                n += all[i].revents != 0;
        }
        if (r == 0 && n == 0)
                r = state_to_errno(ctx_state(ctx->source));
        if (all != on_stack)
                free(all);
        return r < 0 ? r : n;
}

int ctx_sleep(struct ctx *ctx, uint64_t usec)
{
        return ctx_wait(ctx, usec);
}
