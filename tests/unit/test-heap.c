/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stddef.h>
#include <stdint.h>

#include "daemon/model/heap.h"
#include "tests/harness/suite.h"

struct item {
        uint64_t key;
        uint32_t index;
};

enum { ITEMS = 500 };

static struct item items[ITEMS];

static uint64_t smallest(void)
{
        uint64_t min = UINT64_MAX;

        for (int i = 0; i < ITEMS; i++)
                if (items[i].index != 0 && items[i].key < min)
                        min = items[i].key;
        return min;
}

START_TEST(heap_in_random_order)
{
        struct heap h;

        heap_init(&h, offsetof(struct item, index));
        ck_assert_ptr_null(heap_first(&h));
        ck_assert_uint_eq(heap_first_key(&h), UINT64_MAX);
        ck_assert_int_eq(heap_reserve(&h, ITEMS), 0);
        srand(1);
        for (int round = 0; round < 20000; round++) {
                struct item *item = &items[rand() % ITEMS];
                int what = rand() % 4;

                if (what == 0) {
                        heap_remove(&h, item);
                        ck_assert_uint_eq(item->index, 0);
                } else if (what == 1 && h.n > 0) {
                        item = heap_first(&h);
                        ck_assert_uint_eq(item->key, smallest());
                        ck_assert_uint_eq(heap_first_key(&h), item->key);
                        heap_remove(&h, item);
                } else { /* in, or to another place; few keys, so that many are the same */
                        item->key = (uint64_t) rand() % 200;
                        heap_put(&h, item, item->key);
                }
                ck_assert(heap_is_valid(&h));
        }
        for (uint64_t last = 0; h.n > 0;) {
                struct item *item = heap_first(&h);

                ck_assert_uint_ge(item->key, last);
                last = item->key;
                heap_remove(&h, item);
        }
        heap_deinit(&h);
        heap_deinit(&h);
}
END_TEST

START_TEST(heap_edges)
{
        struct item a = {}, b = {}, c = {};
        struct heap h;

        heap_init(&h, offsetof(struct item, index));
        heap_remove(&h, &a); /* not in it */
        ck_assert_int_eq(heap_reserve(&h, 0), 0);
        ck_assert_int_eq(heap_reserve(&h, 3), 0);
        heap_put(&h, &a, UINT64_MAX);
        heap_put(&h, &b, 0);
        heap_put(&h, &c, UINT64_MAX);
        ck_assert_ptr_eq(heap_first(&h), &b);
        heap_put(&h, &a, 0);
        heap_put(&h, &b, 1);
        ck_assert_ptr_eq(heap_first(&h), &a);
        heap_remove(&h, &c); /* the last one */
        ck_assert(heap_is_valid(&h));
        heap_remove(&h, &a);
        heap_remove(&h, &b);
        ck_assert_uint_eq(h.n, 0);
        heap_deinit(&h);
}
END_TEST

START_TEST(heap_reserve_at_its_boundaries)
{
        static struct item many[300];
        struct heap h;

        heap_init(&h, offsetof(struct item, index));
        for (uint32_t n = 1; n <= 300; n++) {
                ck_assert_int_eq(heap_reserve(&h, n), 0);
                heap_put(&h, &many[n - 1], 300 - n);
                ck_assert(heap_is_valid(&h));
        }
        ck_assert_ptr_eq(heap_first(&h), &many[299]);
        heap_deinit(&h);
}
END_TEST

START_TEST(heap_validity_is_seen)
{
        struct item a = {}, b = {};
        struct heap h;

        heap_init(&h, offsetof(struct item, index));
        ck_assert_int_eq(heap_reserve(&h, 2), 0);
        heap_put(&h, &a, 1);
        heap_put(&h, &b, 2);
        h.entries[2].key = 0;
        ck_assert(!heap_is_valid(&h));
        h.entries[2].key = 2;
        b.index = 1;
        ck_assert(!heap_is_valid(&h));
        heap_deinit(&h);
}
END_TEST

int main(void)
{
        const TTest *tests[] = {heap_in_random_order, heap_edges, heap_reserve_at_its_boundaries,
                        heap_validity_is_seen, NULL};

        return run_tests("heap", tests);
}
