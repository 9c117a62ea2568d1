/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads a BPF ring buffer. */

struct ring {
        void *consumer, *producer; /* mappings */
        size_t size;               /* of the data; a power of two */
        size_t page;
        unsigned long read; /* the position up to which we have read */
};

int ring_init(struct ring *ring, int map, size_t size);
void ring_deinit(struct ring *ring);

/* Gives the next record, which stays valid until the next call. Returns false if there is none. */
bool ring_next(struct ring *ring, const void **ret_data, size_t *ret_size);
/* The last record was read, and the kernel can use its place again. */
void ring_done(struct ring *ring);
