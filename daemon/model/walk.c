/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/model/internal.h"

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

void tree_set_cursor(struct tree *t, struct cursor *k, const struct context *root, const struct context *next)
{
        k->root = root;
        k->next = next;
        k->extends = false;
        LIST_INSERT_HEAD(&t->cursors, k, cursors);
}

void tree_unset_cursor(struct cursor *k)
{
        LIST_REMOVE(k, cursors);
}

void tree_step_cursors_over(struct tree *t, const struct context *c)
{
        struct cursor *k;

        LIST_FOREACH (k, &t->cursors, cursors) {
                if (k->next == c)
                        k->next = context_next_skip(c, k->root);
                if (k->root == c)
                        k->root = NULL;
        }
}
