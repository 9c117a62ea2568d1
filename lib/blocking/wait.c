/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>

#include "lib/blocking/poll.h"
#include "lib/local/shared.h"

/* Waits for a context and nothing else. That needs no descriptor: a thread sleeps on the context's word. Only
 * the end of a shared context is announced by a descriptor. So under one, a thread polls that descriptor and
 * the local one. */

static uint64_t until(uint64_t end_usec, uint64_t deadline_usec)
{
        uint64_t now;

        if (deadline_usec < end_usec)
                end_usec = deadline_usec;
        if (end_usec == CTX_NEVER)
                return CTX_NEVER;
        now = now_boottime_usec();
        return end_usec > now ? end_usec - now : 0;
}

static int wait_shared(struct ctx *source, uint64_t end_usec)
{
        for (;;) {
                uint32_t state = ctx_state(source);
                struct pollfd fds[POLL_DONE_FDS];
                uint64_t left, look_usec;
                struct timespec ts;
                int n;

                if (state)
                        return state_to_errno(state);
                n = poll_done_fds(source, fds, &look_usec);
                if (n < 0)
                        return n;
                left = until(end_usec, ctx_deadline_usec(source));
                if (left == 0 && end_usec <= now_boottime_usec())
                        return 0;
                if (left > FUTEX_WAIT_MAX_USEC && left != CTX_NEVER)
                        left = FUTEX_WAIT_MAX_USEC;
                if (look_usec < left)
                        left = look_usec;
                ts = timespec_of_usec(left);
                if (ppoll(fds, (nfds_t) n, left == CTX_NEVER ? NULL : &ts, NULL) < 0 && errno != EINTR)
                        return -errno;
        }
}

int ctx_wait(struct ctx *ctx, uint64_t timeout_usec)
{
        uint64_t end_usec = deadline_after(timeout_usec);
        struct ctx_shared *shared;
        struct ctx *source;
        uint32_t state, word;

        if (!ctx)
                return -EINVAL;
        source = ctx->source;
        state = ctx_state(source);
        if (state || timeout_usec == 0)
                return state_to_errno(state);
        if (ctx_never_done(source) && end_usec == CTX_NEVER)
                return -EDEADLK;

        shared = ctx_shared_done(source);
        if (shared)
                return wait_shared(source, end_usec);
        for (;;) {
                uint64_t left;

                word = ctx_announce_wait(source);
                state = ctx_state(source);
                if (state)
                        return state_to_errno(state);
                left = until(end_usec, CTX_NEVER);
                if (left == 0)
                        return 0;
                if (word)
                        futex_wait_for(&source->nest.word, word, until(end_usec, source->deadline_usec));
        }
}
