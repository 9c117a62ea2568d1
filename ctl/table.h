/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "ctl/ctxctl.h"
#include "ctl/terminal.h"

/* Aligned columns with a header; the widest are cut where the terminal is narrow. */

struct table;

/* The header's cells, NULL at the end; a leading '-' aligns a column to the right and is not shown. */
struct table *table_new(const char *const *header);
struct table *table_free(struct table *table);
/* The next cell; rows fill up by themselves. The text is copied; NULL or "" shows as "-". Keeps -ENOMEM for
 * table_print(). */
void table_add(struct table *table, const char *text);
void table_add_colored(struct table *table, const char *text, enum color color);
void table_addf(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
size_t table_rows(const struct table *table);
int table_print(const struct table *table, bool legend);

static inline void table_freep(struct table **table)
{
        table_free(*table);
}
