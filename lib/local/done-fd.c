/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lib/local/callback-thread.h"
#include "lib/local/shared.h"

/* The descriptor of a context. It is an eventfd, which a cancel fills. With a deadline it is a timerfd, which
 * a cancel sets to a time in the past: so no thread has to watch the time. A child of a fork shares the
 * parent's descriptor, so it makes one of its own and leaves that alone. */

static bool has_timer(const struct ctx *source)
{
        return source->deadline_usec != CTX_NEVER;
}

/* Makes it readable for good. */
static void fire(const struct ctx *source, int fd)
{
        if (!has_timer(source)) {
                /* One less than the value that would block, in case the program has written to it. */
                eventfd_write(fd, UINT64_MAX - 1);
                return;
        }
        timer_set_fd(fd, 0);
        /* The kernel fires the timer a moment later, in an interrupt. The caller promises that it has
         * fired. */
        poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 1000);
}

static int open_fd(const struct ctx *source)
{
        int fd, r;

        if (!has_timer(source)) {
                fd = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
                return fd < 0 ? -errno : fd;
        }
        fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = timer_set_fd(fd, source->deadline_usec);
        if (r < 0) {
                close(fd);
                return r;
        }
        return fd;
}

static int current_fd(const struct extra *extra)
{
        int fd = atomic_load_explicit(&extra->fd, memory_order_acquire) - 1;

        return atomic_load_explicit(&extra->fork_generation, memory_order_relaxed) == fork_generation ? fd
                                                                                                      : -1;
}

void extra_fire(struct ctx *source, struct extra *extra)
{
        int fd = current_fd(extra);

        if (fd >= 0)
                fire(source, fd);
}

/* The usual case: there is nothing yet, and everything is put in place under one lock. *ret_word is the word
 * as it was before. If it has CTX_EXTRA, another thread was faster. */
static int attach_new(struct ctx *source, int fd, uint32_t *ret_word)
{
        struct extra *extra = malloc(sizeof(struct extra));
        uint32_t word;

        if (!extra)
                return -ENOMEM;
        *extra = (struct extra){.fd = fd + 1, .fork_generation = fork_generation};
        word = nest_lock(&source->nest);
        if (word & CTX_EXTRA)
                free(extra);
        else
                source->extra = extra;
        nest_unlock(&source->nest, word | CTX_EXTRA);
        *ret_word = word;
        return 0;
}

/* Puts fd in place if there is no descriptor, or only one from before a fork. Returns the one that is in
 * place. The caller closes *ret_useless if it is not negative. */
static int attach(struct ctx *source, int fd, uint32_t *ret_word, int *ret_useless)
{
        uint32_t word = nest_lock(&source->nest);
        struct extra *extra = source->extra;
        int current = current_fd(extra);

        *ret_useless = current >= 0 ? fd : atomic_load(&extra->fd) - 1;
        if (current < 0) {
                current = fd;
                atomic_store_explicit(&extra->fork_generation, fork_generation, memory_order_relaxed);
                atomic_store_explicit(&extra->fd, fd + 1, memory_order_release);
        }
        nest_unlock(&source->nest, word);
        *ret_word = word;
        return current;
}

int ctx_local_done_fd(struct ctx *source)
{
        uint32_t word = atomic_load_explicit(&source->nest.word, memory_order_acquire);
        bool fresh = !(word & CTX_EXTRA);
        int fd, useless = -1;

        fd = fresh ? -1 : current_fd(source->extra);
        if (fd >= 0)
                return fd;
        fd = open_fd(source);
        if (fd < 0)
                return fd;
        if (fresh && attach_new(source, fd, &word) < 0) {
                close(fd);
                return -ENOMEM;
        }
        if (!fresh || word & CTX_EXTRA)
                fd = attach(source, fd, &word, &useless);
        if (useless >= 0)
                close(useless);
        /* If it was made done before the descriptor was there, nobody has made that readable. */
        if (word & CTX_STATE)
                fire(source, fd);
        return fd;
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
                return r < 0 ? r : shared->ops->done_fd(shared);
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

struct extra *ctx_extra(struct ctx *source)
{
        struct extra *extra;
        uint32_t word;

        if (atomic_load_explicit(&source->nest.word, memory_order_acquire) & CTX_EXTRA)
                return source->extra;
        extra = calloc(1, sizeof(struct extra));
        if (!extra)
                return NULL;

        word = nest_lock(&source->nest);
        if (word & CTX_EXTRA) {
                free(extra);
                extra = source->extra;
        } else {
                source->extra = extra;
        }
        nest_unlock(&source->nest, word | CTX_EXTRA);
        return extra;
}

void extra_free(struct extra *extra)
{
        int fd = atomic_load_explicit(&extra->fd, memory_order_relaxed) - 1;

        if (fd >= 0)
                close(fd);
        free(atomic_load_explicit(&extra->stripes, memory_order_relaxed));
        free(extra);
}
