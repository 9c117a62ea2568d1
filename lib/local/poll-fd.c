/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <sys/eventfd.h>

#include "lib/local/poll-fd.h"
#include "lib/local/raw.h"

/* A call that waits for a descriptor and a context polls an eventfd beside the descriptor. To make and close
 * one takes longer than most calls. The program never sees these, so one that no cancel has filled is as good
 * as new: a few of them are kept for the next call. The context has one only as long as a thread polls it.
 *
 * One that was filled stays with its context, where a thread may be about to write to it, and is closed with
 * it. */

#define N_KEPT 8

static _Atomic int kept[N_KEPT]; /* plus 1; 0: none */

static int take(void)
{
        int fd;

        for (int i = 0; i < N_KEPT; i++)
                if (atomic_load_explicit(&kept[i], memory_order_relaxed) != 0 &&
                                (fd = atomic_exchange(&kept[i], 0)) != 0)
                        return fd - 1;
        fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static void keep(int fd)
{
        for (int i = 0; i < N_KEPT; i++) {
                int expected = 0;

                if (atomic_load_explicit(&kept[i], memory_order_relaxed) == 0 &&
                                atomic_compare_exchange_strong(&kept[i], &expected, fd + 1))
                        return;
        }
        raw_close(fd);
}

int poll_fd_enter(struct ctx *source)
{
        struct extra *extra = ctx_extra(source);
        int spare, stale = -1, fd;
        uint32_t word;

        if (!extra)
                return -ENOMEM;
        spare = take();
        if (spare < 0)
                return spare;
        word = nest_lock(&source->nest);
        /* A child of a fork leaves the parent's descriptor alone, and has none of its threads. */
        if (extra->poll_generation != fork_generation) {
                stale = extra->poll_fd - 1;
                extra->poll_fd = 0;
                extra->n_polling = 0;
                extra->poll_generation = fork_generation;
        }
        if (extra->poll_fd == 0) {
                extra->poll_fd = spare + 1;
                extra->poll_fired = false;
                spare = -1;
        }
        extra->n_polling++;
        fd = extra->poll_fd - 1;
        nest_unlock(&source->nest, word);
        if (spare >= 0)
                keep(spare);
        if (stale >= 0)
                raw_close(stale);
        return fd;
}

void poll_fd_leave(struct ctx *source, unsigned generation)
{
        struct extra *extra = ctx_known_extra(source);
        uint32_t word;
        int fd = -1;

        if (generation != fork_generation)
                return; /* a signal handler has forked, and this is the child */
        word = nest_lock(&source->nest);
        if (--extra->n_polling == 0 && !extra->poll_fired) {
                fd = extra->poll_fd - 1;
                extra->poll_fd = 0;
        }
        nest_unlock(&source->nest, word);
        if (fd >= 0)
                keep(fd);
}

void poll_fd_fire(struct ctx *source, struct extra *extra)
{
        uint32_t word = nest_lock(&source->nest);
        int fd = -1;

        if (extra->n_polling > 0 && extra->poll_generation == fork_generation) {
                fd = extra->poll_fd - 1;
                extra->poll_fired = true;
        }
        nest_unlock(&source->nest, word);
        if (fd >= 0)
                raw_eventfd_write(fd, 1);
}

void poll_fd_free(struct extra *extra)
{
        if (extra->poll_fd > 0)
                raw_close(extra->poll_fd - 1);
}

void poll_fd_close_kept(void)
{
        for (int i = 0; i < N_KEPT; i++) {
                int fd = atomic_exchange(&kept[i], 0);

                if (fd != 0)
                        raw_close(fd - 1);
        }
}

FORK_PART(.in_child = poll_fd_close_kept)
