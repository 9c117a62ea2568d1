/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "daemon/model/context.h"
#include "daemon/model/index.h"
#include "tests/harness/suite.h"

/* The vectors of the paper: key 00..0f, message 00, 01, 02, ...; the first eight bytes are our number. */
START_TEST(siphash_vectors)
{
        static const uint64_t key[] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
        static const struct {
                size_t length;
                uint64_t hash;
        } vectors[] = {
                        {8, UINT64_C(0x93f5f5799a932462)},
                        {9, UINT64_C(0x9e0082df0ba9e4b0)},
                        {15, UINT64_C(0xa129ca6149be45e5)},
                        {16, UINT64_C(0x3f2acc7f57c29bdb)},
                        {17, UINT64_C(0x699ae9f52cbe4794)},
        };
        unsigned char message[64];

        for (unsigned i = 0; i < sizeof message; i++)
                message[i] = (unsigned char) i;
        for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
                ck_assert_uint_eq(index_siphash24(key, UINT64_C(0x0706050403020100), message + 8,
                                                  vectors[i].length - 8),
                                vectors[i].hash);
}
END_TEST

static uint64_t hash_by_id(const struct index *index, const struct context *c)
{
        return index_hash_id(index, c->id);
}

static uint64_t hash_all_alike(const struct index *index, const struct context *c)
{
        return 7;
}

static struct context *find(const struct index *index, uint64_t hash, uint64_t id)
{
        struct context *c = index_bucket(index, hash);

        while (c && c->id != id)
                c = c->next_in_bucket;
        return c;
}

static void fill_and_empty(uint64_t (*hash)(const struct index *index, const struct context *c), size_t n)
{
        static const uint64_t key[2] = {1, 2};
        struct context *contexts = calloc(n, sizeof *contexts);
        struct index index;

        ck_assert_int_eq(index_init(&index, hash, key), 0);
        for (size_t i = 0; i < n; i++) {
                contexts[i].id = i + 1;
                index_insert(&index, &contexts[i]);
                ck_assert_uint_eq(index.n, i + 1);
                ck_assert_uint_ge(index.n_buckets, index.n); /* at most one each, on average */
                ck_assert_ptr_eq(find(&index, hash(&index, &contexts[i / 2]), i / 2 + 1), &contexts[i / 2]);
        }
        for (size_t i = 0; i < n; i++)
                ck_assert_ptr_eq(find(&index, hash(&index, &contexts[i]), i + 1), &contexts[i]);
        for (size_t i = 0; i < n; i += 2)
                index_remove(&index, &contexts[i]);
        for (size_t i = 0; i < n; i++)
                ck_assert_ptr_eq(
                                find(&index, hash(&index, &contexts[i]), i + 1), i % 2 ? &contexts[i] : NULL);
        for (size_t i = 0; i < n; i += 2)
                index_insert(&index, &contexts[i]);
        ck_assert_uint_eq(index.n, n);
        index_deinit(&index);
        free(contexts);
}

START_TEST(index_grows_bucket_by_bucket)
{
        fill_and_empty(hash_by_id, 63);
        fill_and_empty(hash_by_id, 64);
        fill_and_empty(hash_by_id, 65);
        fill_and_empty(hash_by_id, 129);
        fill_and_empty(hash_by_id, 100000);
}
END_TEST

START_TEST(index_with_one_hash_for_all)
{
        fill_and_empty(hash_all_alike, 500);
}
END_TEST

START_TEST(labels_are_spread)
{
        static const uint64_t key[2] = {3, 4};
        struct index index = {.key = {key[0], key[1]}};
        unsigned buckets[1024] = {}, most = 0;
        char label[32];

        for (unsigned i = 0; i < 10240; i++) {
                int n = snprintf(label, sizeof label, "label-%u", i);
                unsigned *bucket = &buckets[index_hash_name(&index, 5, label, (size_t) n) % 1024];

                if (++*bucket > most)
                        most = *bucket;
        }
        ck_assert_uint_lt(most, 40);
        ck_assert_uint_ne(index_hash_name(&index, 5, "a", 1), index_hash_name(&index, 6, "a", 1));
        ck_assert_uint_ne(index_hash_name(&index, 5, "a", 1), index_hash_name(&index, 5, "b", 1));
        index.key[0]++;
        ck_assert_uint_ne(index_siphash24(key, 5, "a", 1), index_hash_name(&index, 5, "a", 1));
}
END_TEST

int main(void)
{
        const TTest *tests[] = {siphash_vectors, index_grows_bucket_by_bucket, index_with_one_hash_for_all,
                        labels_are_spread, NULL};

        return run_tests("index", tests);
}
