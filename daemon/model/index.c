/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/model/context.h"
#include "daemon/model/index.h"

#define INDEX_FIRST_SIZE 64 /* a power of two */

#define ROTATE(x, n) (((x) << (n)) | ((x) >> (64 - (n))))

/* Inline, so that the four words are in registers. */
__attribute__((always_inline)) static inline void sip_round(uint64_t v[4])
{
        v[0] += v[1];
        v[2] += v[3];
        v[1] = ROTATE(v[1], 13) ^ v[0];
        v[3] = ROTATE(v[3], 16) ^ v[2];
        v[0] = ROTATE(v[0], 32) + v[3];
        v[2] += v[1];
        v[3] = ROTATE(v[3], 21) ^ v[0];
        v[1] = ROTATE(v[1], 17) ^ v[2];
        v[2] = ROTATE(v[2], 32);
}

__attribute__((always_inline)) static inline void sip_word(uint64_t v[4], uint64_t word)
{
        v[3] ^= word;
        sip_round(v);
        sip_round(v);
        v[0] ^= word;
}

/* Aumasson and Bernstein, SipHash: a fast short-input PRF (2012). The number is the first word of the
 * message. */
uint64_t index_siphash24(const uint64_t key[2], uint64_t first, const void *data, size_t length)
{
        uint64_t v[4] = {
                        key[0] ^ UINT64_C(0x736f6d6570736575),
                        key[1] ^ UINT64_C(0x646f72616e646f6d),
                        key[0] ^ UINT64_C(0x6c7967656e657261),
                        key[1] ^ UINT64_C(0x7465646279746573),
        };
        const unsigned char *p = data;
        uint64_t word, total = (uint64_t) length + sizeof first;

        sip_word(v, first);
        for (; length >= sizeof word; length -= sizeof word, p += sizeof word) {
                memcpy(&word, p, sizeof word);
                sip_word(v, le64toh(word));
        }
        word = 0;
        memcpy(&word, p, length);
        sip_word(v, le64toh(word) | total << 56);
        v[2] ^= 0xff;
        for (int i = 0; i < 4; i++)
                sip_round(v);
        return v[0] ^ v[1] ^ v[2] ^ v[3];
}

int index_init(struct index *index, uint64_t (*hash)(const struct index *index, const struct context *c),
                const uint64_t key[2])
{
        struct context **buckets = calloc(INDEX_FIRST_SIZE, sizeof *buckets);

        if (!buckets)
                return -ENOMEM;
        *index = (struct index){
                        .buckets = buckets,
                        .n_buckets = INDEX_FIRST_SIZE,
                        .n_allocated = INDEX_FIRST_SIZE,
                        .hash = hash,
                        .key = {key[0], key[1]},
        };
        return 0;
}

void index_deinit(struct index *index)
{
        free(index->buckets);
        *index = (struct index){};
}

/* There are 2^k + split buckets. A hash is taken modulo 2^k, and, where that bucket has been split, modulo
 * 2^(k+1). */
static struct context **bucket_of(const struct index *index, uint64_t hash)
{
        size_t size = index->n_buckets - index->split, i = hash & (size - 1);

        if (i < index->split)
                i = hash & (2 * size - 1);
        return &index->buckets[i];
}

struct context *index_bucket(const struct index *index, uint64_t hash)
{
        return *bucket_of(index, hash);
}

/* Makes one more bucket and moves there what belongs there. Without memory, chains get longer and nothing
 * else. */
static void index_grow(struct index *index)
{
        struct context *c, *next;

        if (index->n_buckets == index->n_allocated) {
                struct context **buckets =
                                reallocarray(index->buckets, index->n_allocated * 2, sizeof *buckets);

                if (!buckets)
                        return;
                index->buckets = buckets;
                index->n_allocated *= 2;
        }

        c = index->buckets[index->split];
        index->buckets[index->split] = NULL;
        index->buckets[index->n_buckets++] = NULL;
        index->split++;
        for (; c; c = next) {
                struct context **bucket = bucket_of(index, index->hash(index, c));

                next = c->next_in_bucket;
                c->next_in_bucket = *bucket;
                *bucket = c;
        }
        if (index->split * 2 == index->n_buckets)
                index->split = 0;
}

void index_insert(struct index *index, struct context *c)
{
        struct context **bucket;

        if (++index->n > index->n_buckets)
                index_grow(index);
        bucket = bucket_of(index, index->hash(index, c));
        c->next_in_bucket = *bucket;
        *bucket = c;
}

void index_remove(struct index *index, struct context *c)
{
        struct context **p = bucket_of(index, index->hash(index, c));

        while (*p != c) {
                assert(*p);
                p = &(*p)->next_in_bucket;
        }
        *p = c->next_in_bucket;
        c->next_in_bucket = NULL;
        index->n--;
}

uint64_t index_hash_name(const struct index *index, uint64_t parent_id, const char *label, size_t length)
{
        return index_siphash24(index->key, parent_id, label, length);
}

uint64_t index_hash_id(const struct index *index, uint64_t id)
{
        return id; /* counted up, so that it is spread as well as can be, and nobody chooses it */
}
