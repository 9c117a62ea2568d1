/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/model/tree.h"

struct context *context_next_skip(const struct context *c, const struct context *root)
{
        for (; c != root; c = c->parent) {
                struct context *sibling = LIST_NEXT(c, siblings);

                if (sibling)
                        return sibling;
        }
        return NULL;
}

struct context *context_next(const struct context *c, const struct context *root)
{
        struct context *child = LIST_FIRST(&c->children);

        return child ? child : context_next_skip(c, root);
}
