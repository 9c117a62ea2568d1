/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Why a context is done. A cause is a pointer. It points to an object with a reference count; or it is a
 * number that is no valid pointer, so that the common causes need no memory. The two lowest bits are always
 * 0: there the state stands beside it (`end` of struct ctx). */

struct cause {
        _Atomic int64_t refs;
        int error;
        char message[];
};

#define CAUSE_DEFAULT ((struct cause *) 0)
/* The nearest shared ancestor has to be asked. */
#define CAUSE_SHARED ((struct cause *) 4)
/* An errno, with the default text. */
#define CAUSE_ERROR(error) ((struct cause *) (((uintptr_t) (unsigned) (error) << 3) | 4))

static inline bool cause_is_object(const struct cause *cause)
{
        return cause && ((uintptr_t) cause & 7) == 0;
}

static inline struct cause *cause_without_text(int error)
{
        return error ? CAUSE_ERROR(error) : CAUSE_DEFAULT;
}

/* No text, and an empty one, stand for the default. So they do for the daemon. */
static inline bool cause_has_text(const char *message)
{
        return message && message[0] != '\0';
}

/* If there is no text, or no memory for it, the error is kept alone. */
struct cause *cause_new(int error, const char *message);
static inline struct cause *cause_ref(struct cause *cause)
{
        if (cause_is_object(cause))
                atomic_fetch_add_explicit(&cause->refs, 1, memory_order_relaxed);
        return cause;
}
/* Gives up n references. */
void cause_drop_object(struct cause *cause, int64_t n);
static inline void cause_drop(struct cause *cause, int64_t n)
{
        if (cause_is_object(cause))
                cause_drop_object(cause, n);
}
/* state: of the context that has this cause. */
void cause_read(struct cause *cause, uint32_t state, int *ret_error, const char **ret_message);
