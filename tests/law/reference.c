/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "tests/law/reference.h"

#define EACH(n, m)                                                                \
        (struct node *n = (struct node *) (m)->nodes; n < (m)->nodes + NODES_MAX; \
                        n++) if (n->used && !n->forgotten)

static uint64_t add(uint64_t a, uint64_t b)
{
        return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

struct node *node_new(struct reference_model *m, struct node *parent, const char *label)
{
        struct node *n = m->nodes;

        while (n->used)
                n++;
        *n = (struct node){.used = true, .parent = parent, .own = UINT64_MAX};
        snprintf(n->label, sizeof n->label, "%s", label);
        return n;
}

struct node *node_child(struct reference_model *m, const struct node *parent, const char *label)
{
        for
                EACH(n, m)
        if (n->parent == parent && !n->released && strcmp(n->label, label) == 0)
                return n;
        return NULL;
}

bool node_is_below(const struct node *n, const struct node *a)
{
        while (n && n != a)
                n = n->parent;
        return n == a;
}

bool node_has_children(const struct reference_model *m, const struct node *p)
{
        for
                EACH(n, m)
        if (n->parent == p)
                return true;
        return false;
}

bool node_is_held(const struct node *n)
{
        return n->busy || n->n_handles > 0;
}

uint64_t node_effective(const struct node *n)
{
        uint64_t above;

        if (!n)
                return UINT64_MAX;
        if (n->state != CONTEXT_ACTIVE)
                return n->effective;
        above = node_effective(n->parent);
        return n->own < above ? n->own : above;
}

void node_path(const struct node *n, char *buffer, size_t size)
{
        char above[2048] = "";

        if (n->parent)
                node_path(n->parent, above, sizeof above);
        snprintf(buffer, size, "%s%s%s", above, n->parent ? "/" : "", n->label);
}

static bool busy_below(struct reference_model *m, const struct node *a)
{
        for
                EACH(n, m)
        if (n->busy && node_is_below(n, a))
                return true;
        return false;
}

static void end_one(struct reference_model *m, uint64_t now_usec, struct node *n, enum context_state state,
                struct node *origin)
{
        n->effective = node_effective(n);
        n->state = state;
        n->origin = origin;
        n->done_usec = n->unheld_usec = now_usec;
        n->effects |= EFFECT_DONE;
        reference_drain(m, now_usec);
}

void reference_born(struct reference_model *m, uint64_t now_usec, struct node *n)
{
        n->effects = EFFECT_NEW;
        if (n->parent && n->parent->state != CONTEXT_ACTIVE)
                end_one(m, now_usec, n, n->parent->state, n->parent->origin);
        else if (n->own <= now_usec)
                end_one(m, now_usec, n, CONTEXT_DEADLINE_EXCEEDED, n);
        if (n->state != CONTEXT_ACTIVE)
                n->effects |= EFFECT_ROOT;
}

unsigned reference_end(
                struct reference_model *m, uint64_t now_usec, struct node *root, enum context_state state)
{
        unsigned count = 0;

        /* The deadlines are kept as they were, so children before parents. */
        for
                EACH(n, m)
        if (n->state == CONTEXT_ACTIVE && node_is_below(n, root))
                n->effective = node_effective(n);
        for
                EACH(n, m)
        if (n->state == CONTEXT_ACTIVE && node_is_below(n, root)) {
                uint64_t effective = n->effective;

                end_one(m, now_usec, n, state, root);
                n->effective = effective;
                count++;
        }
        root->effects |= EFFECT_ROOT;
        return count;
}

void reference_drain(struct reference_model *m, uint64_t now_usec)
{
        for
                EACH(n, m)
        if (n->state != CONTEXT_ACTIVE && n->drained_usec == 0 && !busy_below(m, n)) {
                n->drained_usec = now_usec;
                n->effects |= EFFECT_DRAINED;
        }
}

static unsigned depth(const struct node *n)
{
        return n ? 1 + depth(n->parent) : 0;
}

void reference_forget(struct reference_model *m, uint64_t now_usec)
{
        bool again;

        do {
                again = false;
                for
                        EACH(n, m)
                if (n->state != CONTEXT_ACTIVE && !node_is_held(n) && !node_has_children(m, n) &&
                                add(n->unheld_usec, m->retain_usec) <= now_usec) {
                        n->forgotten = again = true;
                        n->effects |= EFFECT_REMOVED;
                }
        } while (again);
}

void reference_settle(struct reference_model *m, uint64_t now_usec)
{
        for (;;) {
                struct node *first = NULL;

                for
                        EACH(n, m)
                if (n->state == CONTEXT_ACTIVE && n->own <= now_usec &&
                                (!first || n->own < first->own ||
                                                (n->own == first->own && depth(n) < depth(first))))
                        first = n;
                if (!first)
                        break;
                reference_end(m, now_usec, first, CONTEXT_DEADLINE_EXCEEDED);
        }
        for
                EACH(n, m)
                {
                        bool due = false;

                        for (unsigned i = 0; n->state != CONTEXT_ACTIVE && n->busy && i < n->n_kills; i++) {
                                uint64_t usec = add(n->done_usec, n->kills[i]);

                                due |= usec >= n->kill_from && usec <= now_usec;
                        }
                        if (due) {
                                n->effects |= EFFECT_KILL;
                                n->kill_from = now_usec + 1;
                        }
                }
        reference_forget(m, now_usec);
        m->settled_usec = now_usec;
}

/* Its time is not over yet; afterwards it may only wait for its children. */
bool node_waits(const struct reference_model *m, const struct node *n)
{
        return n->state != CONTEXT_ACTIVE && !node_is_held(n) &&
               add(n->unheld_usec, m->retain_usec) > m->settled_usec;
}

void reference_release(struct reference_model *m, uint64_t now_usec, struct node *root)
{
        for
                EACH(n, m)
        if (node_is_below(n, root) && !n->released) {
                if (node_waits(m, n))
                        n->unheld_usec = now_usec;
                n->released = true;
        }
}

void reference_extend(
                struct reference_model *m, uint64_t now_usec, struct node *moved, uint64_t deadline_usec)
{
        for
                EACH(n, m)
        if (n->state == CONTEXT_ACTIVE)
                n->effective = node_effective(n);
        moved->own = deadline_usec;
        for
                EACH(n, m)
        if (n->state == CONTEXT_ACTIVE && n->effective != node_effective(n))
                n->effects |= EFFECT_MOVED;
        reference_settle(m, now_usec);
}

uint64_t reference_next(const struct reference_model *m)
{
        uint64_t next = UINT64_MAX;

        for
                EACH(n, m)
                {
                        uint64_t usec = UINT64_MAX;

                        if (n->state == CONTEXT_ACTIVE)
                                usec = n->own;
                        else if (node_waits(m, n))
                                usec = add(n->unheld_usec, m->retain_usec);
                        for (unsigned i = 0; n->state != CONTEXT_ACTIVE && n->busy && i < n->n_kills; i++) {
                                uint64_t kill = add(n->done_usec, n->kills[i]);

                                if (kill >= n->kill_from && kill < usec)
                                        usec = kill;
                        }
                        if (usec < next)
                                next = usec;
                }
        return next;
}
