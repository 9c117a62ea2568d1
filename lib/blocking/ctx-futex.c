/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lib/blocking/ctx-futex.h"
#include "lib/local/shared.h"

/* Sleeps until a word changes or a context is done, whichever comes first: futex_waitv(2) waits for both. */

#define NSEC_PER_SEC UINT64_C(1000000000)

static struct timespec monotonic_after(uint64_t usec)
{
        struct timespec ts;
        uint64_t nsec;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        nsec = (uint64_t) ts.tv_nsec + usec * 1000;
        ts.tv_sec += (time_t) (nsec / NSEC_PER_SEC);
        ts.tv_nsec = (long) (nsec % NSEC_PER_SEC);
        return ts;
}

int ctx_futex_begin(struct ctx *ctx)
{
        struct ctx_shared *shared = ctx_shared_done(ctx);
        uint32_t state = ctx_state(ctx->source);
        uint64_t usec;
        int fd, r;

        if (state)
                return state_to_errno(state);
        if (!shared || (shared->ops->before_sleep && !shared->ops->before_sleep(shared, &fd, &usec)))
                return 0;
        r = shared->ops->watch(shared);
        /* If there is no daemon to ask, ctx_futex_wait() tries again. */
        return r < 0 && shared->ops->has_no_daemon && shared->ops->has_no_daemon(shared) ? 0 : r;
}

#define WATCH_AGAIN_USEC 50000

/* For how long to sleep at most. Without limit, if the library makes the context done in time. */
static uint64_t look_usec(struct ctx_shared *shared)
{
        uint64_t usec;
        int fd;

        if (shared->ops->before_sleep && !shared->ops->before_sleep(shared, &fd, &usec))
                return usec;
        return shared->ops->watch(shared) < 0 ? WATCH_AGAIN_USEC : CTX_NEVER;
}

int ctx_futex_wait(struct ctx *ctx, _Atomic uint32_t *word, uint32_t value)
{
        struct ctx_shared *shared = ctx_shared_done(ctx);
        struct ctx *source = ctx->source;
        struct futex_waitv waiters[2] = {};
        uint64_t left = CTX_NEVER;
        struct timespec ts;
        uint32_t own, state;

        if (ctx_never_done(source)) {
                futex_wait(word, value);
                return 0;
        }
        own = ctx_announce_wait(source);
        state = ctx_state(source);
        if (state)
                return state_to_errno(state);
        if (ctx_deadline_usec(source) != CTX_NEVER) {
                left = ctx_remaining(source);
                if (left > FUTEX_WAIT_MAX_USEC)
                        left = FUTEX_WAIT_MAX_USEC;
        }
        if (shared) {
                uint64_t usec = look_usec(shared);

                left = usec < left ? usec : left;
        }
        if (left != CTX_NEVER)
                ts = monotonic_after(left);

        waiters[0] = (struct futex_waitv){
                        .val = value,
                        .uaddr = (uintptr_t) word,
                        .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG,
        };
        waiters[1] = (struct futex_waitv){
                        .val = own,
                        .uaddr = (uintptr_t) &source->nest.word,
                        .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG,
        };
        if (syscall(SYS_futex_waitv, waiters, 2, 0, left == CTX_NEVER ? NULL : &ts, CLOCK_MONOTONIC) < 0 &&
                        errno == ENOSYS)
                return -ENOSYS;
        return state_to_errno(ctx_state(source));
}
