/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/world/membership/ring.h"

/* The kernel defines the layout. There is a page with the consumer's position, one with the producer's, and
 * then the data. The data is mapped twice in a row, so no record is ever cut. */

int ring_init(struct ring *ring, int map, size_t size)
{
        size_t page = (size_t) sysconf(_SC_PAGESIZE);
        void *consumer, *producer;

        consumer = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
        if (consumer == MAP_FAILED)
                return -errno;
        producer = mmap(NULL, page + 2 * size, PROT_READ, MAP_SHARED, map, (off_t) page);
        if (producer == MAP_FAILED) {
                int r = -errno;

                munmap(consumer, page);
                return r;
        }
        *ring = (struct ring){.consumer = consumer, .producer = producer, .size = size, .page = page};
        ring->read = __atomic_load_n((unsigned long *) consumer, __ATOMIC_ACQUIRE);
        return 0;
}

void ring_deinit(struct ring *ring)
{
        if (!ring->consumer)
                return;
        munmap(ring->consumer, ring->page);
        munmap(ring->producer, ring->page + 2 * ring->size);
        memset(ring, 0, sizeof *ring);
}

void ring_done(struct ring *ring)
{
        unsigned long *consumed = ring->consumer;

        if (*consumed != ring->read)
                __atomic_store_n(consumed, ring->read, __ATOMIC_RELEASE);
}

bool ring_next(struct ring *ring, const void **ret_data, size_t *ret_size)
{
        const unsigned long *produced = ring->producer;
        const uint8_t *data = (const uint8_t *) ring->producer + ring->page;

        ring_done(ring);
        while (ring->read < __atomic_load_n(produced, __ATOMIC_ACQUIRE)) {
                const uint8_t *record = data + (ring->read & (ring->size - 1));
                uint32_t header = __atomic_load_n((const uint32_t *) record, __ATOMIC_ACQUIRE);
                uint32_t length = header & ~(uint32_t) (BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);

                if (header & BPF_RINGBUF_BUSY_BIT)
                        break;
                ring->read += (length + BPF_RINGBUF_HDR_SZ + 7) & ~7UL;
                if (header & BPF_RINGBUF_DISCARD_BIT)
                        continue;
                *ret_data = record + BPF_RINGBUF_HDR_SZ;
                *ret_size = length;
                return true;
        }
        return false;
}
