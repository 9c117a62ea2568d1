/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Colours on a terminal, UTF-8 in a UTF-8 locale, nothing of either elsewhere. */

enum color {
        COLOR_NONE,
        COLOR_HIGHLIGHT,
        COLOR_HEADER,
        COLOR_GREEN,
        COLOR_YELLOW,
        COLOR_RED,
        COLOR_GREY,
};

bool terminal_is_capable(void);
/* Asks the terminal now, before standard output becomes a pipe to the pager. */
void terminal_remember(void);
size_t terminal_columns(void); /* SIZE_MAX where lines are not to be cut */

size_t terminal_rows(void); /* as they are now, 24 where that is unknown */

/* The escape sequence, or "" where there are no colours. */
const char *color_on(enum color color);
const char *color_off(void);

enum color state_color(const char *state);

enum glyph {
        GLYPH_DOT,
        GLYPH_ELLIPSIS,
        GLYPH_BRANCH,   /* there are more below */
        GLYPH_RIGHT,    /* the last one */
        GLYPH_VERTICAL, /* an ancestor has more below */
        GLYPH_SPACE,
};

const char *glyph(enum glyph g);
/* Columns on the terminal. */
size_t text_width(const char *text);

/* What others called their contexts and processes must not drive the terminal: control characters become '?',
 * newlines stay if they may. */
void text_defuse(char *text, bool newlines);
