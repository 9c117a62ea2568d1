/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "lib/local/shared.h"

/* A merge of contexts under several shared contexts is done when any of these is done. This is a shared
 * context that stands for all of them. It has no slot of its own, and asks each of them. It is in no tree,
 * and only the merge and what is below the merge know it. */

/* How often to look, where one descriptor does not stand for all. */
#define LOOK_AGAIN_USEC UINT64_C(1000000)

struct any {
        struct ctx_shared shared;
        /* An epoll descriptor over theirs, plus 1; in the upper half, the fork_generation of the process that
         * made it. 0: none. */
        _Atomic uint64_t fd;
        /* The first of them that was seen to be done. Others may end later: they change nothing (law 2). */
        struct ctx_shared *_Atomic ended;
        size_t n;
        struct ctx_shared *parts[];
};

/* Returns the part that counts. */
static struct ctx_shared *set_ended(struct any *any, struct ctx_shared *part)
{
        struct ctx_shared *before = NULL;

        return atomic_compare_exchange_strong(&any->ended, &before, part) ? part : before;
}

static struct ctx_shared *first_done(struct any *any)
{
        struct ctx_shared *part = atomic_load_explicit(&any->ended, memory_order_acquire);

        for (size_t i = 0; !part && i < any->n; i++)
                if (ctx_state(&any->parts[i]->wide.ctx))
                        part = set_ended(any, any->parts[i]);
        return part;
}

static int any_settle(struct ctx_shared *shared, uint64_t word)
{
        struct ctx_shared *part = first_done((struct any *) shared);

        return part ? (int) ctx_state(&part->wide.ctx) : STATE_WORD_ACTIVE;
}

static int any_cause(struct ctx_shared *shared, int *ret_error, const char **ret_message)
{
        struct ctx_shared *part = first_done((struct any *) shared);

        if (part)
                return ctx_cause(&part->wide.ctx, ret_error, ret_message);
        cause_read(CAUSE_DEFAULT, STATE_WORD_CANCELED, ret_error, ret_message);
        return 1;
}

/* If one of theirs is still to come, none of the next ones is asked for before. */
static int open_fd(struct any *any, uint64_t *ret_usec)
{
        int fd = epoll_create1(EPOLL_CLOEXEC);

        if (fd < 0)
                return -errno;
        for (size_t i = 0; i < any->n; i++) {
                struct epoll_event event = {.events = EPOLLIN};
                int part = any->parts[i]->ops->done_fd(any->parts[i], ret_usec);
                int r = part < 0 ? part : epoll_ctl(fd, EPOLL_CTL_ADD, part, &event) < 0 ? -errno : 0;

                /* Two of them may be the same context, with one descriptor. */
                if (r < 0 && r != -EEXIST) {
                        close(fd);
                        return r;
                }
        }
        return fd;
}

static uint64_t word_of_fd(int fd)
{
        return (uint64_t) fork_generation << 32 | (uint32_t) (fd + 1);
}

static int any_done_fd(struct ctx_shared *shared, uint64_t *ret_usec)
{
        struct any *any = (struct any *) shared;
        uint64_t word = atomic_load_explicit(&any->fd, memory_order_acquire);
        int fd;

        if (word != 0 && word >> 32 == fork_generation)
                return (int) (uint32_t) word - 1;
        fd = open_fd(any, ret_usec);
        if (fd < 0)
                return fd;
        if (!atomic_compare_exchange_strong(&any->fd, &word, word_of_fd(fd))) {
                close(fd); /* another thread was faster */
                return (int) (uint32_t) word - 1;
        }
        if (word != 0)
                close((int) (uint32_t) word - 1);
        return fd;
}

/* Usually all are contexts of one daemon, and one descriptor says whether that is gone. */
static bool any_before_sleep(struct ctx_shared *shared, int *ret_fd, uint64_t *ret_usec)
{
        struct any *any = (struct any *) shared;
        bool is_kept = true;

        *ret_fd = -1;
        *ret_usec = CTX_NEVER;
        for (size_t i = 0; i < any->n; i++) {
                uint64_t usec = CTX_NEVER;
                int fd = -1;

                if (any->parts[i]->ops->before_sleep &&
                                !any->parts[i]->ops->before_sleep(any->parts[i], &fd, &usec))
                        is_kept = false;
                if (i > 0 && fd >= 0 && fd != *ret_fd)
                        usec = usec < LOOK_AGAIN_USEC ? usec : LOOK_AGAIN_USEC;
                else if (fd >= 0)
                        *ret_fd = fd;
                if (usec < *ret_usec)
                        *ret_usec = usec;
        }
        if (!is_kept)
                *ret_fd = -1;
        return is_kept;
}

static bool any_has_no_daemon(struct ctx_shared *shared)
{
        struct any *any = (struct any *) shared;

        for (size_t i = 0; i < any->n; i++)
                if (any->parts[i]->ops->has_no_daemon && any->parts[i]->ops->has_no_daemon(any->parts[i]))
                        return true;
        return false;
}

/* The merge is a child of each of them, itself or by an arm. So whoever makes one of them done finds the
 * merge. */
static int any_watch(struct ctx_shared *shared)
{
        struct any *any = (struct any *) shared;

        for (size_t i = 0; i < any->n; i++) {
                int r = any->parts[i]->ops->watch(any->parts[i]);

                if (r < 0)
                        return r;
        }
        return 0;
}

static uint64_t any_deadline(struct ctx_shared *shared)
{
        struct any *any = (struct any *) shared;
        uint64_t earliest = CTX_NEVER;

        for (size_t i = 0; i < any->n; i++) {
                uint64_t deadline = ctx_shared_deadline(any->parts[i]);

                if (deadline < earliest)
                        earliest = deadline;
        }
        return earliest;
}

static void any_free(struct ctx_shared *shared)
{
        struct any *any = (struct any *) shared;

        for (size_t i = 0; i < any->n; i++)
                ctx_unref(&any->parts[i]->wide.ctx);
        if (any->fd != 0)
                close((int) (uint32_t) any->fd - 1);
        free(any);
}

static const struct ctx_shared_ops any_ops = {
                .settle = any_settle,
                .cause = any_cause,
                .done_fd = any_done_fd,
                .before_sleep = any_before_sleep,
                .has_no_daemon = any_has_no_daemon,
                .watch = any_watch,
                .deadline = any_deadline,
                .free = any_free,
};

/* A walk may come upon a context that is on its way to be freed, and its `source` is in use for that. */
static struct ctx_shared *done_of(const struct ctx *source)
{
        if (!(atomic_load_explicit(&source->nest.word, memory_order_relaxed) & CTX_SHARED))
                return NULL;
        return (struct ctx_shared *) ((const struct ctx_wide *) source)->done;
}

uintptr_t ctx_shared_pass_end(const struct ctx *ctx, const struct ctx *parent, uintptr_t end)
{
        struct ctx_shared *done = done_of(ctx), *part = done_of(parent);
        uintptr_t active;

        if (cause_of(end) != CAUSE_SHARED || !done || done == part || done->ops != &any_ops)
                return end;
        if (part && part->ops == &any_ops)
                part = atomic_load_explicit(&((struct any *) part)->ended, memory_order_acquire);
        if (!part)
                return end;
        part = set_ended((struct any *) done, part);
        /* It may be known by its page alone so far. */
        active = ctx_end_word(&part->wide.ctx);
        while (!(active & END_STATE))
                if (atomic_compare_exchange_weak(&part->wide.ctx.end, &active, end))
                        active = end;
        return active;
}

/* If one of them stands for several itself, its parts are taken. So none stands for one that stands for
 * others. */
static size_t flatten(struct ctx_shared *const *parts, size_t n, struct ctx_shared **ret)
{
        size_t total = 0;

        for (size_t i = 0; i < n; i++) {
                const struct any *any = parts[i]->ops == &any_ops ? (const struct any *) parts[i] : NULL;
                size_t n_mine = any ? any->n : 1;

                for (size_t j = 0; ret && j < n_mine; j++)
                        ret[total + j] = any ? any->parts[j] : parts[i];
                total += n_mine;
        }
        return total;
}

struct ctx_shared *ctx_shared_any_of(struct ctx_shared *const *parts, size_t n)
{
        size_t total = flatten(parts, n, NULL);
        struct any *any = malloc(sizeof(struct any) + total * sizeof(struct ctx_shared *));

        if (!any)
                return NULL;
        ctx_shared_init(&any->shared, &any_ops);
        any->fd = 0;
        any->ended = NULL;
        any->n = flatten(parts, n, any->parts);
        for (size_t i = 0; i < any->n; i++)
                ctx_ref(&any->parts[i]->wide.ctx);
        return &any->shared;
}
