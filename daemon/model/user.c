/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define HASH_NONFATAL_OOM 1
#include "daemon/model/user.h"

struct user *user_ref(struct users *users, uid_t uid)
{
        struct user *user;

        HASH_FIND(hh, users->by_uid, &uid, sizeof uid, user);
        if (user) {
                user->n_ref++;
                return user;
        }
        user = calloc(1, sizeof *user);
        if (!user)
                return NULL;
        user->users = users;
        user->uid = uid;
        user->n_ref = 1;
        TAILQ_INIT(&user->retired);
        TAILQ_INIT(&user->released);
        HASH_ADD(hh, users->by_uid, uid, sizeof user->uid, user);
        if (!user->hh.tbl) {
                free(user);
                return NULL;
        }
        users->n++;
        return user;
}

struct user *user_unref(struct users *users, struct user *user)
{
        if (!user)
                return NULL;
        assert(user->n_ref > 0);
        if (--user->n_ref > 0)
                return NULL;
        for (int i = 0; i < RESOURCES; i++)
                assert(user->used[i] == 0);
        assert(TAILQ_EMPTY(&user->retired) && TAILQ_EMPTY(&user->released) && user->heap_index == 0);
        HASH_DELETE(hh, users->by_uid, user);
        users->n--;
        free(user);
        return NULL;
}

int user_charge(struct user *user, enum resource resource, uint64_t amount)
{
        const struct users *users = user->users;
        uint64_t used;

        if (__builtin_add_overflow(user->used[resource], amount, &used) || used > users->limit[resource])
                return -EDQUOT;
        if (resource == RESOURCE_CONTEXTS && (__builtin_add_overflow(users->total_contexts, amount, &used) ||
                                                             used > users->total_contexts_limit))
                return -EDQUOT;
        user_charge_always(user, resource, amount);
        return 0;
}

void user_charge_always(struct user *user, enum resource resource, uint64_t amount)
{
        user->used[resource] += amount;
        if (resource == RESOURCE_CONTEXTS)
                user->users->total_contexts += amount;
}

void user_discharge(struct user *user, enum resource resource, uint64_t amount)
{
        assert(user->used[resource] >= amount);
        user->used[resource] -= amount;
        if (resource == RESOURCE_CONTEXTS)
                user->users->total_contexts -= amount;
        if (user->used[resource] <= user->users->limit[resource] / 2)
                user->refusal_logged[resource] = false; /* the next refusal is another story */
}

int charge_init(struct charge *charge, struct users *users, struct user *user, enum resource resource,
                uint64_t amount)
{
        int r = user_charge(user, resource, amount);

        if (r < 0)
                return r;
        user->n_ref++;
        *charge = (struct charge){.user = user, .resource = resource, .amount = amount};
        return 0;
}

void charge_deinit(struct charge *charge)
{
        if (!charge->user)
                return;
        user_discharge(charge->user, charge->resource, charge->amount);
        user_unref(charge->user->users, charge->user);
        *charge = (struct charge){};
}

const char *resource_name(enum resource resource)
{
        static const char *const names[RESOURCES] = {
                        [RESOURCE_CONTEXTS] = "contexts",
                        [RESOURCE_HANDLES] = "handles",
                        [RESOURCE_MEMBERS] = "members",
                        [RESOURCE_CONNECTIONS] = "connections",
                        [RESOURCE_QUESTIONS] = "questions to polkit",
                        [RESOURCE_BYTES] = "bytes",
        };

        return names[resource];
}

const char *resource_key(enum resource resource)
{
        static const char *const keys[RESOURCES] = {
                        [RESOURCE_CONTEXTS] = "MaxContextsPerUser",
                        [RESOURCE_HANDLES] = "MaxHandlesPerUser",
                        [RESOURCE_MEMBERS] = "MaxMembersPerUser",
                        [RESOURCE_CONNECTIONS] = "MaxConnectionsPerUser",
                        [RESOURCE_BYTES] = "MaxBytesPerUser",
        };

        return keys[resource];
}
