/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/ctxclient.h"
#include "lib/local/cause.h"
#include "lib/local/futex.h"
#include "lib/local/nest.h"
#include "proto/state-page.h"
#include "util/clock.h"

/* The inside of a context.
 *
 * A context whose state is its own is a source. A value and a readonly view have the state of another
 * context: their `source` points to that one. The `source` of a source is itself. A cancel writes the state
 * into every descendant (walk.c), and a deadline is inherited as a number. So ctx_err() is two loads,
 * however deep the context is.
 *
 * A context becomes done by one compare-and-swap of its `end`, for which no lock is needed: so a signal
 * handler can do it, whatever it has interrupted. What follows from that, such as the end of the descendants,
 * is done under locks (cancel.c, handler.c).
 *
 * What keeps a context alive: `refs` counts the references of the program, and those of contexts that are not
 * in the list of children (values, views). `kids` of the nest counts the children. The context is freed when
 * both are zero. A parent does not hold its children: a child leaves the list when it is cancelled, when a
 * cancel comes from above, or with its last unref, whichever comes first. */

enum ctx_kind {
        CTX_KIND_BACKGROUND,
        CTX_KIND_TODO,
        CTX_KIND_CANCEL,
        CTX_KIND_TIMED, /* the same with a deadline of its own */
        CTX_KIND_FOUND, /* the same, and something outside ends it: found.h */
        CTX_KIND_VALUE,
        CTX_KIND_WITHOUT_CANCEL,
        CTX_KIND_MERGE,
        CTX_KIND_READONLY,
        CTX_KIND_SHARED,
};

#define CTX_NEVER UINT64_MAX

/* What most contexts never need. It is made when it is first needed, and freed with the context. */
struct extra {
        struct stripe *_Atomic stripes;
        /* With CTX_OWN_KEPT: the deadline of the context's own. */
        _Atomic uint64_t own_usec;
        struct mover *_Atomic mover; /* extend.c */
        _Atomic uint64_t fd;         /* as `extra` of struct ctx, or 0 */
        /* poll-fd.c, under the context's lock */
        int poll_fd; /* plus 1; 0: none */
        unsigned n_polling;
        unsigned poll_generation;
        bool poll_fired;
};

/* The two lowest bits of `end` are enum state_word. If the context is done, the other bits are its cause, and
 * nothing changes any more. If it is active, they say what has to be looked at (nothing, if all is 0), and
 * with each change of the deadline comes another number. */
#define END_STATE ((uintptr_t) STATE_WORD_MASK)
#define END_DEADLINE ((uintptr_t) 8)
#define END_SHARED ((uintptr_t) 16)
#define END_CHANGE ((uintptr_t) 32)

struct ctx {
        struct nest nest;
        _Atomic uintptr_t end;
        struct ctx *source;
        struct child child;
        /* CLOCK_BOOTTIME; the earliest deadline of the local contexts from here up, or CTX_NEVER. */
        _Atomic uint64_t deadline_usec;
        struct ctx *values; /* the nearest value from here up */
        /* With CTX_EXTRA: the address of a struct extra; or, if nothing else of that is needed, only the
         * descriptor of ctx_done_fd(), as done-fd.c writes it. Written under the lock. */
        _Atomic uint64_t extra;
};

/* What some contexts have besides: those under a shared context, those with a deadline and a cause for it,
 * and every value, merge and shared context. */
struct ctx_wide {
        struct ctx ctx;
        struct ctx *shared; /* the nearest shared context from here up, or NULL */
        /* With CTX_SHARED: when this one is done, the context is done. It is the nearest shared context, or
         * one that stands for several (merge-shared.c). */
        struct ctx *done;
        struct cause *deadline_cause; /* the cause once the deadline has passed, unless that was moved */
        struct cause *own_cause;      /* the one that its own deadline was made with */
};

/* With CHILD_OWN: a deadline of its own that was not the earliest one stands behind the struct. */
static inline uint64_t *ctx_own_deadline(struct ctx *ctx)
{
        return (uint64_t *) (ctx->child.flags & CHILD_WIDE ? (void *) ((struct ctx_wide *) ctx + 1)
                                                           : ctx + 1);
}

struct ctx_value {
        struct ctx_wide wide;
        const struct ctx_key *key;
        void *value;
        void (*destroy)(void *value);
        struct ctx *above; /* the next value */
};

struct arm {
        struct child child;
        struct ctx *merge;
};

struct ctx_merge {
        struct ctx_wide wide;
        /* For a walk: a merge that it reaches by an arm may be in a list at the same time. */
        struct ctx *stack;
        struct child *entry; /* by which child it was reached (extend.c); written under the lock */
        _Atomic size_t n_arms;
        struct arm arms[];
};

/* The cause that it gets when its deadline passes. */
static inline struct cause *deadline_cause(const struct ctx *source)
{
        return source->child.flags & CHILD_WIDE ? ((const struct ctx_wide *) source)->deadline_cause
                                                : CAUSE_DEFAULT;
}

static inline struct ctx *ctx_of_child(struct child *child)
{
        if (child->flags & CHILD_ARM)
                return ((struct arm *) child)->merge;
        return (struct ctx *) ((char *) child - offsetof(struct ctx, child));
}

static inline bool ctx_never_done(const struct ctx *source)
{
        return source->child.kind == CTX_KIND_BACKGROUND || source->child.kind == CTX_KIND_TODO ||
               source->child.kind == CTX_KIND_WITHOUT_CANCEL;
}

/* -ECANCELED or -ETIMEDOUT, by enum state_word; 0 stays 0. */
static inline int state_to_errno(uint32_t state)
{
        static const int16_t errors[4] = {0, -125, -110, -125};

        return errors[state & STATE_WORD_MASK];
}

static inline uintptr_t ctx_end_word(const struct ctx *source)
{
        return atomic_load_explicit(&source->end, memory_order_acquire);
}

/* It is known to be done. Deadlines and shared ancestors are not looked at. */
static inline bool ctx_is_done(const struct ctx *source)
{
        return atomic_load_explicit(&source->end, memory_order_seq_cst) & END_STATE;
}

static inline struct cause *cause_of(uintptr_t end)
{
        return (struct cause *) (end & ~END_STATE);
}

static inline uint64_t ctx_local_deadline(const struct ctx *source)
{
        return atomic_load_explicit(&source->deadline_usec, memory_order_relaxed);
}

/* The state of a source, enum state_word. Deadlines and shared ancestors are looked at. */
uint32_t ctx_state(struct ctx *source);

/* The time that is usec from now. It is rounded up, so that it is never early. CTX_NEVER if it cannot be
 * expressed. */
uint64_t deadline_after(uint64_t usec);

/* The earliest deadline of ctx, that of a shared ancestor included. */
uint64_t ctx_deadline_usec(struct ctx *ctx);

/* Allocates a context of size bytes, with one reference. It is its own source, has what it inherits from the
 * parent, and is not linked yet. NULL with errno. */
struct ctx *ctx_alloc(size_t size, enum ctx_kind kind, struct ctx *parent);
/* Links a complete context under its parent. If the parent is done, the context is made done instead. */
void ctx_link(struct ctx *ctx, struct ctx *parent);

/* Gives up a reference. Contexts that have to be freed now are put on the list *dead. The caller gives that
 * to ctx_dead_free() when it holds no lock. */
void ctx_drop(struct ctx *ctx, struct ctx **dead);
void ctx_dead_add(struct ctx *ctx, struct ctx **dead);
void ctx_dead_free(struct ctx *dead);
/* Takes a reference, unless the last one is gone already. */
bool ctx_ref_if_alive(struct ctx *ctx);
static inline bool refs_take_if_alive(_Atomic uint32_t *refs)
{
        uint32_t n = atomic_load_explicit(refs, memory_order_relaxed);

        do {
                if (n == 0)
                        return false;
        } while (!atomic_compare_exchange_weak_explicit(
                        refs, &n, n + 1, memory_order_relaxed, memory_order_relaxed));
        return true;
}

/* Makes a source and all below it done. Takes the caller's reference on cause. Returns 1 if this call did it,
 * 0 if the context was done before. In both cases everything below is done when it returns. */
int ctx_end(struct ctx *source, uint32_t state, struct cause *cause);
struct ctx_after;
/* What a signal handler has left to do (handler.c): it has made ctx done, at the time `began`, in a thread of
 * that stripe. Gives up a reference. The thread is inside (nest_deeper()). */
void ctx_end_postponed(struct ctx *ctx, uint64_t began, unsigned stripe, struct ctx_after **direct);

/* The library has learned that a shared context is done (state: enum state_word). Makes its local descendants
 * done, and wakes all that wait. May be called again, from any thread. The caller holds a reference. */
void ctx_finish(struct ctx *ctx, uint32_t state, struct cause *cause);

#define EXTRA_IS_FD UINT64_C(1)
/* The struct extra of a source, or NULL. */
static inline struct extra *ctx_known_extra(const struct ctx *source)
{
        uint64_t extra = atomic_load_explicit(&source->extra, memory_order_acquire);

        return extra & EXTRA_IS_FD ? NULL : (struct extra *) (uintptr_t) extra;
}

/* The same; it is made if it is not there. NULL: there is no memory. */
struct extra *ctx_extra(struct ctx *source);
/* The lock is held. Gives the source that struct, unless it has one. Returns false if it has. */
bool extra_put(struct ctx *source, struct extra *extra);
/* The deadline was moved: sets the timer of the descriptor, if there is one. The lock is held. */
void extra_move_timer(struct ctx *source);
/* Makes the descriptor readable, if there is one. The state is set, and no lock is held. */
void extra_fire(struct ctx *source);
void extra_free(struct ctx *source);

/* The descriptor of a local source; it is made if it is not there. The end of a shared ancestor does not make
 * it readable. */
int ctx_local_done_fd(struct ctx *source);

/* Before a futex wait on the word of a source. Returns the word with CTX_WAITERS set, on which to wait; or 0
 * if the word says that the source is done. */
uint32_t ctx_announce_wait(struct ctx *source);

/* A walk has come upon a callback, under the nest's lock (after.c). */
enum after_queued {
        AFTER_NOT,        /* it was stopped, or registered before a fork */
        AFTER_FOR_THREAD, /* it is in the queue of the callback thread, which has to be woken */
        AFTER_DIRECT,     /* it is the library's own, and is on *direct now: see after_run_list() */
};
enum after_queued after_queue(struct ctx_after *after, struct ctx_after **direct);
/* After the walk, without a lock. What is left of them is freed later. */
void after_run_list(struct ctx_after *direct);
