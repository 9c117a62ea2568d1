/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "daemon/model/tree.h"
#include "tests/harness/suite.h"
#include "util/cleanup.h"

static struct users limited(uint64_t limit)
{
        struct users users = {};

        for (int i = 0; i < RESOURCES; i++)
                users.limit[i] = limit;
        for (int i = 0; i < POOLS; i++)
                users.pools[i].limit = UINT64_MAX;
        return users;
}

START_TEST(one_user_for_each_uid)
{
        struct users users = limited(10);
        struct user *a = user_ref(&users, 1000), *b = user_ref(&users, 0), *c = user_ref(&users, 1000);

        ck_assert_ptr_eq(a, c);
        ck_assert_ptr_ne(a, b);
        ck_assert_uint_eq(users.n, 2);
        ck_assert_uint_eq(a->uid, 1000);
        ck_assert_ptr_null(user_unref(&users, a));
        ck_assert_uint_eq(users.n, 2);
        user_unref(&users, c);
        user_unref(&users, b);
        ck_assert_ptr_null(user_unref(&users, NULL));
        ck_assert_uint_eq(users.n, 0);
        ck_assert_ptr_null(users.by_uid);
}
END_TEST

START_TEST(charges_up_to_the_limit)
{
        struct users users = limited(10);
        struct user *user = user_ref(&users, 1000), *other = user_ref(&users, 1001);
        struct charge a = {}, b = {}, c = {};

        ck_assert_int_eq(charge_init(&a, &users, user, RESOURCE_HANDLES, 10), 0);
        ck_assert_int_eq(charge_init(&b, &users, user, RESOURCE_HANDLES, 1), -EDQUOT);
        ck_assert_ptr_null(b.user);
        ck_assert_uint_eq(user->used[RESOURCE_HANDLES], 10);
        ck_assert_int_eq(charge_init(&b, &users, user, RESOURCE_MEMBERS, 10), 0);
        ck_assert_int_eq(charge_init(&c, &users, other, RESOURCE_HANDLES, 10), 0);
        charge_deinit(&a);
        charge_deinit(&a); /* nothing more */
        ck_assert_uint_eq(user->used[RESOURCE_HANDLES], 0);
        ck_assert_int_eq(charge_init(&a, &users, user, RESOURCE_HANDLES, UINT64_MAX), -EDQUOT);
        ck_assert_int_eq(charge_init(&a, &users, user, RESOURCE_HANDLES, 9), 0);
        ck_assert_int_eq(user_charge(user, RESOURCE_HANDLES, UINT64_MAX - 5), -EDQUOT); /* overflows */
        ck_assert_int_eq(user_charge(user, RESOURCE_HANDLES, 1), 0);
        user_discharge(user, RESOURCE_HANDLES, 1);
        /* A charge holds its user. */
        user_unref(&users, user);
        user_unref(&users, other);
        ck_assert_uint_eq(users.n, 2);
        charge_deinit(&a);
        charge_deinit(&b);
        charge_deinit(&c);
        ck_assert_uint_eq(users.n, 0);
}
END_TEST

START_TEST(what_may_not_be_refused_goes_over)
{
        struct users users = limited(10);
        struct user *user = user_ref(&users, 1000);

        user_charge_always(user, RESOURCE_BYTES, 15);
        ck_assert_int_eq(user_charge(user, RESOURCE_BYTES, 1), -EDQUOT);
        user_discharge(user, RESOURCE_BYTES, 6);
        ck_assert_int_eq(user_charge(user, RESOURCE_BYTES, 1), 0);
        user_discharge(user, RESOURCE_BYTES, 10);
        user_unref(&users, user);
}
END_TEST

START_TEST(all_users_together)
{
        struct users users = limited(30);
        struct user *a = user_ref(&users, 1), *b = user_ref(&users, 2), *c = user_ref(&users, 3);

        users.pools[POOL_CONTEXTS].limit = 32;
        ck_assert_int_eq(user_charge(a, RESOURCE_CONTEXTS, 20), 0);
        ck_assert_int_eq(user_charge(b, RESOURCE_CONTEXTS, 9), -EDQUOT); /* the last 4 are for others */
        ck_assert_int_eq(user_charge(b, RESOURCE_CONTEXTS, 8), 0);
        ck_assert_uint_eq(users.pools[POOL_CONTEXTS].used, 28);
        ck_assert_int_eq(user_charge(a, RESOURCE_CONTEXTS, 1), -EDQUOT);
        ck_assert_int_eq(user_charge(c, RESOURCE_CONTEXTS, 3), -EDQUOT); /* half of these */
        ck_assert_int_eq(user_charge(c, RESOURCE_CONTEXTS, 2), 0);
        ck_assert_int_eq(user_charge(a, RESOURCE_MEMBERS, 10), 0); /* of contexts alone */
        user_discharge(a, RESOURCE_CONTEXTS, 20);
        user_discharge(b, RESOURCE_CONTEXTS, 8);
        user_discharge(c, RESOURCE_CONTEXTS, 2);
        user_discharge(a, RESOURCE_MEMBERS, 10);
        ck_assert_uint_eq(users.pools[POOL_CONTEXTS].used, 0);
        user_unref(&users, a);
        user_unref(&users, b);
        user_unref(&users, c);
}
END_TEST

/* A user takes as much as may be taken, as itself and as many of its 65,536 subordinate uids, which lie in
 * two blocks. Every other user still gets its part. */
START_TEST(subordinate_uids_cannot_take_all)
{
        struct users users = limited(65536);
        struct user *user[2000];
        size_t n = 0;

        users.pools[POOL_SLOTS].limit = 262143;
        for (uid_t uid = 1001; n < ELEMENTSOF(user); uid = uid == 1001 ? 100000 : uid + 33) {
                user[n] = user_ref(&users, uid);
                ck_assert_ptr_nonnull(user[n]);
                for (uint64_t amount = 65536; amount > 0; amount /= 2)
                        while (user_charge(user[n], RESOURCE_SLOTS, amount) == 0) {
                        }
                n++;
        }
        ck_assert_uint_le(users.pools[POOL_SLOTS].used, 262143 - 262143 / 64);
        for (uid_t uid = 1002; uid < 1006; uid++) {
                struct user *other = user_ref(&users, uid);

                ck_assert_int_eq(user_charge(other, RESOURCE_SLOTS, 256), 0);
                user_discharge(other, RESOURCE_SLOTS, 256);
                user_unref(&users, other);
        }
        for (size_t i = 0; i < n; i++) {
                user_discharge(user[i], RESOURCE_SLOTS, user[i]->used[RESOURCE_SLOTS]);
                user_unref(&users, user[i]);
        }
        ck_assert_uint_eq(users.pools[POOL_SLOTS].used, 0);
        ck_assert_ptr_null(users.parties);
}
END_TEST

/* Each resource has a limit for a uid and one for all uids, of which as many uids as one user may have leave
 * something. */
START_TEST(no_resource_is_without_a_pool)
{
        for (int i = 0; i < RESOURCES; i++) {
                enum resource resource = (enum resource) i;
                struct users users = limited(1000);
                struct pool *pool = &users.pools[resource_pool(resource)];
                struct user *other, *user[500];

                pool->limit = 30000;
                for (size_t n = 0; n < ELEMENTSOF(user); n++) {
                        user[n] = user_ref(&users, 100000 + (uid_t) n);
                        for (uint64_t amount = 1000; amount > 0; amount /= 2)
                                while (user_charge(user[n], resource, amount) == 0) {
                                }
                        ck_assert_uint_le(user[n]->used[i], 1000);
                }
                ck_assert_msg(pool->used <= 30000 - 30000 / 8, "%s: %ju of all", resource_name(resource),
                                (uintmax_t) pool->used);
                ck_assert_uint_gt(pool->used, 30000 / 2);
                ck_assert(user_is_at_limit(user[0], resource, 1));
                other = user_ref(&users, 1002);
                ck_assert_msg(user_charge(other, resource, 500) == 0, "%s", resource_name(resource));
                user_discharge(other, resource, 500);
                user_unref(&users, other);
                for (size_t n = 0; n < ELEMENTSOF(user); n++) {
                        user_discharge(user[n], resource, user[n]->used[i]);
                        user_unref(&users, user[n]);
                }
                ck_assert_uint_eq(pool->used, 0);
        }
}
END_TEST

START_TEST(what_is_over_a_pool)
{
        struct users users = limited(UINT64_MAX);
        struct user *a = user_ref(&users, 100000), *b = user_ref(&users, 100001), *c = user_ref(&users, 7);

        users.pools[POOL_UNREAD].limit = 80;
        user_charge_always(a, RESOURCE_UNREAD, 40);
        user_charge_always(b, RESOURCE_UNREAD, 30);
        ck_assert(!pool_is_tight(&users, POOL_UNREAD) && !pool_is_over(a, POOL_UNREAD));
        user_charge_always(b, RESOURCE_UNREAD, 1);
        ck_assert(pool_is_tight(&users, POOL_UNREAD) && pool_is_over(a, POOL_UNREAD));
        ck_assert(!pool_is_over(c, POOL_UNREAD)); /* has nothing */
        user_charge_always(c, RESOURCE_UNREAD, 4);
        ck_assert(!pool_is_over(c, POOL_UNREAD));
        user_charge_always(c, RESOURCE_UNREAD, 1); /* 71 are of others, so half of 9 is allowed */
        ck_assert(pool_is_over(c, POOL_UNREAD));
        user_discharge(a, RESOURCE_UNREAD, 40);
        ck_assert(!pool_is_tight(&users, POOL_UNREAD) && !pool_is_over(c, POOL_UNREAD));
        user_discharge(b, RESOURCE_UNREAD, 31);
        user_discharge(c, RESOURCE_UNREAD, 5);
        user_unref(&users, a);
        user_unref(&users, b);
        user_unref(&users, c);
}
END_TEST

START_TEST(descriptors_are_shared)
{
        struct users users = limited(1000);
        struct user *a = user_ref(&users, 1), *b = user_ref(&users, 2);
        struct charge handles = {}, connection = {}, own = {}, other = {};

        users.limit[RESOURCE_DESCRIPTORS] = UINT64_MAX;
        users.pools[POOL_DESCRIPTORS].limit = 80;
        ck_assert_int_eq(charge_init(&handles, &users, a, RESOURCE_HANDLES, 66), 0);
        ck_assert_int_eq(charge_init(&connection, &users, a, RESOURCE_CONNECTIONS, 1), 0);
        ck_assert_int_eq(charge_init(&own, &users, a, RESOURCE_DESCRIPTORS, 1), 0);
        ck_assert_uint_eq(users.pools[POOL_DESCRIPTORS].used, 70);
        ck_assert_uint_eq(a->used[RESOURCE_DESCRIPTORS], 70);
        ck_assert_int_eq(charge_init(&other, &users, a, RESOURCE_HANDLES, 1), -EDQUOT);
        ck_assert(!user_is_at_own_limit(a, RESOURCE_HANDLES, 1) && user_is_at_limit(a, RESOURCE_HANDLES, 1));
        ck_assert_int_eq(charge_init(&other, &users, b, RESOURCE_CONNECTIONS, 1), 0);
        ck_assert_uint_eq(users.pools[POOL_DESCRIPTORS].used, 73);
        charge_deinit(&handles);
        charge_deinit(&connection);
        charge_deinit(&own);
        charge_deinit(&other);
        ck_assert_uint_eq(users.pools[POOL_DESCRIPTORS].used, 0);
        ck_assert_uint_eq(a->used[RESOURCE_DESCRIPTORS] + b->used[RESOURCE_DESCRIPTORS], 0);
        user_unref(&users, a);
        user_unref(&users, b);
}
END_TEST

START_TEST(a_charge_that_changes)
{
        struct users users = limited(10);
        struct user *user = user_ref(&users, 1);
        struct charge charge = {};

        ck_assert_int_eq(charge_init(&charge, &users, user, RESOURCE_INCOMING, 0), 0);
        user_unref(&users, user);
        ck_assert_int_eq(charge_resize(&charge, 10), 0);
        ck_assert_int_eq(charge_resize(&charge, 11), -EDQUOT);
        ck_assert_uint_eq(charge.amount, 10);
        ck_assert_int_eq(charge_resize(&charge, 3), 0);
        ck_assert_uint_eq(charge.user->used[RESOURCE_INCOMING], 3);
        charge_deinit(&charge);
        ck_assert_uint_eq(users.n, 0);
}
END_TEST

START_TEST(a_refusal_is_worth_a_new_line_later)
{
        struct users users = limited(10);
        struct user *user = user_ref(&users, 1);

        ck_assert_int_eq(user_charge(user, RESOURCE_HANDLES, 10), 0);
        user->refusal_logged[RESOURCE_HANDLES] = true;
        user_discharge(user, RESOURCE_HANDLES, 1);
        ck_assert(user->refusal_logged[RESOURCE_HANDLES]); /* up and down at the limit is one story */
        user_discharge(user, RESOURCE_HANDLES, 4);
        ck_assert(!user->refusal_logged[RESOURCE_HANDLES]);
        user_discharge(user, RESOURCE_HANDLES, 5);
        user_unref(&users, user);
}
END_TEST

START_TEST(resources_have_names)
{
        for (int i = 0; i < RESOURCES; i++) {
                const char *key = resource_key((enum resource) i); /* NULL: nothing raises it */

                ck_assert_ptr_nonnull(resource_name((enum resource) i));
                if (key && i != RESOURCE_DESCRIPTORS && i != RESOURCE_FLIGHT)
                        ck_assert_int_eq(strncmp(key, "Max", 3), 0);
        }
        for (int i = 0; i < POOLS; i++)
                ck_assert_ptr_nonnull(strstr(pool_name((enum pool_kind) i), "of all users"));
}
END_TEST

START_TEST(a_tree_says_which_limit)
{
        struct refused refused = {};
        struct charge charge = {};
        struct user *user;
        struct tree *t;

        ck_assert_int_eq(tree_new(&t), 0);
        t->users.limit[RESOURCE_HANDLES] = 3;
        user = user_ref(&t->users, 5);
        ck_assert_int_eq(tree_charge(t, &charge, user, RESOURCE_HANDLES, 4, &refused), -EDQUOT);
        ck_assert_int_eq(refused.reason, REFUSED_LIMIT);
        ck_assert_str_eq(refused.limit, "handles");
        ck_assert_str_eq(refused.limit_key, "MaxHandlesPerUser");
        ck_assert_uint_eq(refused.allowed, 3);
        ck_assert_uint_eq(refused.uid, 5);
        ck_assert(refused.first); /* worth a line, and the next one is not */
        ck_assert_int_eq(tree_charge(t, &charge, user, RESOURCE_HANDLES, 4, &refused), -EDQUOT);
        ck_assert(!refused.first);
        ck_assert_int_eq(tree_charge(t, &charge, user, RESOURCE_HANDLES, 4, NULL), -EDQUOT);
        ck_assert_int_eq(tree_charge(t, &charge, user, RESOURCE_HANDLES, 3, &refused), 0);
        charge_deinit(&charge);
        user_unref(&t->users, user);
        ck_assert_ptr_null(tree_free(t));
        ck_assert_ptr_null(tree_free(NULL));
}
END_TEST

int main(void)
{
        const TTest *tests[] = {
                        one_user_for_each_uid,
                        charges_up_to_the_limit,
                        what_may_not_be_refused_goes_over,
                        all_users_together,
                        subordinate_uids_cannot_take_all,
                        no_resource_is_without_a_pool,
                        what_is_over_a_pool,
                        descriptors_are_shared,
                        a_charge_that_changes,
                        a_refusal_is_worth_a_new_line_later,
                        resources_have_names,
                        a_tree_says_which_limit,
                        NULL,
        };

        return run_tests("user", tests);
}
