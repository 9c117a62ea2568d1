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
 * into every descendant (cancel.c), and a deadline is inherited as a number. So ctx_err() is two loads,
 * however deep the context is.
 *
 * What keeps a context alive: `refs` counts the references of the program, and those of contexts that are not
 * in the list of children (values, views). `kids` of the nest counts the children. The context is freed when
 * both are zero. A parent does not hold its children: a child leaves the list when it is cancelled, when a
 * cancel comes from above, or with its last unref, whichever comes first. */

enum ctx_kind {
        CTX_KIND_BACKGROUND,
        CTX_KIND_TODO,
        CTX_KIND_CANCEL, /* with or without a deadline: see CTX_DEADLINE */
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
        _Atomic int fd; /* that of ctx_done_fd(), plus 1; 0: none yet. Written under the context's lock */
        _Atomic unsigned fork_generation; /* of fd */
};

struct ctx {
        struct nest nest;
        struct ctx *source;
        struct child child;
        struct cause *cause; /* written once, under the lock, before the state */
        /* CLOCK_BOOTTIME; the earliest deadline of the local contexts from here up, or CTX_NEVER. */
        uint64_t deadline_usec;
        struct ctx *values;  /* the nearest value from here up */
        struct extra *extra; /* written once, under the lock */
};

/* What some contexts have besides: those under a shared context, those with a deadline and a cause for it,
 * and every value, merge and shared context. */
struct ctx_wide {
        struct ctx ctx;
        struct ctx *shared; /* the nearest shared context from here up, or NULL */
        /* With CTX_SHARED: when this one is done, the context is done. It is the nearest shared context, or
         * one that stands for several (merge-shared.c). */
        struct ctx *done;
        struct cause *deadline_cause; /* the cause once the deadline has passed */
};

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
        size_t n_arms;
        struct arm arms[];
};

static inline bool ctx_never_done(const struct ctx *source)
{
        return source->child.kind == CTX_KIND_BACKGROUND || source->child.kind == CTX_KIND_TODO ||
               source->child.kind == CTX_KIND_WITHOUT_CANCEL;
}

/* -ECANCELED or -ETIMEDOUT, by enum state_word; 0 stays 0. */
static inline int state_to_errno(uint32_t state)
{
        static const int16_t errors[4] = {0, -125, -110, -125};

        return errors[state & CTX_STATE];
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

/* The library has learned that a shared context is done (state: enum state_word). Makes its local descendants
 * done, and wakes all that wait. May be called again, from any thread. The caller holds a reference. */
void ctx_finish(struct ctx *ctx, uint32_t state, struct cause *cause);

/* The struct extra of a source; it is made if it is not there. NULL: there is no memory. */
struct extra *ctx_extra(struct ctx *source);
/* Makes the descriptor readable, if there is one. The state is set, and no lock is held. */
void extra_fire(struct ctx *source, struct extra *extra);
void extra_free(struct extra *extra);

/* The descriptor of a local source; it is made if it is not there. The end of a shared ancestor does not make
 * it readable. */
int ctx_local_done_fd(struct ctx *source);

/* Before a futex wait on the word of a source. Returns the word with CTX_WAITERS set, on which to wait; or 0
 * if the word says that the source is done. */
uint32_t ctx_announce_wait(struct ctx *source);

/* A walk has come upon a callback, under the nest's lock (after.c). */
struct ctx_after;
enum after_queued {
        AFTER_NOT,        /* it was stopped, or registered before a fork */
        AFTER_FOR_THREAD, /* it is in the queue of the callback thread, which has to be woken */
        AFTER_DIRECT,     /* it is the library's own, and is on *direct now: see after_run_list() */
};
enum after_queued after_queue(struct ctx_after *after, struct ctx_after **direct);
/* At the end of the walk, without a lock. */
void after_run_list(struct ctx_after *direct);
