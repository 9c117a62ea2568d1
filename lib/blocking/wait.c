/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <pthread.h>

#include "lib/blocking/poll.h"
#include "lib/local/patience.h"
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

static int sleep_shared(struct ctx *source, struct poll_done *done, uint64_t end_usec)
{
        uint64_t left = until(end_usec, ctx_deadline_usec(source));
        struct timespec ts;

        if (left > FUTEX_WAIT_MAX_USEC && left != CTX_NEVER)
                left = FUTEX_WAIT_MAX_USEC;
        if (done->usec < left)
                left = done->usec;
        ts = timespec_of_usec(left);
        if (ppoll(done->fds, (nfds_t) done->n, left == CTX_NEVER ? NULL : &ts, NULL) < 0 && errno != EINTR)
                return -errno;
        return 0;
}

static int wait_until(struct ctx *source, uint64_t end_usec)
{
        uint32_t state;

        while (!(state = ctx_state(source))) {
                struct poll_done done;
                int r;

                if (end_usec <= now_boottime_usec())
                        return 0;
                r = poll_done_begin(&done, source);
                if (r < 0)
                        return r;
                pthread_cleanup_push(poll_done_end, &done);
                r = ctx_state(source) ? 0 : sleep_shared(source, &done, end_usec);
                pthread_cleanup_pop(1);
                if (r < 0)
                        return r;
        }
        return state_to_errno(state);
}

static int wait_shared(struct ctx *source, uint64_t end_usec)
{
        uint64_t before = patience_begin(end_usec);
        int r;

        patience_begin_ctx(source);
        r = wait_until(source, end_usec);
        patience_end(before);
        return r;
}

int ctx_wait(struct ctx *ctx, uint64_t timeout_usec)
{
        uint64_t end_usec = deadline_after(timeout_usec);
        struct ctx *source;
        uint32_t state, word;

        if (!ctx)
                return -EINVAL;
        source = ctx->source;
        if (ctx_shared_done(source))
                return wait_shared(source, end_usec);
        state = ctx_state(source);
        if (state || timeout_usec == 0)
                return state_to_errno(state);
        if (ctx_never_done(source) && end_usec == CTX_NEVER)
                return -EDEADLK;

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
                        futex_wait_for(&source->nest.word, word, until(end_usec, ctx_local_deadline(source)));
        }
}
