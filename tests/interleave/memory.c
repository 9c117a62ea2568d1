/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/interleave/world.h"

/* The program's and the library's memory. Each thread allocates from a place of its own, so that a block has
 * the same address in every order. What is freed is not used again in the same order: an access to it is
 * seen. */

#define PLACE_SIZE (256 * 1024)
#define N_PLACES (THREADS_MAX + 1) /* the last one: when no thread runs */
#define GRANULE 16

enum { UNUSED, USED, FREED };

struct block {
        uint32_t size; /* rounded up */
        bool is_kept;  /* the library keeps it: no leak */
        char padding[GRANULE - 5];
};

static struct memory {
        char places[N_PLACES][PLACE_SIZE];
        /* For each granule, UNUSED, USED or FREED; and where its block begins. */
        uint8_t states[N_PLACES * PLACE_SIZE / GRANULE];
        uint32_t blocks[N_PLACES * PLACE_SIZE / GRANULE];
        size_t used[N_PLACES];
        size_t n_left;
        bool is_on;
} * memory;

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__real_memset(void *to, int byte, size_t size);
char *__real_strdup(const char *text);
void __real_free(void *p);

void memory_init(void)
{
        memory = mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
                abort();
}

void memory_reset(void)
{
        for (size_t i = 0; i < N_PLACES; i++) {
                memset(memory->states + i * PLACE_SIZE / GRANULE, UNUSED, memory->used[i] / GRANULE);
                memory->used[i] = 0;
        }
        memory->n_left = 0;
        memory->is_on = true;
}

size_t memory_left(void)
{
        return memory->n_left;
}

static bool is_ours(const void *p)
{
        return (uintptr_t) p - (uintptr_t) memory->places < sizeof memory->places;
}

static size_t granule_of(const void *p)
{
        return ((uintptr_t) p - (uintptr_t) memory->places) / GRANULE;
}

void memory_check(const void *address, size_t size)
{
        size_t first, last;

        if (!memory || !is_ours(address) || size == 0)
                return;
        first = granule_of(address);
        last = granule_of((const char *) address + size - 1);
        for (size_t i = first; i <= last; i++)
                if (memory->states[i] != USED)
                        fail("%s", memory->states[i] == FREED ? "memory is used after it was freed"
                                                              : "memory is used that is not allocated");
}

uintptr_t memory_key(const void *address)
{
        return is_ours(address) ? memory->blocks[granule_of(address)] * UINT64_C(16) + 8
                                : (uintptr_t) address;
}

static void *allocate(size_t size, size_t alignment, bool is_kept)
{
        size_t place = world->current ? (size_t) (world->current - world->threads) : N_PLACES - 1;
        size_t begin, granules = (size + GRANULE - 1) / GRANULE;
        struct block *block;
        char *p;

        if (alignment < GRANULE)
                alignment = GRANULE;
        begin = (memory->used[place] + sizeof(struct block) + alignment - 1) / alignment * alignment;
        /* One granule stays unused behind each block. */
        if (size > PLACE_SIZE || begin + (granules + 1) * GRANULE > PLACE_SIZE) {
                errno = ENOMEM;
                return NULL;
        }
        p = memory->places[place] + begin;
        memory->used[place] = begin + (granules + 1) * GRANULE;
        block = (struct block *) p - 1;
        *block = (struct block){.size = (uint32_t) granules, .is_kept = is_kept};
        for (size_t i = 0; i < granules; i++) {
                memory->states[granule_of(p) + i] = USED;
                memory->blocks[granule_of(p) + i] = (uint32_t) granule_of(p);
        }
        __real_memset(p, 0xa5, granules * GRANULE);
        memory->n_left += !is_kept;
        return p;
}

static void release(void *p)
{
        struct block *block = (struct block *) p - 1;

        if (memory->states[granule_of(p)] != USED || memory->blocks[granule_of(p)] != granule_of(p))
                fail("%s is freed", memory->states[granule_of(p)] == FREED ? "memory that was freed before"
                                                                           : "what was not allocated");
        memory->n_left -= !block->is_kept;
        memset(memory->states + granule_of(p), FREED, block->size);
        __real_memset(p, 0x5a, block->size * (size_t) GRANULE);
}

void *__wrap_malloc(size_t size)
{
        return memory && memory->is_on ? allocate(size, GRANULE, false) : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
        void *p;

        if (!memory || !memory->is_on)
                return __real_calloc(n, size);
        p = allocate(n * size, GRANULE, false);
        if (p)
                memset(p, 0, n * size);
        return p;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
        return memory && memory->is_on ? allocate(size, alignment, false)
                                       : __real_aligned_alloc(alignment, size);
}

/* The library lets tables grow so, which it keeps. */
void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
        void *grown;

        if (!memory || !memory->is_on)
                return __real_reallocarray(p, n, size);
        grown = allocate(n * size, GRANULE, true);
        if (grown && p) {
                size_t old = ((struct block *) p - 1)->size * (size_t) GRANULE;

                memcpy(grown, p, old < n * size ? old : n * size);
                release(p);
        }
        return grown;
}

char *__wrap_strdup(const char *text)
{
        size_t size = strlen(text) + 1;
        char *copy = __wrap_malloc(size);

        return copy ? memcpy(copy, text, size) : NULL;
}

void __wrap_free(void *p)
{
        if (!p || !memory || !is_ours(p)) {
                __real_free(p);
                return;
        }
        step(STEP_FREE, p, __builtin_return_address(0));
        release(p);
}
