/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <uthash.h>

#include "daemon/model/heap.h"

/* Counts what each uid makes the daemon keep, and limits it twice: each resource has a limit for each uid,
 * and is taken from a pool that all uids share, since one user may have 65,536 of them. A charge lies in
 * the object that it is for, so it cannot be forgotten when the object goes. charge_init() takes, and
 * charge_deinit() gives back. */

enum resource {
        RESOURCE_CONTEXTS,
        RESOURCE_HANDLES,
        RESOURCE_MEMBERS, /* in contexts of that uid; more may be born into them */
        RESOURCE_SLOTS,   /* contexts with members */
        RESOURCE_CONNECTIONS,
        RESOURCE_QUESTIONS, /* calls that wait for polkit */
        RESOURCE_BYTES,     /* of values, causes and descriptions */
        RESOURCE_SUBSCRIPTIONS,
        RESOURCE_INCOMING,    /* bytes of messages that are not whole yet */
        RESOURCE_STALLED,     /* connections with replies that nobody reads */
        RESOURCE_MESSAGES,    /* replies and signals that were not read yet */
        RESOURCE_UNREAD,      /* bytes of replies that were not read yet */
        RESOURCE_FLIGHT,      /* descriptors in replies that were not read yet */
        RESOURCE_DESCRIPTORS, /* places in the daemon's table; other charges include these, see user.c */
        RESOURCES,
};

/* What all uids share. Each resource is taken from one of these. */
enum pool_kind {
        POOL_CONTEXTS,
        POOL_DESCRIPTORS, /* handles and connections, too */
        POOL_MEMBERS,
        POOL_SLOTS,
        POOL_QUESTIONS,
        POOL_BYTES,
        POOL_SUBSCRIPTIONS,
        POOL_INCOMING,
        POOL_STALLED,
        POOL_MESSAGES,
        POOL_UNREAD,
        POOL_FLIGHT,
        POOLS,
};

struct context;

TAILQ_HEAD(retirement, context);

struct user {
        struct users *users;
        uid_t uid;
        uint32_t n_ref;
        struct party *party;
        uint64_t used[RESOURCES];
        bool refusal_logged[RESOURCES]; /* no other line is logged before less than half is used again */
        /* Its done contexts that only wait for their retention to be over, oldest first. Those in retired
         * have their path. Those in released do not, and go earlier if room is needed. */
        struct retirement retired, released;
        uint32_t heap_index; /* in the tree's heap of those who have any */
        UT_hash_handle hh;
};

/* Those who share one part of what all share: a uid, or all subordinate uids of a block (util/share.h). */
struct party {
        uint32_t key;
        uint32_t n_users; /* and other references */
        uint64_t held[POOLS];

        /* Of the tree (due.c). */
        struct heap wakes;   /* contexts by wake_usec */
        uint32_t n_reserved; /* how many contexts have room in it */
        uint32_t due_index;  /* in the tree's heap of parties */
        TAILQ_HEAD(, ending) endings;
        uint32_t n_endings;
        bool is_ending; /* it is in the tree's list of those with endings */
        bool is_taken;  /* somebody does its work (tree_take_behind): it is in neither of the two */
        TAILQ_ENTRY(party) ending;

        UT_hash_handle hh;
};

/* Takes a reference, and gives it up. */
struct party *user_hold_party(struct party *party);
void user_release_party(struct users *users, struct party *party);

/* A party may take all but the last eighth of a pool. Beyond that it may hold half of what the others leave.
 * So those who take as much as they may leave something for the next. */
struct pool {
        uint64_t used, limit;
        bool refusal_logged; /* no other line is logged before less than half is used again */
};

struct users {
        struct user *by_uid;
        struct party *parties; /* by key */
        uint32_t n;
        uint64_t limit[RESOURCES]; /* for each uid; 0 (root) has the same */
        struct pool pools[POOLS];
};

struct charge {
        struct user *user; /* NULL: nothing charged */
        enum resource resource;
        uint64_t amount;
};

/* Gives a reference to the user of that uid. NULL: there is no memory. */
struct user *user_ref(struct users *users, uid_t uid);
struct user *user_unref(struct users *users, struct user *user);

/* How much of the pool may be used in all, with what that user wants. */
uint64_t pool_limit(const struct user *user, enum pool_kind kind);
/* Whether more of it is used than that. Nobody is over where it is not tight. */
bool pool_is_over(const struct user *user, enum pool_kind kind);
bool pool_is_tight(const struct users *users, enum pool_kind kind);
/* The pool that a charge for the resource is taken from. */
enum pool_kind resource_pool(enum resource resource);

/* 0, or -EDQUOT and nothing is charged. The charge holds a reference to the user. tree_charge() does the
 * same, and fills in what the caller is told. */
int charge_init(struct charge *charge, struct users *users, struct user *user, enum resource resource,
                uint64_t amount);
void charge_deinit(struct charge *charge);
/* Moves a charge to memory of its own, for what outlives the object. NULL: there is none, and the charge
 * stays where it is. charge_free() takes such a one, gives it back, and frees it. */
struct charge *charge_move(struct charge *charge);
void charge_free(void *charge);
/* Changes the amount of a charge. 0, or -EDQUOT and nothing is changed. */
int charge_resize(struct charge *charge, uint64_t amount);
/* The same for what cannot be refused. The amount may go over the limit. */
void charge_set(struct charge *charge, uint64_t amount);

/* The same without a struct charge, for objects of which there are a million, and which keep the amount
 * themselves. user_charge_always() is for what cannot be refused, such as the cause of a cancel. It may bring
 * the user over the limit; then the next charge is refused. */
int user_charge(struct user *user, enum resource resource, uint64_t amount);
void user_charge_always(struct user *user, enum resource resource, uint64_t amount);
void user_discharge(struct user *user, enum resource resource, uint64_t amount);

/* Whether that much more would be refused, because of the user's own limit or of what all share. */
bool user_is_at_limit(const struct user *user, enum resource resource, uint64_t amount);
/* The same because of the user's own limit alone. */
bool user_is_at_own_limit(const struct user *user, enum resource resource, uint64_t amount);

/* For an error's text: the resource, such as "contexts", and the key of the configuration that raises its
 * limit, such as "MaxContextsPerUser", or NULL. */
const char *resource_name(enum resource resource);
const char *resource_key(enum resource resource);
/* The same of a pool, such as "contexts of all users" and "MaxContexts". */
const char *pool_name(enum pool_kind kind);
const char *pool_key(enum pool_kind kind);
