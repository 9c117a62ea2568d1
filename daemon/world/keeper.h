/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A state page tells its readers that this daemon is gone, however it went: by a robust futex, which the
 * kernel marks when the thread that keeps it has ended. */

/* Maps size bytes of fd, shared. The 32-bit word at offset (the same in all calls) is then this thread's id;
 * 0 where the kernel would not mark it. 0, or -errno. */
int keeper_map(int fd, size_t size, size_t offset, uint8_t **ret_map);
/* Does the kernel mark such a word, as this C library leaves it to us? 0, or -errno. */
int keeper_check(void);
/* Marks the word by hand. */
void keeper_unmap(uint8_t *map, size_t size, size_t offset);
