/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The CRC-32C (Castagnoli) of the bytes, by the processor's own instruction where it has one. */
uint32_t crc32c(const void *data, size_t length);
/* The same without that instruction. For tests. */
uint32_t crc32c_by_table(const void *data, size_t length);
