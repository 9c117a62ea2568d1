/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdint.h>
#include <string.h>

#include "util/utf8.h"

static bool is_character(uint32_t c, size_t n)
{
        /* The least code point of a form of n bytes: a longer form than needed is not allowed. */
        static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

        if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return false;
        return !(c >= 0xfdd0 && c <= 0xfdef) && (c & 0xfffe) != 0xfffe;
}

size_t utf8_character(const char *p, size_t left)
{
        const unsigned char *s = (const unsigned char *) p;
        uint32_t c;
        size_t n;

        if (left == 0)
                return 0;
        if (s[0] < 0x80)
                return 1;
        if (s[0] < 0xc0 || s[0] >= 0xf8)
                return 0;
        n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
        if (n > left)
                return 0;
        c = s[0] & (0x7fu >> n);
        for (size_t i = 1; i < n; i++) {
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (s[i] & 0x3f);
        }
        return is_character(c, n) ? n : 0;
}

bool utf8_mend_bytes(char *text, size_t size)
{
        bool mended = false;

        for (size_t i = 0, n; i < size; i += n) {
                n = utf8_character(text + i, size - i);
                if (n > 0)
                        continue;
                text[i] = '?';
                mended = true;
                n = 1;
        }
        return mended;
}

bool utf8_mend(char *text)
{
        return utf8_mend_bytes(text, strlen(text));
}
