/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/local/ctx.h"

/* The words of public structs are plain integers, so that the header is C++ as well. */
static inline _Atomic uint32_t *word_of(uint32_t *word)
{
        return (_Atomic uint32_t *) word;
}

/* Before the first ctx_futex_wait() on ctx: 0, the context's error if it is done, or why it cannot be waited for. */
int ctx_futex_begin(struct ctx *ctx);
/* Sleeps while *word is value and ctx is active; may return before. 0, or the context's error. Who gives up after an
 * error may have been woken for something as well, and must look once more. */
int ctx_futex_wait(struct ctx *ctx, _Atomic uint32_t *word, uint32_t value);
