/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "lib/ctx.h"

/* What most contexts never need, in one object that is made on demand and freed with the context. */

struct extra *ctx_extra(struct ctx *source)
{
        struct extra *extra;
        uint32_t word;

        if (atomic_load_explicit(&source->nest.word, memory_order_acquire) & CTX_EXTRA)
                return source->extra;
        extra = calloc(1, sizeof(struct extra));
        if (!extra)
                return NULL;

        word = nest_lock(&source->nest);
        if (word & CTX_EXTRA) {
                free(extra);
                extra = source->extra;
        } else {
                source->extra = extra;
        }
        nest_unlock(&source->nest, word | CTX_EXTRA);
        return extra;
}

void extra_fire(struct ctx *source, struct extra *extra) {}

void extra_free(struct extra *extra)
{
        free(atomic_load_explicit(&extra->stripes, memory_order_relaxed));
        free(extra);
}
