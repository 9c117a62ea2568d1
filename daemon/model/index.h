/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A hash table of contexts, which are chained through context.next_in_bucket. We have our own for three
 * reasons. A million contexts have to fit, and it takes 8 bytes for each where uthash takes 56. Clients
 * choose the labels and may want to harm each other, so the hash has a secret key (SipHash). And it grows by
 * one bucket for each insert (linear hashing), so there is no pause in which everything is hashed again, and
 * no insert fails. */

struct context;

struct index {
        struct context **buckets;
        size_t n_buckets, n_allocated;
        size_t split; /* the next bucket to be split; the buckets below it are addressed with one more bit */
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
/* The first context of the bucket for that hash. The others follow by next_in_bucket. */
struct context *index_bucket(const struct index *index, uint64_t hash);

uint64_t index_hash_name(const struct index *index, uint64_t parent_id, const char *label, size_t length);
uint64_t index_hash_id(const struct index *index, uint64_t id);

/* The hash of a number that is followed by the bytes. */
uint64_t index_siphash24(const uint64_t key[2], uint64_t first, const void *data, size_t length);
