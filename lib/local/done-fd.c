/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lib/local/extend.h"
#include "lib/local/patience.h"
#include "lib/local/poll-fd.h"
#include "lib/local/raw.h"
#include "lib/local/shared.h"
#include "lib/local/timer.h"

/* The descriptor of a context. It is an eventfd, which a cancel fills. With a deadline it is a timerfd, which
 * a cancel sets to a time in the past: so no thread has to watch the time. A child of a fork shares the
 * parent's descriptor, so it makes one of its own and leaves that alone. */

struct done_fd {
        int fd;
        uint64_t deadline_usec; /* to which a timerfd is set; CTX_NEVER: it is an eventfd */
};

/* Makes it readable for good. */
static void fire(int fd, bool is_timer)
{
        if (!is_timer) {
                /* One less than the value that would block, in case the program has written to it. */
                raw_eventfd_write(fd, UINT64_MAX - 1);
                return;
        }
        /* It stays as it is if the deadline has made it readable: to set it again would take that back for a
         * moment, and would be news once more for an edge-triggered loop. */
        if (raw_wait_readable(fd, 0))
                return;
        timer_set_fd(fd, 0);
        /* The kernel fires the timer a moment later, in an interrupt. The caller promises that it has
         * fired. */
        raw_wait_readable(fd, 1);
}

static int open_fd(const struct ctx *source, struct done_fd *ret)
{
        uint64_t usec = ctx_local_deadline(source);
        int fd, r = 0;

        if (usec == CTX_NEVER)
                fd = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
        else
                fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (usec != CTX_NEVER)
                r = timer_set_fd(fd, usec);
        if (r < 0) {
                raw_close(fd);
                return r;
        }
        *ret = (struct done_fd){.fd = fd, .deadline_usec = usec};
        return 0;
}

/* A descriptor as a word: EXTRA_IS_FD, whether it is a timer, its number, and the fork_generation of the
 * process that has made it. */
#define FD_IS_TIMER UINT64_C(2)
#define FD_SHIFT 2
#define GENERATION_SHIFT 33

static uint64_t fd_word(const struct done_fd *new)
{
        return (uint64_t) fork_generation << GENERATION_SHIFT | (uint64_t) new->fd << FD_SHIFT |
               (new->deadline_usec != CTX_NEVER ? FD_IS_TIMER : 0) | EXTRA_IS_FD;
}

static int any_fd(uint64_t word)
{
        return word == 0 ? -1 : (int) (word >> FD_SHIFT & INT_MAX);
}

/* -1: there is none, or one from before a fork. */
static int current_fd(uint64_t word)
{
        uint64_t others = word ^ (uint64_t) fork_generation << GENERATION_SHIFT;

        return others >> GENERATION_SHIFT == 0 ? any_fd(word) : -1;
}

/* Where the descriptor stands. The lock is held. */
static _Atomic uint64_t *fd_place(struct ctx *source)
{
        struct extra *extra = ctx_known_extra(source);

        return extra ? &extra->fd : &source->extra;
}

/* Without the lock a struct extra may come between two looks at the place. */
static uint64_t known_fd(const struct ctx *source)
{
        uint64_t word = atomic_load_explicit(&source->extra, memory_order_acquire);
        const struct extra *extra = (const struct extra *) (uintptr_t) word;

        return word & EXTRA_IS_FD || !extra ? word : atomic_load_explicit(&extra->fd, memory_order_acquire);
}

/* Whoever makes a source done has its lock after that, and before this: so it sees what was put in place
 * under the lock, or who put it there has seen the end. */
void extra_fire(struct ctx *source)
{
        struct extra *extra = ctx_known_extra(source);
        uint64_t word = known_fd(source);
        int fd = current_fd(word);

        if (fd >= 0)
                fire(fd, word & FD_IS_TIMER);
        if (extra)
                poll_fd_fire(source, extra);
}

void extra_move_timer(struct ctx *source)
{
        uint64_t word = known_fd(source);
        int fd = current_fd(word);

        if (fd >= 0 && word & FD_IS_TIMER)
                timer_set_fd(fd, ctx_local_deadline(source));
}

int ctx_local_done_fd(struct ctx *source)
{
        int fd = current_fd(known_fd(source)), useless, r;
        _Atomic uint64_t *place;
        struct done_fd new = {.fd = -1};
        uint32_t word;

        if (fd >= 0)
                return fd;
        r = open_fd(source, &new);
        if (r < 0)
                return r;
        word = nest_lock(&source->nest);
        place = fd_place(source);
        fd = current_fd(*place);
        if (fd >= 0) {
                useless = new.fd; /* another thread was faster */
        } else {
                useless = any_fd(*place);
                fd = new.fd;
                if (new.deadline_usec != CTX_NEVER && ctx_local_deadline(source) != new.deadline_usec)
                        timer_set_fd(fd, ctx_local_deadline(source)); /* it was moved meanwhile */
                atomic_store_explicit(place, fd_word(&new), memory_order_release);
        }
        nest_unlock(&source->nest, word | CTX_EXTRA);
        if (useless >= 0)
                raw_close(useless);
        /* If it was made done before the descriptor was there, nobody has made that readable. */
        if (ctx_is_done(source))
                extra_fire(source);
        return fd;
}

static int wait_for_fd(struct ctx_shared *shared)
{
        uint64_t before = patience_begin_ctx(&shared->wide.ctx);
        int r = shared->ops->done_fd(shared, NULL);

        patience_end(before);
        return r;
}

int ctx_done_fd(struct ctx *ctx)
{
        struct ctx_shared *shared;
        int r;

        if (!ctx)
                return -EINVAL;
        if (ctx_never_done(ctx->source))
                return -EOPNOTSUPP;

        shared = ctx_shared_done(ctx);
        if (shared && &shared->wide.ctx == ctx->source) {
                r = shared->ops->watch_daemon ? shared->ops->watch_daemon(shared) : 0;
                return r < 0 ? r : wait_for_fd(shared);
        }
        if (shared) {
                r = shared->ops->watch(shared);
                if (r < 0)
                        return r;
        }
        r = ctx_local_done_fd(ctx->source);
        /* A shared ancestor is done, and nobody has made the descriptor readable. */
        if (r >= 0 && shared && ctx_state(ctx->source))
                ctx_end(ctx->source, STATE_WORD_CANCELED, NULL);
        return r;
}

bool extra_put(struct ctx *source, struct extra *extra)
{
        if (ctx_known_extra(source))
                return false;
        atomic_init(&extra->fd, atomic_load_explicit(&source->extra, memory_order_relaxed));
        atomic_store_explicit(&source->extra, (uintptr_t) extra, memory_order_release);
        return true;
}

struct extra *ctx_extra(struct ctx *source)
{
        struct extra *extra = ctx_known_extra(source);
        uint32_t word;
        bool put;

        if (extra)
                return extra;
        extra = calloc(1, sizeof(struct extra));
        if (!extra)
                return NULL;
        word = nest_lock(&source->nest);
        put = extra_put(source, extra);
        nest_unlock(&source->nest, word | CTX_EXTRA);
        if (!put)
                free(extra);
        return ctx_known_extra(source);
}

void extra_free(struct ctx *source)
{
        struct extra *extra = ctx_known_extra(source);
        int fd = any_fd(known_fd(source));

        if (fd >= 0)
                raw_close(fd);
        if (!extra)
                return;
        poll_fd_free(extra);
        mover_free(atomic_load_explicit(&extra->mover, memory_order_relaxed));
        free(atomic_load_explicit(&extra->stripes, memory_order_relaxed));
        free(extra);
}
