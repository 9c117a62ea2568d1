/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "lib/blocking/poll.h"
#include "lib/local/shared.h"

/* poll(2) that also ends when a context is done. Beside the caller's descriptors it polls the descriptor of
 * the context; that of the nearest shared ancestor; and one that hangs up when the daemon is gone, since a
 * daemon that is gone does not make the second one readable. So no thread has to pass on the end of the
 * shared ancestor. */

#define ASK_AGAIN_USEC 50000

int poll_done_fds(struct ctx *ctx, struct pollfd fds[POLL_DONE_FDS], uint64_t *ret_usec)
{
        struct ctx_shared *shared = ctx_shared_done(ctx);
        struct ctx *source = ctx->source;
        bool is_kept = true;
        int n = 0, fd = -1;

        *ret_usec = CTX_NEVER;
        if (ctx_never_done(source))
                return 0;
        if (shared && shared->ops->before_sleep) {
                is_kept = shared->ops->before_sleep(shared, &fd, ret_usec);
                if (fd >= 0)
                        fds[n++] = (struct pollfd){.fd = fd};
        }
        if (shared && is_kept) {
                fd = shared->ops->done_fd(shared);
                if (fd >= 0)
                        fds[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
                else if (!shared->ops->has_no_daemon || !shared->ops->has_no_daemon(shared))
                        return fd;
                else if (*ret_usec > ASK_AGAIN_USEC)
                        *ret_usec = ASK_AGAIN_USEC;
        }
        if (!shared || &shared->wide.ctx != source) {
                fd = ctx_local_done_fd(source);
                if (fd < 0)
                        return fd;
                fds[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
        }
        return n;
}

#define FDS_ON_STACK 16

static uint64_t time_left(uint64_t until_usec)
{
        uint64_t now;

        if (until_usec == CTX_NEVER)
                return CTX_NEVER;
        now = now_monotonic_usec();
        return until_usec > now ? until_usec - now : 0;
}

/* Polls all, an array with room for POLL_DONE_FDS more. Returns how many of the caller's descriptors are
 * ready. */
static int poll_once(struct ctx *ctx, struct pollfd *all, nfds_t n_fds, uint64_t left_usec, bool *ret_again)
{
        uint64_t look_usec;
        struct timespec ts;
        int n_done, r, n = 0;

        n_done = poll_done_fds(ctx, all + n_fds, &look_usec);
        if (n_done < 0)
                return n_done;
        *ret_again = look_usec < left_usec;
        if (*ret_again)
                left_usec = look_usec;
        ts = timespec_of_usec(left_usec == CTX_NEVER ? 0 : left_usec);
        r = ppoll(all, n_fds + (nfds_t) n_done, left_usec == CTX_NEVER ? NULL : &ts, NULL);
        if (r < 0)
                return -errno;
        for (nfds_t i = 0; i < n_fds; i++)
                n += all[i].revents != 0;
        /* None of the caller's, and not the time: it is the context or the daemon. */
        if (n == 0 && r > 0)
                *ret_again = true;
        return n;
}

int ctx_poll(struct ctx *ctx, struct pollfd *fds, nfds_t n_fds, uint64_t timeout_usec)
{
        struct pollfd on_stack[FDS_ON_STACK + POLL_DONE_FDS], *all = on_stack;
        uint64_t now = now_monotonic_usec(), until;
        bool again;
        int n;

        if (!ctx || (n_fds > 0 && !fds) || n_fds > INT32_MAX / sizeof(struct pollfd))
                return -EINVAL;
        until = timeout_usec > CTX_NEVER - now ? CTX_NEVER : now + timeout_usec;
        if (n_fds > FDS_ON_STACK) {
                all = malloc((n_fds + POLL_DONE_FDS) * sizeof(struct pollfd));
                if (!all)
                        return -ENOMEM;
        }
        if (n_fds > 0)
                memcpy(all, fds, n_fds * sizeof(struct pollfd));
        do {
                uint32_t state = ctx_state(ctx->source);

                again = false;
                n = state ? state_to_errno(state) : poll_once(ctx, all, n_fds, time_left(until), &again);
        } while (n == 0 && again);
        if (n == 0)
                n = state_to_errno(ctx_state(ctx->source));
        for (nfds_t i = 0; n >= 0 && i < n_fds; i++)
                fds[i].revents = all[i].revents;
        if (all != on_stack)
                free(all);
        return n;
}

int ctx_sleep(struct ctx *ctx, uint64_t usec)
{
        return ctx_wait(ctx, usec);
}
