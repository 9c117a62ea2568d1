/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* The one function of every fuzz-*.c: libFuzzer calls it, or replay.c for each file of a corpus. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold, in every build. */
#define REQUIRE(condition)                                                                            \
        do {                                                                                          \
                if (!(condition)) {                                                                   \
                        fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
                        abort();                                                                      \
                }                                                                                     \
        } while (false)

/* The input as a stream of choices. At its end everything is 0, so that any input is one that can be decoded,
 * and a shorter one is nearly the same. */
struct input {
        const uint8_t *p, *end;
};

static inline bool input_is_empty(const struct input *in)
{
        return in->p == in->end;
}

uint8_t input_byte(struct input *in);
/* 0 to n - 1 */
unsigned input_choice(struct input *in, unsigned n);
/* Raw, little endian, of 1 to 8 bytes. */
uint64_t input_raw(struct input *in, unsigned bytes);
/* One that is worth trying (0, 1, powers of two and their neighbours), or raw. */
uint64_t input_number(struct input *in);
/* A length and so many bytes; what is not there is left out. Returns how many. */
size_t input_bytes(struct input *in, void *ret, size_t max);
/* The same, as a string without NUL, and cut to ASCII where it is asked for. */
char *input_text(struct input *in, char *ret, size_t size, bool ascii);
