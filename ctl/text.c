/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "util/cleanup.h"
#include "ctl/ctxctl.h"
#include "ctl/terminal.h"
#include "ctl/text.h"

/* One character, or one colour, which takes no columns. Returns its bytes. */
static size_t next_piece(const char *text, size_t n, mbstate_t *state, size_t *ret_columns)
{
        wchar_t character;
        size_t length;
        int width;

        *ret_columns = 0;
        if (*text == '\033') {
                const char *end = memchr(text, 'm', n);

                return end ? (size_t) (end - text) + 1 : n;
        }
        length = mbrtowc(&character, text, n, state);
        if (length == 0 || length > n) { /* one byte of another character set */
                memset(state, 0, sizeof *state);
                *ret_columns = 1;
                return 1;
        }
        width = wcwidth(character);
        *ret_columns = width > 0 ? (size_t) width : 0;
        return length;
}

static size_t width_of(const char *text, size_t n)
{
        mbstate_t state = {};
        size_t width = 0, columns;

        for (size_t length; n > 0; text += length, n -= length) {
                length = next_piece(text, n, &state, &columns);
                width += columns;
        }
        return width;
}

size_t text_width(const char *text)
{
        return width_of(text, strlen(text));
}

void text_put(FILE *out, const char *line, size_t n, size_t columns)
{
        size_t ellipsis = text_width(glyph(GLYPH_ELLIPSIS)), used = 0, width;
        mbstate_t state = {};
        bool cut = false;

        if (columns == SIZE_MAX || width_of(line, n) <= columns) {
                fwrite(line, 1, n, out);
                return;
        }
        for (size_t length; n > 0; line += length, n -= length) {
                length = next_piece(line, n, &state, &width);
                if (!cut && used + width + ellipsis > columns && *line != '\033') {
                        cut = true;
                        if (ellipsis <= columns)
                                fputs(glyph(GLYPH_ELLIPSIS), out);
                }
                used += width;
                if (!cut || *line == '\033')
                        fwrite(line, 1, length, out);
        }
}

char *text_to_fit(const char *text, size_t used, char *buffer, size_t size)
{
        size_t columns = terminal_text_columns();
        FILE *out = fmemopen(buffer, size, "w");

        buffer[0] = '\0';
        if (columns != SIZE_MAX)
                columns -= used < columns ? used : columns;
        if (out) {
                text_put(out, text, strlen(text), columns);
                fclose(out);
        }
        buffer[size - 1] = '\0';
        return buffer;
}

int text_draw(int (*draw)(void *userdata, FILE *out), void *userdata)
{
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        int r = out ? draw(userdata, out) : EXIT_FAILED;

        if (!out || fclose(out) != 0) {
                print_error("out of memory");
                return EXIT_FAILED;
        }
        for (const char *line = text; *line;) {
                size_t n = strcspn(line, "\n");

                text_put(stdout, line, n, terminal_columns());
                putchar('\n');
                line += n + (line[n] == '\n');
        }
        return r;
}
