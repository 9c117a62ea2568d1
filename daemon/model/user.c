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

uint64_t pool_limit(const struct pool *pool, uint64_t held)
{
        uint64_t reserve = pool->limit / 8;

        return held <= reserve ? pool->limit : pool->limit - reserve;
}

static bool pool_takes(const struct pool *pool, uint64_t held, uint64_t amount)
{
        uint64_t used;

        return !__builtin_add_overflow(pool->used, amount, &used) && used <= pool_limit(pool, held + amount);
}

/* Descriptors of ours that each one costs. */
static const uint64_t descriptors_of[RESOURCES] = {
                [RESOURCE_HANDLES] = 1,
                [RESOURCE_CONNECTIONS] = 3, /* its socket, and two of its process */
                [RESOURCE_DESCRIPTORS] = 1,
};

bool user_is_at_limit(const struct user *user, enum resource resource, uint64_t amount)
{
        uint64_t used;

        return __builtin_add_overflow(user->used[resource], amount, &used) ||
               used > user->users->limit[resource];
}

int user_charge(struct user *user, enum resource resource, uint64_t amount)
{
        const struct users *users = user->users;
        uint64_t descriptors = descriptors_of[resource];

        if (user_is_at_limit(user, resource, amount))
                return -EDQUOT;
        if (resource == RESOURCE_CONTEXTS && !pool_takes(&users->contexts, user->used[resource], amount))
                return -EDQUOT;
        if (descriptors > 0 && !pool_takes(&users->descriptors, user->used[RESOURCE_DESCRIPTORS],
                                               amount * descriptors))
                return -EDQUOT;
        user_charge_always(user, resource, amount);
        return 0;
}

void user_charge_always(struct user *user, enum resource resource, uint64_t amount)
{
        uint64_t descriptors = amount * descriptors_of[resource];

        if (resource != RESOURCE_DESCRIPTORS)
                user->used[resource] += amount;
        if (resource == RESOURCE_CONTEXTS)
                user->users->contexts.used += amount;
        user->used[RESOURCE_DESCRIPTORS] += descriptors;
        user->users->descriptors.used += descriptors;
}

static void below_half(struct user *user, enum resource resource)
{
        if (user->used[resource] <= user->users->limit[resource] / 2)
                user->refusal_logged[resource] = false; /* the next refusal is another story */
}

void user_discharge(struct user *user, enum resource resource, uint64_t amount)
{
        uint64_t descriptors = amount * descriptors_of[resource];

        assert(user->used[resource] >= amount && user->used[RESOURCE_DESCRIPTORS] >= descriptors);
        if (resource != RESOURCE_DESCRIPTORS)
                user->used[resource] -= amount;
        if (resource == RESOURCE_CONTEXTS)
                user->users->contexts.used -= amount;
        user->used[RESOURCE_DESCRIPTORS] -= descriptors;
        user->users->descriptors.used -= descriptors;
        below_half(user, resource);
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

int charge_resize(struct charge *charge, uint64_t amount)
{
        if (amount > charge->amount) {
                int r = user_charge(charge->user, charge->resource, amount - charge->amount);

                if (r < 0)
                        return r;
        } else {
                user_discharge(charge->user, charge->resource, charge->amount - amount);
        }
        charge->amount = amount;
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
                        [RESOURCE_SUBSCRIPTIONS] = "subscriptions",
                        [RESOURCE_INCOMING] = "bytes of unfinished messages",
                        [RESOURCE_STALLED] = "connections that do not read",
                        [RESOURCE_FLIGHT] = "descriptors that were not received yet",
                        [RESOURCE_DESCRIPTORS] = "descriptors",
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
                        [RESOURCE_SUBSCRIPTIONS] = "MaxSubscriptionsPerUser",
                        [RESOURCE_FLIGHT] = "LimitNOFILE",
                        [RESOURCE_DESCRIPTORS] = "LimitNOFILE",
        };

        return keys[resource];
}
