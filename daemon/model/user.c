/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#define HASH_NONFATAL_OOM 1
#include "daemon/model/context.h"
#include "daemon/model/user.h"
#include "util/share.h"

static struct party *party_ref(struct users *users, uid_t uid)
{
        uint32_t key = share_party(uid);
        struct party *party;

        HASH_FIND(hh, users->parties, &key, sizeof key, party);
        if (!party) {
                party = calloc(1, sizeof *party);
                if (!party)
                        return NULL;
                party->key = key;
                heap_init(&party->wakes, offsetof(struct context, heap_index));
                TAILQ_INIT(&party->endings);
                HASH_ADD(hh, users->parties, key, sizeof party->key, party);
                if (!party->hh.tbl) {
                        free(party);
                        return NULL;
                }
        }
        return user_hold_party(party);
}

struct party *user_hold_party(struct party *party)
{
        party->n_users++;
        return party;
}

void user_release_party(struct users *users, struct party *party)
{
        if (--party->n_users > 0)
                return;
        for (int i = 0; i < POOLS; i++)
                assert(party->held[i] == 0);
        HASH_DELETE(hh, users->parties, party);
        heap_deinit(&party->wakes);
        free(party);
}

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
        user->party = party_ref(users, uid);
        if (!user->party)
                goto fail;
        HASH_ADD(hh, users->by_uid, uid, sizeof user->uid, user);
        if (!user->hh.tbl)
                goto fail;
        users->n++;
        return user;

fail:
        if (user->party)
                user_release_party(users, user->party);
        free(user);
        return NULL;
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
        user_release_party(users, user->party);
        free(user);
        return NULL;
}

/* All but the last eighth. */
static uint64_t pool_most(const struct pool *pool)
{
        return pool->limit - pool->limit / 8;
}

bool pool_is_tight(const struct users *users, enum pool_kind kind)
{
        return users->pools[kind].used > pool_most(&users->pools[kind]);
}

bool pool_is_over(const struct user *user, enum pool_kind kind)
{
        return user->party->held[kind] > 0 && user->users->pools[kind].used > pool_limit(user, kind);
}

uint64_t pool_limit(const struct user *user, enum pool_kind kind)
{
        const struct pool *pool = &user->users->pools[kind];
        uint64_t others = pool->used - user->party->held[kind];
        uint64_t share = others < pool->limit ? others + (pool->limit - others) / 2 : 0;
        uint64_t most = pool_most(pool);

        return share > most ? share : most;
}

static bool pool_takes(const struct user *user, enum pool_kind kind, uint64_t amount)
{
        uint64_t used;

        return !__builtin_add_overflow(user->users->pools[kind].used, amount, &used) &&
               used <= pool_limit(user, kind);
}

static void pool_take(struct user *user, enum pool_kind kind, uint64_t amount)
{
        user->users->pools[kind].used += amount;
        user->party->held[kind] += amount;
}

static void pool_give(struct user *user, enum pool_kind kind, uint64_t amount)
{
        struct pool *pool = &user->users->pools[kind];

        assert(user->party->held[kind] >= amount);
        pool->used -= amount;
        user->party->held[kind] -= amount;
        if (pool->used <= pool->limit / 2)
                pool->refusal_logged = false;
}

/* Descriptors of ours that each one costs. */
static const uint64_t descriptors_of[RESOURCES] = {
                [RESOURCE_HANDLES] = 1,
                [RESOURCE_CONNECTIONS] = 3, /* its socket, and two of its process */
                [RESOURCE_DESCRIPTORS] = 1,
};

static const enum pool_kind pools_of[RESOURCES] = {
                [RESOURCE_CONTEXTS] = POOL_CONTEXTS,
                [RESOURCE_HANDLES] = POOL_DESCRIPTORS,
                [RESOURCE_MEMBERS] = POOL_MEMBERS,
                [RESOURCE_SLOTS] = POOL_SLOTS,
                [RESOURCE_CONNECTIONS] = POOL_DESCRIPTORS,
                [RESOURCE_QUESTIONS] = POOL_QUESTIONS,
                [RESOURCE_BYTES] = POOL_BYTES,
                [RESOURCE_SUBSCRIPTIONS] = POOL_SUBSCRIPTIONS,
                [RESOURCE_INCOMING] = POOL_INCOMING,
                [RESOURCE_STALLED] = POOL_STALLED,
                [RESOURCE_MESSAGES] = POOL_MESSAGES,
                [RESOURCE_UNREAD] = POOL_UNREAD,
                [RESOURCE_FLIGHT] = POOL_FLIGHT,
                [RESOURCE_DESCRIPTORS] = POOL_DESCRIPTORS,
};

enum pool_kind resource_pool(enum resource resource)
{
        return pools_of[resource];
}

/* How much of its pool an amount of the resource costs. */
static uint64_t pool_amount(enum resource resource, uint64_t amount)
{
        return descriptors_of[resource] > 0 ? amount * descriptors_of[resource] : amount;
}

/* So many may root have beyond the pool. They are in the part of the table that is for ourselves. */
#define CONNECTIONS_OF_ROOT 16

bool user_is_at_own_limit(const struct user *user, enum resource resource, uint64_t amount)
{
        uint64_t used;

        return __builtin_add_overflow(user->used[resource], amount, &used) ||
               used > user->users->limit[resource];
}

/* However many uids have used up the pool: root can connect, and end what they have. */
static bool is_kept_for_root(const struct user *user, enum resource resource, uint64_t amount)
{
        return user->uid == 0 && resource == RESOURCE_CONNECTIONS &&
               user->used[resource] + amount <= CONNECTIONS_OF_ROOT;
}

bool user_is_at_limit(const struct user *user, enum resource resource, uint64_t amount)
{
        return user_is_at_own_limit(user, resource, amount) ||
               (!is_kept_for_root(user, resource, amount) &&
                               !pool_takes(user, resource_pool(resource), pool_amount(resource, amount)));
}

int user_charge(struct user *user, enum resource resource, uint64_t amount)
{
        if (amount == 0)
                return 0;
        if (user_is_at_limit(user, resource, amount))
                return -EDQUOT;
        user_charge_always(user, resource, amount);
        return 0;
}

void user_charge_always(struct user *user, enum resource resource, uint64_t amount)
{
        if (resource != RESOURCE_DESCRIPTORS)
                user->used[resource] += amount;
        user->used[RESOURCE_DESCRIPTORS] += amount * descriptors_of[resource];
        pool_take(user, resource_pool(resource), pool_amount(resource, amount));
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
        user->used[RESOURCE_DESCRIPTORS] -= descriptors;
        pool_give(user, resource_pool(resource), pool_amount(resource, amount));
        below_half(user, resource);
}

int charge_init(struct charge *charge, struct users *users, struct user *user, enum resource resource,
                uint64_t amount)
{
        int r = amount > 0 ? user_charge(user, resource, amount) : 0;

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

void charge_set(struct charge *charge, uint64_t amount)
{
        if (amount > charge->amount)
                user_charge_always(charge->user, charge->resource, amount - charge->amount);
        else
                user_discharge(charge->user, charge->resource, charge->amount - amount);
        charge->amount = amount;
}

void charge_deinit(struct charge *charge)
{
        if (!charge->user)
                return;
        user_discharge(charge->user, charge->resource, charge->amount);
        user_unref(charge->user->users, charge->user);
        *charge = (struct charge){};
}

struct charge *charge_move(struct charge *charge)
{
        struct charge *moved = malloc(sizeof *moved);

        if (!moved)
                return NULL;
        *moved = *charge;
        *charge = (struct charge){};
        return moved;
}

void charge_free(void *charge)
{
        charge_deinit(charge);
        free(charge);
}

const char *resource_name(enum resource resource)
{
        static const char *const names[RESOURCES] = {
                        [RESOURCE_CONTEXTS] = "contexts",
                        [RESOURCE_HANDLES] = "handles",
                        [RESOURCE_MEMBERS] = "members",
                        [RESOURCE_SLOTS] = "contexts with members",
                        [RESOURCE_CONNECTIONS] = "connections",
                        [RESOURCE_QUESTIONS] = "questions to polkit",
                        [RESOURCE_BYTES] = "bytes",
                        [RESOURCE_SUBSCRIPTIONS] = "subscriptions",
                        [RESOURCE_INCOMING] = "bytes of unfinished messages",
                        [RESOURCE_STALLED] = "connections that do not read",
                        [RESOURCE_MESSAGES] = "unread messages",
                        [RESOURCE_UNREAD] = "bytes of unread replies",
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
                        [RESOURCE_UNREAD] = "MaxUnreadBytesPerUser",
                        [RESOURCE_FLIGHT] = "LimitNOFILE",
                        [RESOURCE_DESCRIPTORS] = "LimitNOFILE",
        };

        return keys[resource];
}

static const struct {
        const char *name, *key;
} pool_texts[POOLS] = {
                [POOL_CONTEXTS] = {"contexts of all users", "MaxContexts"},
                [POOL_DESCRIPTORS] = {"descriptors of all users", "LimitNOFILE"},
                [POOL_MEMBERS] = {"members of all users", "MaxMembers"},
                [POOL_SLOTS] = {"contexts with members of all users", NULL},
                [POOL_QUESTIONS] = {"questions to polkit of all users", NULL},
                [POOL_BYTES] = {"bytes of all users", "MaxBytes"},
                [POOL_SUBSCRIPTIONS] = {"subscriptions of all users", "MaxSubscriptions"},
                [POOL_INCOMING] = {"bytes of unfinished messages of all users", NULL},
                [POOL_STALLED] = {"connections of all users that do not read", NULL},
                [POOL_MESSAGES] = {"unread messages of all users", NULL},
                [POOL_UNREAD] = {"bytes of unread replies of all users", "MaxUnreadBytes"},
                [POOL_FLIGHT] = {"descriptors of all users that were not received yet", "LimitNOFILE"},
};

const char *pool_name(enum pool_kind kind)
{
        return pool_texts[kind].name;
}

const char *pool_key(enum pool_kind kind)
{
        return pool_texts[kind].key;
}
