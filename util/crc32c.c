/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <endian.h>
#include <stdbool.h>
#include <string.h>

#include "util/crc32c.h"

/* By instruction eight bytes at a time, by table sixteen. table[k] has what a byte comes to that k more bytes
 * follow. */

#define POLYNOMIAL UINT32_C(0x82f63b78)

static uint32_t table[16][256];

__attribute__((constructor)) static void fill_table(void)
{
        for (uint32_t i = 0; i < 256; i++) {
                uint32_t crc = i;

                for (int bit = 0; bit < 8; bit++)
                        crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
                table[0][i] = crc;
        }
        for (int k = 1; k < 16; k++)
                for (uint32_t i = 0; i < 256; i++)
                        table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 0xff];
}

static uint32_t of_word(uint64_t word, const uint32_t t[8][256])
{
        return t[7][word & 0xff] ^ t[6][word >> 8 & 0xff] ^ t[5][word >> 16 & 0xff] ^
               t[4][word >> 24 & 0xff] ^ t[3][word >> 32 & 0xff] ^ t[2][word >> 40 & 0xff] ^
               t[1][word >> 48 & 0xff] ^ t[0][word >> 56];
}

uint32_t crc32c_by_table(const void *data, size_t length)
{
        const unsigned char *p = data;
        uint32_t crc = UINT32_MAX;

        for (; length >= 16; length -= 16, p += 16) {
                uint64_t word[2];

                memcpy(word, p, sizeof word);
                crc = of_word(le64toh(word[0]) ^ crc, table + 8) ^ of_word(le64toh(word[1]), table);
        }
        for (; length > 0; length--, p++)
                crc = crc >> 8 ^ table[0][(crc ^ *p) & 0xff];
        return ~crc;
}

#ifdef __x86_64__

static bool has_instruction(void)
{
        return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2"))) static uint32_t by_instruction(const void *data, size_t length)
{
        const unsigned char *p = data;
        uint64_t crc = UINT32_MAX, word;

        for (; length >= 8; length -= 8, p += 8) {
                memcpy(&word, p, sizeof word);
                crc = __builtin_ia32_crc32di(crc, word);
        }
        if (length & 4) {
                memcpy(&word, p, 4);
                crc = __builtin_ia32_crc32si((uint32_t) crc, (uint32_t) word);
                p += 4;
        }
        if (length & 2) {
                memcpy(&word, p, 2);
                crc = __builtin_ia32_crc32hi((uint32_t) crc, (uint16_t) word);
                p += 2;
        }
        if (length & 1)
                crc = __builtin_ia32_crc32qi((uint32_t) crc, *p);
        return ~(uint32_t) crc;
}

#else

static bool has_instruction(void)
{
        return false;
}

static uint32_t by_instruction(const void *data, size_t length)
{
        return crc32c_by_table(data, length);
}

#endif

uint32_t crc32c(const void *data, size_t length)
{
        return has_instruction() ? by_instruction(data, length) : crc32c_by_table(data, length);
}
