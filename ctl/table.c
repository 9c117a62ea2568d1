/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/printable.h"
#include "ctl/table.h"

#define NARROWEST 12 /* no column is cut to less than this */

struct cell {
        char *text;
        enum color color;
};

struct table {
        size_t n_columns, n_cells, n_allocated; /* the header's cells come first */
        struct cell *cells;
        const char *const *header;
        int error;
};

struct table *table_new(const char *const *header)
{
        struct table *t = calloc(1, sizeof *t);

        if (!t)
                return NULL;
        t->header = header;
        for (; header[t->n_columns]; t->n_columns++)
                ;
        for (size_t i = 0; i < t->n_columns; i++)
                table_add_colored(t, header[i] + (header[i][0] == '-'), COLOR_HEADER);
        return t;
}

struct table *table_free(struct table *t)
{
        if (!t)
                return NULL;
        for (size_t i = 0; i < t->n_cells; i++)
                free(t->cells[i].text);
        free(t->cells);
        free(t);
        return NULL;
}

void table_add_colored(struct table *t, const char *text, enum color color)
{
        char *copy = printable_new(text && *text ? text : "-", false);

        if (t->n_cells == t->n_allocated) {
                size_t n = t->n_allocated ? 2 * t->n_allocated : 64;
                struct cell *cells = reallocarray(t->cells, n, sizeof *cells);

                if (cells) {
                        t->cells = cells;
                        t->n_allocated = n;
                }
        }
        if (!copy || t->n_cells == t->n_allocated) {
                free(copy);
                t->error = -ENOMEM;
                return;
        }
        t->cells[t->n_cells++] = (struct cell){copy, color};
}

void table_add(struct table *t, const char *text)
{
        table_add_colored(t, text, COLOR_NONE);
}

void table_addf(struct table *t, const char *format, ...)
{
        char text[256];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof text, format, ap);
        va_end(ap);
        table_add(t, text);
}

size_t table_rows(const struct table *t)
{
        return t->n_cells / t->n_columns - 1;
}

/* Prints the text in at most `room` columns. A longer text is cut, and gets an ellipsis. */
static void print_cut(const char *text, size_t room)
{
        size_t n = strlen(text), ellipsis = text_width(glyph(GLYPH_ELLIPSIS));
        char *copy;

        if (text_width(text) <= room) {
                fputs(text, stdout);
                return;
        }
        if (room <= ellipsis)
                return;
        copy = strdup(text);
        if (!copy)
                return;
        while (n > 0 && text_width(copy) > room - ellipsis) {
                /* All bytes of one UTF-8 character. */
                do
                        n--;
                while (n > 0 && ((unsigned char) copy[n] & 0xc0) == 0x80);
                copy[n] = '\0';
        }
        fputs(copy, stdout);
        fputs(glyph(GLYPH_ELLIPSIS), stdout);
        free(copy);
}

static void print_cell(const struct table *t, size_t i, size_t width)
{
        const struct cell *cell = t->cells + i;
        size_t column = i % t->n_columns, own = text_width(cell->text);
        bool last = column + 1 == t->n_columns, right = t->header[column][0] == '-';
        int gap = own < width ? (int) (width - own) : 0;

        if (right)
                printf("%*s", gap, "");
        fputs(color_on(cell->color), stdout);
        print_cut(cell->text, width);
        if (!right && !last)
                printf("%*s", gap, "");
        if (cell->color != COLOR_NONE)
                fputs(color_off(), stdout);
        fputs(last ? "\n" : " ", stdout);
}

/* Makes the widest column narrower, again and again, until all fit. Columns that are aligned to the right
 * have numbers, and stay whole. */
static void fit(const struct table *t, size_t *widths, size_t room)
{
        for (;;) {
                size_t used = t->n_columns - 1, widest = SIZE_MAX;

                for (size_t i = 0; i < t->n_columns; i++) {
                        used += widths[i];
                        if (t->header[i][0] != '-' && widths[i] > NARROWEST &&
                                        (widest == SIZE_MAX || widths[i] >= widths[widest]))
                                widest = i;
                }
                if (used <= room || widest == SIZE_MAX)
                        return;
                widths[widest] -= 1;
        }
}

int table_print(const struct table *t, bool legend)
{
        size_t *widths, columns = terminal_columns();

        if (t->error < 0)
                return t->error;
        widths = calloc(t->n_columns, sizeof *widths);
        if (!widths)
                return -ENOMEM;
        for (size_t i = legend ? 0 : t->n_columns; i < t->n_cells; i++) {
                size_t width = text_width(t->cells[i].text);

                if (width > widths[i % t->n_columns])
                        widths[i % t->n_columns] = width;
        }
        if (columns != SIZE_MAX)
                fit(t, widths, columns);
        for (size_t i = legend ? 0 : t->n_columns; i < t->n_cells; i++)
                print_cell(t, i, widths[i % t->n_columns]);
        free(widths);
        return 0;
}
