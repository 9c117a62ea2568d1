/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

/* How the C library's heap grows and shrinks. To be called first of all, by a program of one thread. */
void heap_end_init(void);

#define HEAP_END_PART ((size_t) 1024 * 1024)

/* Gives up to HEAP_END_PART of what is free at the end of the heap back to the kernel. False: that is little
 * by now. It costs 1 us for each megabyte of the heap, and what the kernel does. */
bool heap_end_give_back(void);
