/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The reading side of a BPF ring buffer. */

struct ring {
        void *consumer, *producer; /* mappings */
        size_t size;               /* of the data, a power of two */
        size_t page;
};

int ring_init(struct ring *ring, int map, size_t size);
void ring_deinit(struct ring *ring);

/* Calls cb for each record, at most max of them; returns how many. */
unsigned ring_consume(struct ring *ring, unsigned max,
                void (*cb)(void *userdata, const void *data, size_t size), void *userdata);
