/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "daemon/model/heap.h"

#define HEAP_FIRST_SIZE 64

static uint32_t *index_of(const struct heap *h, void *object)
{
        return (uint32_t *) ((char *) object + h->index_offset);
}

void heap_init(struct heap *h, size_t index_offset)
{
        *h = (struct heap){.index_offset = index_offset};
}

void heap_deinit(struct heap *h)
{
        free(h->entries);
        *h = (struct heap){.index_offset = h->index_offset};
}

int heap_reserve(struct heap *h, uint32_t n)
{
        struct heap_entry *entries;
        uint32_t allocated = h->allocated > 0 ? h->allocated : HEAP_FIRST_SIZE;

        if (n < h->allocated) /* index 0 is unused */
                return 0;
        while (allocated <= n)
                if (__builtin_mul_overflow(allocated, 2, &allocated))
                        return -ENOMEM;
        entries = reallocarray(h->entries, allocated, sizeof *entries);
        if (!entries)
                return -ENOMEM;
        h->entries = entries;
        h->allocated = allocated;
        return 0;
}

static void place(struct heap *h, uint32_t i, struct heap_entry entry)
{
        h->entries[i] = entry;
        *index_of(h, entry.object) = i;
}

static void sift_up(struct heap *h, uint32_t i, struct heap_entry entry)
{
        for (; i > 1 && entry.key < h->entries[i / 2].key; i /= 2)
                place(h, i, h->entries[i / 2]);
        place(h, i, entry);
}

static void sift_down(struct heap *h, uint32_t i, struct heap_entry entry)
{
        for (;;) {
                uint64_t child = (uint64_t) i * 2;

                if (child > h->n)
                        break;
                if (child < h->n && h->entries[child + 1].key < h->entries[child].key)
                        child++;
                if (entry.key <= h->entries[child].key)
                        break;
                place(h, i, h->entries[child]);
                i = (uint32_t) child;
        }
        place(h, i, entry);
}

static void settle(struct heap *h, uint32_t i, struct heap_entry entry)
{
        if (i > 1 && entry.key < h->entries[i / 2].key)
                sift_up(h, i, entry);
        else
                sift_down(h, i, entry);
}

void heap_put(struct heap *h, void *object, uint64_t key)
{
        struct heap_entry entry = {.key = key, .object = object};
        uint32_t i = *index_of(h, object);

        if (i == 0) {
                assert(h->n + 1 < h->allocated);
                sift_up(h, ++h->n, entry);
        } else {
                settle(h, i, entry);
        }
}

void heap_remove(struct heap *h, void *object)
{
        uint32_t i = *index_of(h, object);

        if (i == 0)
                return;
        *index_of(h, object) = 0;
        h->n--;
        if (i <= h->n)
                settle(h, i, h->entries[h->n + 1]);
}

bool heap_is_valid(const struct heap *h)
{
        for (uint32_t i = 1; i <= h->n; i++) {
                if (*index_of(h, h->entries[i].object) != i)
                        return false;
                if (i > 1 && h->entries[i].key < h->entries[i / 2].key)
                        return false;
        }
        return h->n == 0 || h->n < h->allocated;
}
