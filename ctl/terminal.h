/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* What the terminal can do: colours (only on a terminal), UTF-8 (only in a UTF-8 locale), and its size. */

enum color {
        COLOR_NONE,
        COLOR_HIGHLIGHT,
        COLOR_HEADER,
        COLOR_GREEN,
        COLOR_YELLOW,
        COLOR_RED,
        COLOR_GREY,
};

/* Standard error, say, instead of standard output. To be called before the others. */
void terminal_use(int fd);
/* The locale says that it understands UTF-8. */
bool terminal_has_utf8(void);
/* It understands escape sequences. */
bool terminal_is_capable(void);
/* Looks at the terminal and remembers the answers, before standard output becomes a pipe to the pager. */
void terminal_remember(void);
/* How wide a line may be: as the terminal, or as $COLUMNS says. SIZE_MAX: lines are not to be cut. */
size_t terminal_columns(void);
/* How wide a text may be that is no name, such as a command line. Where the width is not known it is cut as
 * well, since nobody wants to read a line of thousands of characters. */
size_t terminal_text_columns(void);
/* --full: nothing is cut, except on a screen. */
void terminal_show_all(void);
/* What comes is redrawn, so no line may be wider than the terminal, whatever $COLUMNS says, and that may have
 * another width now. */
void terminal_resized(void);
/* The present number; 24 where it is unknown. */
size_t terminal_rows(void);

/* The escape sequence, or "" where there are no colours. */
const char *color_on(enum color color);
const char *color_off(void);

enum color state_color(const char *state);

enum glyph {
        GLYPH_DOT,
        GLYPH_ELLIPSIS,
        GLYPH_BRANCH,   /* in front of an entry of a tree */
        GLYPH_RIGHT,    /* in front of the last entry */
        GLYPH_VERTICAL, /* beside the entries below an entry that is not the last */
        GLYPH_SPACE,
};

const char *glyph(enum glyph g);
