/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/local/ctx.h"

/* A context that something outside of the tree makes done: a hang-up, a signal. That something has it in a
 * list, which holds no reference on it: the last unref takes it out of there. */
struct ctx_found {
        struct ctx_wide wide;
        /* The last reference is gone. Takes the context out of its list. */
        void (*leave)(struct ctx_found *found);
        struct ctx_found *next, **place; /* in the list, under its lock; place NULL: it is in none */
        struct ctx_found *taken;         /* the next of those that are made done */
};

#define LIST_OF_FOUND(first, found) for (struct ctx_found *found = (first); found; found = found->next)

static inline void found_insert(struct ctx_found *found, struct ctx_found **first)
{
        found->next = *first;
        found->place = first;
        if (found->next)
                found->next->place = &found->next;
        *first = found;
}

static inline void found_remove(struct ctx_found *found)
{
        *found->place = found->next;
        if (found->next)
                found->next->place = found->place;
        found->place = NULL;
}

/* Under the lock of the list. Puts the context on *taken, unless its last reference is gone. */
static inline void found_take(struct ctx_found *found, struct ctx_found **taken)
{
        if (!ctx_ref_if_alive(&found->wide.ctx))
                return;
        found->taken = *taken;
        *taken = found;
}

/* Without a lock. Makes all of them done, and gives up the references. The caller keeps cause. Returns how
 * many this call ended. */
static inline unsigned found_end(struct ctx_found *taken, struct cause *cause)
{
        unsigned n = 0;

        while (taken) {
                struct ctx *ctx = &taken->wide.ctx;

                taken = taken->taken;
                ctx_state(ctx); /* if a deadline has passed, or a shared ancestor is done, that was first */
                n += (unsigned) ctx_end(ctx, STATE_WORD_CANCELED, cause_ref(cause));
                ctx_unref(ctx);
        }
        return n;
}
