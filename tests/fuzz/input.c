/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "tests/fuzz/input.h"

uint8_t input_byte(struct input *in)
{
        return in->p < in->end ? *in->p++ : 0;
}

unsigned input_choice(struct input *in, unsigned n)
{
        return input_byte(in) % n;
}

uint64_t input_raw(struct input *in, unsigned bytes)
{
        uint64_t n = 0;

        for (unsigned i = 0; i < bytes; i++)
                n |= (uint64_t) input_byte(in) << (8 * i);
        return n;
}

uint64_t input_number(struct input *in)
{
        uint8_t how = input_byte(in);
        unsigned bit = how & 63;

        switch (how >> 6) {
        case 0:
                return bit; /* small ones */
        case 1:
                return UINT64_C(1) << bit;
        case 2:
                return UINT64_MAX >> bit;
        default:
                return input_raw(in, 1 + bit % 8);
        }
}

size_t input_bytes(struct input *in, void *ret, size_t max)
{
        size_t n = input_byte(in), left;

        if (n == 255) /* a long one */
                n = (size_t) input_raw(in, 2);
        left = (size_t) (in->end - in->p);
        if (n > left)
                n = left;
        if (n > max)
                n = max;
        if (n > 0)
                memcpy(ret, in->p, n);
        in->p += n;
        return n;
}

char *input_text(struct input *in, char *ret, size_t size, bool ascii)
{
        size_t n = input_bytes(in, ret, size - 1);

        ret[n] = '\0';
        for (size_t i = 0; i < n; i++) {
                if (ascii)
                        ret[i] &= 0x7f;
                if (ret[i] == '\0')
                        ret[i] = '/';
        }
        return ret;
}
