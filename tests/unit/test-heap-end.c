/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/harness/suite.h"
#include "util/heap-end.h"

#define BLOCKS 100000
#define LARGE 400
#define SMALL 40
#define SPARE_MAX ((ptrdiff_t) 2 * 1024 * 1024)

static char *large[BLOCKS], *small[BLOCKS];

static void fill(void)
{
        for (size_t i = 0; i < BLOCKS; i++) {
                large[i] = malloc(LARGE);
                small[i] = malloc(SMALL);
        }
}

/* In the order in which they were made, so that all are joined by the last one. */
static ptrdiff_t most_at_once(char **blocks)
{
        ptrdiff_t most = 0;

        for (size_t i = 0; i < BLOCKS; i++) {
                const char *end = sbrk(0);

                free(blocks[i]);
                if (end - (const char *) sbrk(0) > most)
                        most = end - (const char *) sbrk(0);
        }
        return most;
}

/* An assertion takes memory, too, and that could be the last of the heap. So there is none between. */
START_TEST(the_heap_shrinks_in_parts)
{
        const char *start = sbrk(0), *end;
        ptrdiff_t full, at_once, part = 0, n = 0;

        fill();
        full = (const char *) sbrk(0) - start;
        at_once = most_at_once(small);
        at_once += most_at_once(large);
        for (end = sbrk(0); heap_end_give_back(); end = sbrk(0), n++)
                if (end - (const char *) sbrk(0) > part)
                        part = end - (const char *) sbrk(0);
        if (full < BLOCKS * LARGE)
                return; /* a sanitizer's heap is elsewhere */
        ck_assert_int_eq(at_once, 0);
        ck_assert_int_gt(n, 0);
        ck_assert_int_le(n, full / (ptrdiff_t) (HEAP_END_PART / 2)); /* nor in crumbs */
        ck_assert_int_le(part, (ptrdiff_t) HEAP_END_PART);
        ck_assert_int_le(end - start, SPARE_MAX);
}
END_TEST

START_TEST(what_is_small_is_joined_at_once)
{
        for (size_t i = 0; i < BLOCKS; i++)
                small[i] = malloc(SMALL);
        (void) most_at_once(small);
        ck_assert_uint_eq(mallinfo2().fsmblks, 0);
}
END_TEST

int main(void)
{
        heap_end_init();
        return run_tests("heap-end", (const TTest *const[]){the_heap_shrinks_in_parts,
                                                     what_is_small_is_joined_at_once, NULL});
}
