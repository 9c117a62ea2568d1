/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/printable.h"
#include "ctl/table.h"
#include "ctl/text.h"

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

/* What stands before a title. */
static char mark_of(const struct table *t, size_t column)
{
        char first = t->header[column][0];

        return first == '-' || first == '~' ? first : '\0';
}

struct table *table_new(const char *const *header)
{
        struct table *t = calloc(1, sizeof *t);

        if (!t)
                return NULL;
        t->header = header;
        for (; header[t->n_columns]; t->n_columns++)
                ;
        for (size_t i = 0; i < t->n_columns; i++)
                table_add_colored(t, header[i] + (mark_of(t, i) != '\0'), COLOR_HEADER);
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

static void print_cell(FILE *out, const struct table *t, size_t i, size_t width)
{
        const struct cell *cell = t->cells + i;
        size_t column = i % t->n_columns, own = text_width(cell->text);
        bool last = column + 1 == t->n_columns, right = mark_of(t, column) == '-';
        int gap = own < width ? (int) (width - own) : 0;

        if (right)
                fprintf(out, "%*s", gap, "");
        fputs(color_on(cell->color), out);
        text_put(out, cell->text, strlen(cell->text), width);
        if (!right && !last)
                fprintf(out, "%*s", gap, "");
        if (cell->color != COLOR_NONE)
                fputs(color_off(), out);
        if (!last)
                fputc(' ', out);
}

/* Makes the widest column narrower, again and again, until all fit. Columns that are aligned to the right
 * have numbers, and stay whole. */
static void fit(const struct table *t, size_t *widths, size_t room)
{
        for (;;) {
                size_t used = t->n_columns - 1, widest = SIZE_MAX;

                for (size_t i = 0; i < t->n_columns; i++) {
                        used += widths[i];
                        if (mark_of(t, i) != '-' && widths[i] > NARROWEST &&
                                        (widest == SIZE_MAX || widths[i] >= widths[widest]))
                                widest = i;
                }
                if (used <= room || widest == SIZE_MAX)
                        return;
                widths[widest] -= 1;
        }
}

/* Of each column, how wide it is. */
static void measure(const struct table *t, size_t first, size_t *widths)
{
        size_t text_columns = terminal_text_columns(), columns = terminal_columns();

        for (size_t i = first; i < t->n_cells; i++) {
                size_t width = text_width(t->cells[i].text), column = i % t->n_columns;

                if (mark_of(t, column) == '~' && width > text_columns)
                        width = text_columns;
                if (width > widths[column])
                        widths[column] = width;
        }
        if (columns != SIZE_MAX)
                fit(t, widths, columns);
}

/* Where not even the narrowest columns fit, the row itself is cut. */
static int print_row(const struct table *t, size_t first, const size_t *widths)
{
        _cleanup_free_ char *row = NULL;
        size_t size;
        FILE *out = open_memstream(&row, &size);

        if (!out)
                return -ENOMEM;
        for (size_t i = 0; i < t->n_columns; i++)
                print_cell(out, t, first + i, widths[i]);
        if (fclose(out) != 0)
                return -ENOMEM;
        text_put(stdout, row, size, terminal_columns());
        putchar('\n');
        return 0;
}

int table_print(const struct table *t, bool legend)
{
        _cleanup_free_ size_t *widths = calloc(t->n_columns, sizeof *widths);
        size_t first = legend ? 0 : t->n_columns;
        int r = t->error;

        if (!widths)
                return -ENOMEM;
        measure(t, first, widths);
        for (size_t i = first; i < t->n_cells && r >= 0; i += t->n_columns)
                r = print_row(t, i, widths);
        return r;
}
