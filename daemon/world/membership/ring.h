/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The reading side of a BPF ring buffer. */

struct ring {
        void *consumer, *producer; /* mappings */
        size_t size;               /* of the data, a power of two */
        size_t page;
        unsigned long read; /* up to here */
};

int ring_init(struct ring *ring, int map, size_t size);
void ring_deinit(struct ring *ring);

/* The next record: valid until the next call. False: there is none. */
bool ring_next(struct ring *ring, const void **ret_data, size_t *ret_size);
/* What ring_next() gave was read: the kernel may have its room back. */
void ring_done(struct ring *ring);
