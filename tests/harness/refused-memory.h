/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* The linker hands the allocations of a test program to these (--wrap=malloc, calloc, reallocarray), so that
 * it can refuse any of them. For its one file that refuses. */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

/* The one that is refused; 0: none. Not while something is asserted: check allocates, too. */
static unsigned countdown;

static bool refuse(void)
{
        return countdown > 0 && --countdown == 0;
}

void *__wrap_malloc(size_t size)
{
        return refuse() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
        return refuse() ? NULL : __real_calloc(n, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
        return refuse() ? NULL : __real_reallocarray(p, n, size);
}
