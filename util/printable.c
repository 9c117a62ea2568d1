/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/printable.h"
#include "util/utf8.h"

static bool only_ascii;

void printable_in_ascii(void)
{
        only_ascii = true;
}

static uint32_t code_point(const char *p, size_t n)
{
        const unsigned char *s = (const unsigned char *) p;
        uint32_t code = n == 1 ? s[0] : s[0] & (0x7fu >> n);

        for (size_t i = 1; i < n; i++)
                code = code << 6 | (s[i] & 0x3f);
        return code;
}

bool character_is_hidden(const char *p, size_t n, uint32_t *ret_code)
{
        /* Controls; what changes the direction, breaks the line or has no width; annotations; tags. */
        static const struct {
                uint32_t first, last;
        } hidden[] = {{0, 0x1f}, {0x7f, 0x9f}, {0xad, 0xad}, {0x61c, 0x61c}, {0x180e, 0x180e},
                        {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f}, {0xfeff, 0xfeff},
                        {0xfff9, 0xfffb}, {0xe0000, 0xe0fff}};
        uint32_t code = code_point(p, n);

        *ret_code = code;
        if (only_ascii && code >= 0x80)
                return true;
        for (size_t i = 0; i < ELEMENTSOF(hidden); i++)
                if (code >= hidden[i].first && code <= hidden[i].last)
                        return true;
        return false;
}

static int show(uint32_t code, char shown[12])
{
        static const char letters[] = {['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};

        if (code < sizeof letters && letters[code])
                return snprintf(shown, 12, "\\%c", letters[code]);
        return snprintf(shown, 12, code < 0x80 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x", code);
}

char *printable(const char *text, bool newlines, char *buffer, size_t size)
{
        size_t left = strlen(text), at = 0;

        for (size_t n; left > 0; text += n, left -= n) {
                size_t length;
                const char *from = text;
                char shown[12];
                uint32_t code;

                length = n = utf8_character(text, left);
                if (n == 0) {
                        n = 1;
                        length = (size_t) snprintf(shown, sizeof shown, "\\x%02x", (unsigned char) *text);
                        from = shown;
                } else if (character_is_hidden(text, n, &code) && !(newlines && code == '\n')) {
                        length = (size_t) show(code, shown);
                        from = shown;
                }
                if (at + length >= size)
                        break;
                memcpy(buffer + at, from, length);
                at += length;
        }
        buffer[at] = '\0';
        return buffer;
}

char *printable_new(const char *text, bool newlines)
{
        size_t size = PRINTABLE_SIZE(strlen(text));
        char *buffer = malloc(size);

        return buffer ? printable(text, newlines, buffer, size) : NULL;
}
