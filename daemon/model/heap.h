/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A binary heap of objects with 64-bit keys; the smallest comes first. An object holds its own position (1
 * and up; 0: not in the heap), so any object can be taken out. The keys lie beside the pointers, so a
 * comparison touches no object. Room is reserved beforehand, so heap_put() and heap_remove() never
 * allocate. */

struct heap_entry {
        uint64_t key;
        void *object;
};

struct heap {
        struct heap_entry *entries; /* index 0 is unused */
        uint32_t n, allocated;
        size_t index_offset; /* of the uint32_t in the object */
};

void heap_init(struct heap *h, size_t index_offset);
void heap_deinit(struct heap *h);

/* Makes room for n objects. 0 or -ENOMEM. */
int heap_reserve(struct heap *h, uint32_t n);

/* Puts it in, or moves it to its new key. There must be room. */
void heap_put(struct heap *h, void *object, uint64_t key);
/* Takes it out, if it is in. */
void heap_remove(struct heap *h, void *object);

static inline void *heap_first(const struct heap *h)
{
        return h->n > 0 ? h->entries[1].object : NULL;
}

static inline uint64_t heap_first_key(const struct heap *h)
{
        return h->n > 0 ? h->entries[1].key : UINT64_MAX;
}

/* For tests and tree_check(): whether each index is right, and no child is smaller than its parent. */
bool heap_is_valid(const struct heap *h);
