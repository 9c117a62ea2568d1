/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "lib/local/after.h"
#include "lib/local/later.h"

/* A cancel may be in a signal handler that has interrupted malloc(). So a cancel frees nothing, and runs no
 * destructor of a value. What it was the last to hold is left here: contexts that their owners gave up
 * meanwhile, callbacks of the library's own, causes.
 *
 * Every ctx_unref() takes what is there. Whoever cancels a context has a reference on it, or knows that
 * somebody has, until the cancel has returned. So nothing is left for longer than the program keeps the
 * context that was cancelled. */

_Atomic bool later_any;
void (*later_settle)(void);
static _Atomic bool any_shared;

static struct ctx *_Atomic contexts;
static struct ctx_after *_Atomic callbacks;
static struct cause *_Atomic causes;

void later_contexts(struct ctx *dead)
{
        struct ctx *last = dead;

        if (!dead)
                return;
        while (last->source)
                last = last->source;
        last->source = atomic_load(&contexts);
        while (!atomic_compare_exchange_weak(&contexts, &last->source, dead))
                ;
        atomic_store(&later_any, true);
}

void later_callback(struct ctx_after *after)
{
        after->queued = atomic_load(&callbacks);
        while (!atomic_compare_exchange_weak(&callbacks, &after->queued, after))
                ;
        atomic_store(&later_any, true);
}

/* The count of a cause that nobody has any more is the place for the list. */
static void later_cause(struct cause *cause)
{
        struct cause *next = atomic_load(&causes);

        do
                atomic_store_explicit(&cause->refs, (int64_t) (intptr_t) next, memory_order_relaxed);
        while (!atomic_compare_exchange_weak(&causes, &next, cause));
        atomic_store(&later_any, true);
}

void later_cause_drop(struct cause *cause, int64_t n)
{
        if (cause_is_object(cause) && atomic_fetch_sub_explicit(&cause->refs, n, memory_order_acq_rel) == n)
                later_cause(cause);
}

void later_shared(void)
{
        atomic_store(&any_shared, true);
        atomic_store(&later_any, true);
}

struct ctx *later_take(void)
{
        struct ctx *dead;
        struct ctx_after *after;
        struct cause *cause;

        if (!atomic_load_explicit(&later_any, memory_order_relaxed) || !atomic_exchange(&later_any, false))
                return NULL;
        if (atomic_exchange(&any_shared, false) && later_settle)
                later_settle();
        dead = atomic_exchange(&contexts, NULL);
        after = atomic_exchange(&callbacks, NULL);
        cause = atomic_exchange(&causes, NULL);
        while (after) {
                struct ctx_after *next = after->queued;

                after_end(after, &dead);
                after = next;
        }
        while (cause) {
                struct cause *next = (struct cause *) (intptr_t) atomic_load_explicit(
                                &cause->refs, memory_order_relaxed);

                free(cause);
                cause = next;
        }
        return dead;
}
