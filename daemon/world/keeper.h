/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A state page tells its readers that this daemon is gone, however it went. For this it has a robust futex,
 * which the kernel marks when the thread that holds it has ended. That thread is the daemon's own. */

/* Maps size bytes of fd, shared, and writes this thread's id into the 32-bit word at offset. The offset has
 * to be the same in all calls. The word stays 0 if the kernel would not mark it. Returns 0 or -errno. */
int keeper_map(int fd, size_t size, size_t offset, uint8_t **ret_map);
/* Tries whether the kernel marks such a word, with this C library. Returns 0 or -errno. */
int keeper_check(void);
/* Marks the word itself, and unmaps the page. */
void keeper_unmap(uint8_t *map, size_t size, size_t offset);
