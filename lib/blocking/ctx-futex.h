/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/local/ctx.h"

/* The public structs have plain integers, because the public header has to be C++ too. */
static inline _Atomic uint32_t *word_of(uint32_t *word)
{
        return (_Atomic uint32_t *) word;
}

/* Call this before the first ctx_futex_wait() on ctx. Returns 0; the context's error if it is done; or why it
 * cannot be waited for. */
int ctx_futex_begin(struct ctx *ctx);
/* Sleeps while *word is value and ctx is active; may return early. Returns 0 or the context's error. A caller
 * that gives up because of an error must look at the word once more: it may have been woken for a change as
 * well. */
int ctx_futex_wait(struct ctx *ctx, _Atomic uint32_t *word, uint32_t value, enum futex_cancel cancel);
