/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <uthash.h>

/* What each uid may make the daemon keep. A charge lies in the object that it is for, so that it cannot be
 * forgotten when the object goes: charge_init() takes, charge_deinit() gives back. */

enum resource {
        RESOURCE_CONTEXTS,
        RESOURCE_HANDLES,
        RESOURCE_MEMBERS, /* attaches */
        RESOURCE_CONNECTIONS,
        RESOURCE_QUESTIONS, /* calls that wait for polkit */
        RESOURCE_BYTES,     /* of values, causes and descriptions */
        RESOURCE_SUBSCRIPTIONS,
        RESOURCE_INCOMING,    /* bytes of messages that are not whole yet */
        RESOURCE_STALLED,     /* connections with replies that nobody reads */
        RESOURCE_FLIGHT,      /* descriptors in replies that were not read yet */
        RESOURCE_DESCRIPTORS, /* of the daemon's table: a handle is one, a connection three, by themselves */
        RESOURCES,
};

struct context;

TAILQ_HEAD(retirement, context);

struct user {
        struct users *users;
        uid_t uid;
        uint32_t n_ref;
        uint64_t used[RESOURCES];
        bool refusal_logged[RESOURCES]; /* one line in the log is enough until it is below half again */
        /* Contexts charged to it that nothing but time holds, oldest first: those that have their path, and
         * released ones, which make room when it is needed. */
        struct retirement retired, released;
        uint32_t heap_index; /* in the tree's heap of those who have any */
        UT_hash_handle hh;
};

/* What all uids share. Its last eighth is for those who hold less than an eighth of it: a few that have
 * taken all they may leave something for the next one. */
struct pool {
        uint64_t used, limit;
};

struct users {
        struct user *by_uid;
        uint32_t n;
        uint64_t limit[RESOURCES]; /* for each uid; 0 (root) has the same */
        struct pool contexts, descriptors;
};

struct charge {
        struct user *user; /* NULL: nothing charged */
        enum resource resource;
        uint64_t amount;
};

/* A reference, made on first use; NULL without memory. */
struct user *user_ref(struct users *users, uid_t uid);
struct user *user_unref(struct users *users, struct user *user);

/* How much of the pool may be in use for one who will then hold that much of it. */
uint64_t pool_limit(const struct pool *pool, uint64_t held);

/* 0, or -EDQUOT (a limit) and nothing is charged. The charge holds a reference on the user. tree_charge()
 * does the same and fills in what the caller is told. */
int charge_init(struct charge *charge, struct users *users, struct user *user, enum resource resource,
                uint64_t amount);
void charge_deinit(struct charge *charge);
int charge_resize(struct charge *charge,
                uint64_t amount); /* of one that was taken: 0, or -EDQUOT and as before */

/* The same without a struct charge, for objects that there are a million of, and which keep the amount
 * themselves. user_charge_always() is for what may not be refused, such as the reason of a cancel: the user
 * may go over the limit by it, and is then refused the next thing that may be. */
int user_charge(struct user *user, enum resource resource, uint64_t amount);
void user_charge_always(struct user *user, enum resource resource, uint64_t amount);
void user_discharge(struct user *user, enum resource resource, uint64_t amount);

/* Would that much more be refused because of the user's own limit, or of what all share? */
bool user_is_at_limit(const struct user *user, enum resource resource, uint64_t amount);

/* For the error: "contexts", and the key of the configuration that raises it, "MaxContextsPerUser", or
 * NULL. */
const char *resource_name(enum resource resource);
const char *resource_key(enum resource resource);
