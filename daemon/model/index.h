/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A hash table of contexts, chained through context.next_in_bucket. It is ours because a million contexts
 * have to fit (8 bytes each where uthash takes 56), because labels are chosen by those who may wish each
 * other ill (the hash is keyed: SipHash), and because it grows by one bucket for each insert (linear
 * hashing): there is no pause in which everything is hashed again, and no insert fails. */

struct context;

struct index {
        struct context **buckets;
        size_t n_buckets, n_allocated;
        size_t split; /* the next bucket to be split; below it, buckets are addressed with one bit more */
        size_t n;
        uint64_t (*hash)(const struct index *index, const struct context *c);
        uint64_t key[2];
};

/* 0 or -ENOMEM */
int index_init(struct index *index, uint64_t (*hash)(const struct index *index, const struct context *c),
                const uint64_t key[2]);
void index_deinit(struct index *index);

void index_insert(struct index *index, struct context *c);
void index_remove(struct index *index, struct context *c);
/* The first context of the bucket that such a hash belongs to; go on with next_in_bucket. */
struct context *index_bucket(const struct index *index, uint64_t hash);

uint64_t index_hash_name(const struct index *index, uint64_t parent_id, const char *label, size_t length);
uint64_t index_hash_id(const struct index *index, uint64_t id);

/* Of a number and then the bytes. */
uint64_t index_siphash24(const uint64_t key[2], uint64_t first, const void *data, size_t length);
