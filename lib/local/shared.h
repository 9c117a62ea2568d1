/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/local/ctx.h"

/* A shared context (one of the daemon's), as far as local/ and blocking/ know it: where to read its state,
 * and a table of operations for everything else. lib/remote/context.c fills it in; struct ctx_shared is the
 * first member of its own struct. The operations may be called from any thread. The caller holds no lock, and
 * is in no other operation of the same context. */

struct ctx_shared;

struct ctx_shared_ops {
        /* Called if the word of the slot is not `given` any more; if nobody writes to the page; or if there
         * is no slot (word is NULL). Returns the state, enum state_word: it may still be active. It does not
         * wait for the network if the word is of the same generation. */
        int (*settle)(struct ctx_shared *shared, uint64_t word);
        /* For a context that is done. Returns 1, an errno, and a text that lives as long as shared. May ask
         * the daemon. */
        int (*cause)(struct ctx_shared *shared, int *ret_error, const char **ret_message);
        /* A descriptor that is readable once the context is done. It stays shared's. Or a negative errno. The
         * daemon has to be asked for it once. With ret_usec NULL the call waits for the answer. Else it waits
         * a moment at most, and may return -EINPROGRESS: then the caller goes on without it, and calls this
         * again after *ret_usec. */
        int (*done_fd)(struct ctx_shared *shared, uint64_t *ret_usec);
        /* The caller wants to sleep until the context is done. Returns true if there is a daemon. Then the
         * caller polls done_fd(), and *ret_fd (-1: none) as well, which is readable when the daemon is gone.
         * Returns false if there is no daemon just now. Then there is nothing to poll, and one step was made
         * to find a daemon again. In both cases the caller looks again after *ret_usec at the latest. May be
         * NULL. */
        bool (*before_sleep)(struct ctx_shared *shared, int *ret_fd, uint64_t *ret_usec);
        /* done_fd() has failed. Is the reason that there is no daemon? NULL together with before_sleep. */
        bool (*has_no_daemon)(struct ctx_shared *shared);
        /* Somebody is going to sleep on the descriptor alone. From now on the library makes it readable if
         * the daemon is gone. May be called again. May be NULL. */
        int (*watch_daemon)(struct ctx_shared *shared);
        /* From now on the library calls ctx_finish() once the context is done. Waits a moment at most,
         * whatever the daemon does. May be called again. */
        int (*watch)(struct ctx_shared *shared);
        /* As ctx_cancel_cause(). Returns when the daemon has cancelled it, or does not answer. message may be
         * NULL. */
        int (*cancel)(struct ctx_shared *shared, int error, const char *message);
        /* For a context without `deadline_usec`. May be NULL. */
        uint64_t (*deadline)(struct ctx_shared *shared);
        /* As ctx_extend(). */
        int (*extend)(struct ctx_shared *shared, uint64_t deadline_usec);
        /* Attaches a process. signal and kill_after_usec are those of struct ctx_spawn_options. 0 or a
         * negative errno. */
        int (*attach)(struct ctx_shared *shared, int pidfd, int signal, uint64_t kill_after_usec);
        /* Is it done, as far as can be seen without asking the daemon? */
        bool (*seems_done)(struct ctx_shared *shared);
        /* What a child process finds in $CTXD_CONTEXT. */
        const char *(*path)(struct ctx_shared *shared);
        /* What a child process finds in $CTXD_ADDRESS; NULL: the variable is not set. */
        const char *(*address)(struct ctx_shared *shared);
        /* The calling thread works for this context from now on, and for no other shared one. May be NULL. */
        void (*enter)(struct ctx_shared *shared);
        /* The calling thread works for it no longer. May be NULL. */
        void (*leave)(struct ctx_shared *shared);
        /* The last reference is gone: frees the whole struct. */
        void (*free)(struct ctx_shared *shared);
};

struct ctx_shared {
        struct ctx_wide wide;
        const struct ctx_shared_ops *ops;
        /* The word of the mapped slot, which stays mapped while this context lives. NULL: settle() is
         * asked. */
        const _Atomic uint64_t *word;
        const _Atomic uint64_t *deadline_usec;
        /* The value of *word as long as the context is active. */
        uint64_t given;
        /* A word of the page: STATE_KEEPER_DIED in it says that nobody writes to the page any more. Never
         * NULL. */
        const _Atomic uint32_t *keeper;
};

/* One reference, no slot. */
void ctx_shared_init(struct ctx_shared *shared, const struct ctx_shared_ops *ops);

/* The state, enum state_word, by the slot and the clock. */
uint32_t ctx_shared_state(struct ctx_shared *shared);
uint64_t ctx_shared_deadline(struct ctx_shared *shared);

/* A shared context that stands for several: it is done when one of them is. It takes a reference on each.
 * NULL: there is no memory. */
struct ctx_shared *ctx_shared_any_of(struct ctx_shared *const *parts, size_t n);

/* ctx becomes done because parent, or the other parent of a merge, is done with `end`. Returns its own `end`,
 * which is another one only if ctx is done already by another of the shared contexts that can make it done.
 * Takes no reference on a cause, and no lock. */
uintptr_t ctx_shared_pass_end(const struct ctx *ctx, const struct ctx *parent, uintptr_t end);

/* The shared context that makes ctx done when it is done; NULL: there is none. A without_cancel has none. */
static inline struct ctx_shared *ctx_shared_done(const struct ctx *ctx)
{
        const struct ctx *source = ctx->source;

        if (!(atomic_load_explicit(&source->nest.word, memory_order_relaxed) & CTX_SHARED))
                return NULL;
        return (struct ctx_shared *) ((const struct ctx_wide *) source)->done;
}

/* The nearest shared context from ctx up, for its values and its place in the tree. A without_cancel keeps
 * that. */
static inline struct ctx_shared *ctx_shared_above(const struct ctx *ctx)
{
        if (!(ctx->child.flags & CHILD_WIDE))
                return NULL;
        return (struct ctx_shared *) ((const struct ctx_wide *) ctx)->shared;
}
