/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "lib/local/patience.h"
#include "lib/local/thread.h"
#include "lib/remote/context.h"

/* Waiting until no process is a member of a context any more; and lifelines. */

/* How often to ask again while waiting: a daemon that is gone does not write to the handle. */
#define ASK_AGAIN_USEC 5000000
#define NO_DAEMON_USEC 250000

static int ask_in_time(struct remote_context *remote, const char *member)
{
        uint64_t before = patience_begin_ctx(&remote->shared.wide.ctx);
        int r = remote_context_ask_fd(remote, member);

        patience_end(before);
        return r;
}

int ctx_lifeline_fd(struct ctx *ctx)
{
        THREAD_STAYS;
        struct remote_context *remote;
        int r = remote_context_writable(ctx, &remote);

        return r < 0 ? r : ask_in_time(remote, "Lifeline");
}

int ctx_drained_fd(struct ctx *ctx)
{
        THREAD_STAYS;
        struct remote_context *remote = remote_context_of(ctx);
        int fd, none = -1, r;

        if (!remote)
                return -EINVAL;
        fd = atomic_load_explicit(&remote->drained_fd, memory_order_acquire);
        if (fd >= 0)
                return fd;
        r = watch_daemon(remote);
        if (r < 0)
                return r;
        fd = ask_in_time(remote, "Drained");
        if (fd < 0)
                return fd;
        /* Another thread may have been faster, and have given its descriptor to the program already. */
        if (atomic_compare_exchange_strong(&remote->drained_fd, &none, fd))
                return fd;
        close(fd);
        return none;
}

static void close_fd(const int *fd)
{
        THREAD_STAYS;

        if (*fd >= 0)
                close(*fd);
}

/* 1: readable; 0: the time is up; or a negative errno. The thread may be cancelled (pthread_cancel) here. */
static int poll_until(int fd, uint64_t until_usec)
{
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};

        for (;;) {
                uint64_t now = now_boottime_usec(), left = until_usec > now ? until_usec - now : 0;
                struct timespec timeout = timespec_of_usec(left);
                int r = ppoll(&pollfd, 1, &timeout, NULL);

                if (r < 0 && errno != EINTR)
                        return -errno;
                if (r > 0)
                        return 1;
                if (r == 0 && now_boottime_usec() >= until_usec)
                        return 0;
        }
}

/* The daemon could not be asked. Returns true if it may come back. */
static bool is_away(struct remote_context *remote, int r, uint64_t *since_usec)
{
        uint64_t now = now_monotonic_usec();

        if (r == -ENOENT || r == -ECHILD || r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -EDQUOT ||
                        remote_context_is_lost(remote))
                return false;
        if (*since_usec == 0)
                *since_usec = now;
        return now - *since_usec < CTX_DAEMON_GRACE_USEC;
}

static int ask_until(struct remote_context *remote, uint64_t until_usec)
{
        THREAD_STAYS;
        uint64_t before = patience_begin(until_usec);
        int r = remote_context_ask_fd(remote, "Drained");

        patience_end(before);
        return r;
}

/* ask_usec: until when to wait for the daemon's answer, if that is after until_usec. */
static int wait_drained(struct remote_context *remote, uint64_t until_usec, uint64_t ask_usec)
{
        __attribute__((cleanup(close_fd))) int fd = -1;
        uint64_t away_since_usec = 0;
        int r;

        for (;;) {
                int next = ask_until(remote, ask_usec > until_usec ? ask_usec : until_usec);
                uint64_t now = now_boottime_usec(), again;

                if (next >= 0) {
                        close_fd(&fd);
                        fd = next;
                        away_since_usec = 0;
                        again = now + ASK_AGAIN_USEC;
                } else if (is_away(remote, next, &away_since_usec)) {
                        again = now + NO_DAEMON_USEC;
                } else {
                        /* The daemon forgets a context when no member is left, and not before. But if it has
                         * not written to the handle that we have, the context was lost. */
                        return next == -ENOENT && !remote_context_is_lost(remote) &&
                                                               (fd < 0 || poll_until(fd, 0) == 1)
                                               ? 0
                                               : next;
                }
                r = poll_until(fd, again < until_usec ? again : until_usec);
                if (r == 0 && now_boottime_usec() < until_usec)
                        continue;
                return r == 0 ? -ETIMEDOUT : r < 0 ? r : 0;
        }
}

int ctx_cancel_wait(struct ctx *ctx, uint64_t timeout_usec)
{
        uint64_t now = now_boottime_usec(), until, before;
        const struct verdict *verdict;
        struct remote_context *remote;
        int first, r;

        until = timeout_usec > UINT64_MAX - now ? UINT64_MAX : now + timeout_usec;
        r = remote_context_writable(ctx, &remote);
        if (r < 0)
                return r;
        before = patience_begin(timeout_usec > ANSWER_MOMENT_USEC ? until : now + ANSWER_MOMENT_USEC);
        first = remote_context_cancel_soon(remote);
        patience_end(before);
        if (first < 0)
                return first;
        /* A daemon that has answered just now answers this as well, if it is given a moment. */
        verdict = remote_context_known_verdict(remote);
        now = now_boottime_usec() + (verdict && verdict->is_ours ? 0 : ANSWER_MOMENT_USEC);
        r = wait_drained(remote, until, now);
        return r < 0 ? r : first;
}
