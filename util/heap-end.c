/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* By itself the C library gives all that is free at the end of the heap back to the kernel in the one free()
 * that joins it. For 90 MB, which 200,000 contexts leave, that takes 5 to 17 ms. And it puts small blocks
 * aside when they are freed, and joins all of them in some later call: another 15 ms for as many. So it does
 * neither here. What is small is joined when it is freed, and the end of the heap goes in parts, when that is
 * asked for. The C library does not say how much is free there. But it keeps as much as it is told to keep,
 * so less and less is tried, in steps, until something has gone; at most two steps go then. */

#include <limits.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/heap-end.h"

/* What is kept, and what the heap grows by: the end need not move with each request. Large messages are not
 * to find much room there, because they would be copied when they grow. Elsewhere they are moved. */
#define SPARE (256 * 1024)
/* When a block of this size is freed, the C library looks at the end of the heap. */
#define LOOKED_AT (64 * 1024)
#define STEP (HEAP_END_PART / 2)

static const char *start;

static void never_by_itself(void)
{
        (void) mallopt(M_TRIM_THRESHOLD, -1);
        (void) mallopt(M_TOP_PAD, SPARE / 2);
}

void heap_end_init(void)
{
        never_by_itself();
        (void) mallopt(M_MXFAST, 0);
        start = sbrk(0);
}

/* If there is a step more than this, or more than a step, that goes. True: it has gone. */
static bool keep(size_t size)
{
        void *volatile block = malloc(LOOKED_AT);
        const char *end = sbrk(0);

        (void) mallopt(M_TOP_PAD, (int) size);
        (void) mallopt(M_TRIM_THRESHOLD, (int) (size + STEP));
        free(block);
        never_by_itself();
        return (const char *) sbrk(0) < end;
}

bool heap_end_give_back(void)
{
        size_t size = (size_t) ((const char *) sbrk(0) - start);

        while (size >= SPARE + STEP) {
                size -= STEP;
                if (size < INT_MAX - STEP && keep(size))
                        return true;
        }
        return false;
}
