/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <langinfo.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ctl/parse.h"
#include "ctl/terminal.h"

#define TEXT_COLUMNS 80

static struct {
        int fd;
        bool asked;
        bool colors;
        bool utf8;
        bool all;     /* --full */
        size_t given; /* by $COLUMNS */
        size_t columns;
} terminal = {.fd = STDOUT_FILENO};

/* SIZE_MAX: it has none. */
static size_t width(void)
{
        struct winsize size;

        return ioctl(terminal.fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : SIZE_MAX;
}

void terminal_use(int fd)
{
        terminal.fd = fd;
}

bool terminal_has_utf8(void)
{
        return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

bool terminal_is_capable(void)
{
        const char *term = getenv("TERM");

        return term && *term && strcmp(term, "dumb") != 0;
}

static bool want_colors(void)
{
        const char *e = getenv("SYSTEMD_COLORS");

        if (e)
                return strcmp(e, "0") != 0 && strcmp(e, "no") != 0 && strcmp(e, "false") != 0 &&
                       strcmp(e, "off") != 0;
        if (getenv("NO_COLOR"))
                return false;
        return isatty(terminal.fd) && terminal_is_capable();
}

void terminal_remember(void)
{
        const char *columns = getenv("COLUMNS");
        uint64_t given;

        if (terminal.asked)
                return;
        terminal.asked = true;
        terminal.colors = want_colors();
        terminal.utf8 = terminal_has_utf8();
        terminal.given = terminal.columns = SIZE_MAX;
        if (terminal.all)
                return;
        if (columns && parse_unsigned(columns, UINT16_MAX, &given) == 0 && given > 0)
                terminal.given = given;
        terminal.columns = terminal.given != SIZE_MAX ? terminal.given : width();
}

size_t terminal_columns(void)
{
        terminal_remember();
        return terminal.columns;
}

size_t terminal_text_columns(void)
{
        size_t columns = terminal_columns();

        return columns == SIZE_MAX && !terminal.all ? TEXT_COLUMNS : columns;
}

void terminal_show_all(void)
{
        terminal.all = true;
}

void terminal_resized(void)
{
        size_t columns = width();

        terminal_remember();
        terminal.columns = columns < terminal.given ? columns : terminal.given;
}

size_t terminal_rows(void)
{
        struct winsize size;

        return ioctl(terminal.fd, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : 24;
}

const char *color_on(enum color color)
{
        static const char *const sequences[] = {
                        [COLOR_NONE] = "",
                        [COLOR_HIGHLIGHT] = "\033[0;1;39m",
                        [COLOR_HEADER] = "\033[0;4m",
                        [COLOR_GREEN] = "\033[0;1;32m",
                        [COLOR_YELLOW] = "\033[0;1;33m",
                        [COLOR_RED] = "\033[0;1;31m",
                        [COLOR_GREY] = "\033[0;38;5;245m",
        };

        terminal_remember();
        return terminal.colors ? sequences[color] : "";
}

const char *color_off(void)
{
        terminal_remember();
        return terminal.colors ? "\033[0m" : "";
}

enum color state_color(const char *state)
{
        if (strcmp(state, "active") == 0)
                return COLOR_GREEN;
        if (strcmp(state, "deadline-exceeded") == 0)
                return COLOR_YELLOW;
        return COLOR_RED;
}

const char *glyph(enum glyph g)
{
        static const char *const glyphs[][2] = {
                        [GLYPH_DOT] = {"*", "\u25cf"},
                        [GLYPH_ELLIPSIS] = {"...", "\u2026"},
                        [GLYPH_BRANCH] = {"|-", "\u251c\u2500"},
                        [GLYPH_RIGHT] = {"`-", "\u2514\u2500"},
                        [GLYPH_VERTICAL] = {"| ", "\u2502 "},
                        [GLYPH_SPACE] = {"  ", "  "},
        };

        terminal_remember();
        return glyphs[g][terminal.utf8];
}
