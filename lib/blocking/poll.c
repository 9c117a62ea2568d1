/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lib/blocking/poll.h"
#include "lib/local/extend.h"
#include "lib/local/patience.h"
#include "lib/local/poll-fd.h"
#include "lib/local/shared.h"
#include "lib/local/thread.h"

/* poll(2) that also ends when a context is done. Beside the caller's descriptors it polls one that a cancel
 * of the context fills; that of the nearest shared ancestor; and one that tells that the daemon is gone,
 * since a daemon that is gone does not make the second one readable. So no thread has to pass on the end of
 * the shared ancestor. The deadlines limit the time, also the ancestor's: a daemon that is stopped does not
 * say when it has passed (law 40). */

#define ASK_AGAIN_USEC 50000

static void limit(struct poll_done *done, uint64_t usec)
{
        if (usec < done->usec)
                done->usec = usec;
}

static void limit_until(struct poll_done *done, uint64_t deadline_usec)
{
        uint64_t now;

        if (deadline_usec == CTX_NEVER)
                return;
        now = now_boottime_usec();
        limit(done, deadline_usec > now ? deadline_usec - now : 0);
        limit(done, FUTEX_WAIT_MAX_USEC);
}

static int begin_shared(struct poll_done *done, struct ctx_shared *shared)
{
        uint64_t usec = CTX_NEVER;
        bool is_kept = true;
        int fd = -1;

        if (shared->ops->before_sleep) {
                is_kept = shared->ops->before_sleep(shared, &fd, &done->usec);
                if (fd >= 0)
                        done->fds[done->n++] = (struct pollfd){.fd = fd, .events = POLLIN};
        }
        limit_until(done, ctx_shared_deadline(shared));
        if (!is_kept)
                return 0;
        fd = shared->ops->done_fd(shared, &usec);
        if (fd >= 0)
                done->fds[done->n++] = (struct pollfd){.fd = fd, .events = POLLIN};
        else if (fd == -EINPROGRESS)
                limit(done, usec);
        else if (!shared->ops->has_no_daemon || !shared->ops->has_no_daemon(shared))
                return fd;
        else
                limit(done, ASK_AGAIN_USEC);
        return 0;
}

static int begin_local(struct poll_done *done, struct ctx *source)
{
        uint64_t deadline = deadline_settled(source);
        int fd = poll_fd_enter(source);

        if (fd < 0)
                return fd;
        done->local = source;
        done->fork_generation = fork_generation;
        done->fds[done->n++] = (struct pollfd){.fd = fd, .events = POLLIN};
        limit_until(done, deadline);
        return 0;
}

int poll_done_begin(struct poll_done *done, struct ctx *ctx)
{
        THREAD_STAYS;
        struct ctx_shared *shared = ctx_shared_done(ctx);
        struct ctx *source = ctx->source;
        int r = 0;

        done->n = 0;
        done->usec = CTX_NEVER;
        done->local = NULL;
        if (ctx_never_done(source))
                return 0;
        if (shared)
                r = begin_shared(done, shared);
        if (r >= 0 && (!shared || &shared->wide.ctx != source))
                r = begin_local(done, source);
        return r;
}

void poll_done_end(void *userdata)
{
        struct poll_done *done = userdata;

        if (done->local)
                poll_fd_leave(done->local, done->fork_generation);
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
static int poll_all(struct pollfd *all, nfds_t n_fds, const struct poll_done *done, uint64_t left_usec,
                bool *ret_again)
{
        struct timespec ts;
        int r, n = 0;

        memcpy(all + n_fds, done->fds, (size_t) done->n * sizeof(struct pollfd));
        *ret_again = done->usec < left_usec;
        if (*ret_again)
                left_usec = done->usec;
        ts = timespec_of_usec(left_usec == CTX_NEVER ? 0 : left_usec);
        r = ppoll(all, n_fds + (nfds_t) done->n, left_usec == CTX_NEVER ? NULL : &ts, NULL);
        if (r < 0)
                return -errno;
        for (nfds_t i = 0; i < n_fds; i++)
                n += all[i].revents != 0;
        /* None of the caller's, and not the time: it is the context or the daemon. */
        if (n == 0 && r > 0)
                *ret_again = true;
        return n;
}

static int poll_once(struct ctx *ctx, struct pollfd *all, nfds_t n_fds, uint64_t left_usec, bool *ret_again)
{
        struct poll_done done;
        uint32_t state;
        int r = poll_done_begin(&done, ctx);

        if (r < 0)
                return r;
        pthread_cleanup_push(poll_done_end, &done); /* the thread may be cancelled while it waits */
        state = ctx_state(ctx->source);
        r = state ? state_to_errno(state) : poll_all(all, n_fds, &done, left_usec, ret_again);
        pthread_cleanup_pop(1);
        return r;
}

/* The same until something is ready, ctx is done, or it is time. */
static int poll_until(struct ctx *ctx, struct pollfd *all, nfds_t n_fds, uint64_t until_usec)
{
        bool again;
        int n;

        do {
                uint32_t state = ctx_state(ctx->source);

                again = false;
                n = state ? state_to_errno(state) : poll_once(ctx, all, n_fds, time_left(until_usec), &again);
        } while (n == 0 && again);
        return n == 0 ? state_to_errno(ctx_state(ctx->source)) : n;
}

/* The thread may be cancelled while it waits. */
static int poll_many(struct ctx *ctx, struct pollfd *fds, nfds_t n_fds, uint64_t until_usec)
{
        struct pollfd *all = malloc((n_fds + POLL_DONE_FDS) * sizeof(struct pollfd));
        int n;

        if (!all)
                return -ENOMEM;
        pthread_cleanup_push(free, all);
        memcpy(all, fds, n_fds * sizeof(struct pollfd));
        n = poll_until(ctx, all, n_fds, until_usec);
        if (n >= 0)
                memcpy(fds, all, n_fds * sizeof(struct pollfd));
        pthread_cleanup_pop(1);
        return n;
}

static int poll_some(struct ctx *ctx, struct pollfd *fds, nfds_t n_fds, uint64_t until)
{
        struct pollfd all[FDS_ON_STACK + POLL_DONE_FDS];
        int n;

        if (n_fds > FDS_ON_STACK)
                return poll_many(ctx, fds, n_fds, until);
        if (n_fds > 0)
                memcpy(all, fds, n_fds * sizeof(struct pollfd));
        n = poll_until(ctx, all, n_fds, until);
        if (n >= 0 && n_fds > 0)
                memcpy(fds, all, n_fds * sizeof(struct pollfd));
        return n;
}

int poll_and_wait(struct ctx *ctx, struct pollfd *fds, nfds_t n_fds, uint64_t timeout_usec)
{
        uint64_t until = CTX_NEVER, before;
        int r;

        if (timeout_usec != CTX_NEVER && __builtin_add_overflow(now_monotonic_usec(), timeout_usec, &until))
                until = CTX_NEVER;
        if (!ctx_shared_done(ctx))
                return poll_some(ctx, fds, n_fds, until);
        before = patience_begin(until == CTX_NEVER ? CTX_NEVER : deadline_after(timeout_usec));
        patience_begin_ctx(ctx);
        r = poll_some(ctx, fds, n_fds, until);
        patience_end(before);
        return r;
}

int ctx_poll(struct ctx *ctx, struct pollfd *fds, nfds_t n_fds, uint64_t timeout_usec)
{
        uint32_t state;
        int n;

        if (!ctx || (n_fds > 0 && !fds) || n_fds > INT32_MAX / sizeof(struct pollfd))
                return -EINVAL;
        state = ctx_state(ctx->source);
        if (state)
                return state_to_errno(state);
        /* What is ready at once is found without a descriptor for the context, and without a clock. */
        n = n_fds > 0 ? poll(fds, n_fds, 0) : 0;
        if (n != 0)
                return n < 0 ? -errno : n;
        return poll_and_wait(ctx, fds, n_fds, timeout_usec);
}

int ctx_sleep(struct ctx *ctx, uint64_t usec)
{
        return ctx_wait(ctx, usec);
}
