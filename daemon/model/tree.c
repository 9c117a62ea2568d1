/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/model/internal.h"
#include "proto/membership.h"

#define RETAIN_USEC (30 * UINT64_C(1000000))
#define GRACE_USEC (5 * UINT64_C(1000000))
#define IN_PASSING 16 /* what is overdue, and a verb does before it begins */

int tree_new(struct tree **ret)
{
        struct tree *t = calloc(1, sizeof *t);
        uint64_t key[2];

        if (!t)
                return -ENOMEM;
        STAILQ_INIT(&t->effects);
        STAILQ_INIT(&t->forgotten);
        TAILQ_INIT(&t->endings);
        TAILQ_INIT(&t->ended);
        LIST_INIT(&t->cursors);
        t->slice = UINT32_MAX;
        heap_init(&t->due, offsetof(struct party, due_index));
        TAILQ_INIT(&t->ending);
        heap_init(&t->retiring, offsetof(struct user, heap_index));
        t->retain_usec = RETAIN_USEC;
        t->default_grace_usec = GRACE_USEC;
        t->max_value_bytes = UINT64_MAX;
        t->daemon_uid = 0;
        for (int i = 0; i < RESOURCES; i++)
                t->users.limit[i] = UINT64_MAX;
        for (int i = 0; i < POOLS; i++)
                t->users.pools[i].limit = UINT64_MAX;
        t->users.pools[POOL_SLOTS].limit = MEMBERSHIP_SLOTS_MAX - 1;

        t->background = calloc(1, sizeof *t->background + 1);
        if (!t->background || getrandom(key, sizeof key, 0) != sizeof key ||
                        index_init(&t->by_name, context_hash_name, key) < 0 ||
                        index_init(&t->by_id, context_hash_id, key) < 0) {
                tree_free(t);
                return -ENOMEM;
        }
        LIST_INIT(&t->background->children);
        t->background->mode = CONTEXT_MODE_DEFAULT;
        t->background->deadline_usec = t->background->wake_usec = UINT64_MAX;
        t->background->grace_usec = UINT64_MAX;
        *ret = t;
        return 0;
}

struct tree *tree_free(struct tree *t)
{
        struct context *c, *parent;

        if (!t)
                return NULL;
        endings_deinit(t);
        while ((c = STAILQ_FIRST(&t->forgotten))) {
                STAILQ_REMOVE_HEAD(&t->forgotten, forgetting);
                context_free(c);
        }
        /* From the leaves, without recursion. */
        for (c = t->background; c; c = parent) {
                struct context *child;

                while ((child = LIST_FIRST(&c->children)))
                        c = child;
                parent = c->parent;
                if (parent) {
                        LIST_REMOVE(c, siblings);
                        context_unretire(t, c);
                        context_discharge(c);
                }
                context_free(c);
        }
        index_deinit(&t->by_name);
        index_deinit(&t->by_id);
        heap_deinit(&t->due);
        heap_deinit(&t->retiring);
        free(t);
        return NULL;
}

uint64_t context_bytes(const struct context *c)
{
        uint64_t bytes = strlen(context_description(c));

        for (unsigned i = 0; i < c->n_values; i++)
                bytes += strlen(c->values[i].key) + strlen(c->values[i].value);
        if (c->cause)
                bytes += strlen(c->cause->message);
        return bytes;
}

void context_discharge(struct context *c)
{
        struct user *user = c->user;

        user_discharge(user, RESOURCE_CONTEXTS, 1);
        user_discharge(user, RESOURCE_BYTES, context_bytes(c));
        c->user = user_unref(user->users, user);
}

struct context *context_free(struct context *c)
{
        if (!c)
                return NULL;
        assert(!c->user);
        free(c->cause);
        free(c->values); /* one block with all of its strings */
        free(c->policies);
        free(c);
        return NULL;
}

uint32_t tree_collect(struct tree *t, uint32_t n)
{
        struct context *c;
        uint32_t freed = 0;

        /* Children were forgotten before their parents. */
        for (; freed < n && (c = STAILQ_FIRST(&t->forgotten)) && c->pending == 0; freed++) {
                STAILQ_REMOVE_HEAD(&t->forgotten, forgetting);
                context_free(c);
        }
        return freed;
}

void effect_add(struct tree *t, struct context *c, unsigned effects)
{
        if (c->pending == 0)
                STAILQ_INSERT_TAIL(&t->effects, c, effects);
        c->pending |= (uint16_t) effects;
}

void context_decided(struct tree *t, struct context *c, unsigned decisions)
{
        c->decided |= (uint8_t) decisions;
        effect_add(t, c, EFFECT_RECORD);
}

void context_decided_forgotten(struct context *c)
{
        c->decided = c->decided & DECIDED_MADE ? 0 : DECIDED_FORGOTTEN;
}

struct context *effect_take(struct tree *t, unsigned *ret_effects)
{
        return effect_take_from(&t->effects, ret_effects);
}

struct context *effect_take_from(struct effect_queue *queue, unsigned *ret_effects)
{
        struct context *c;

        while ((c = STAILQ_FIRST(queue))) {
                unsigned effects = c->pending & ~(unsigned) EFFECT_RECORD;

                STAILQ_REMOVE_HEAD(queue, effects);
                c->pending = 0;
                c->decided = 0;
                if (effects != 0) {
                        *ret_effects = effects;
                        return c;
                }
        }
        return NULL;
}

uint32_t tree_part_of_slice(const struct tree *t, uint32_t most)
{
        return t->slice < most || t->slice == UINT32_MAX ? t->slice : most;
}

int tree_settle(struct tree *t, uint64_t now_usec)
{
        uint32_t budget = tree_part_of_slice(t, IN_PASSING);

        return tree_settle_some(t, now_usec, &budget);
}
