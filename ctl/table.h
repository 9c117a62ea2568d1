/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "ctl/ctxctl.h"
#include "ctl/terminal.h"

/* A table with aligned columns and a header. On a narrow terminal the widest columns are cut. */

struct table;

/* header: the titles of the columns, NULL at the end. A leading '-' or '~' is not shown. '-' aligns the
 * column to the right, and has it stay whole; '~' says that it has texts, and not names. */
struct table *table_new(const char *const *header);
struct table *table_free(struct table *table);
/* Adds the next cell; after the last column a new row begins. The text is copied; NULL and "" are shown as
 * "-". If memory runs out, table_print() returns -ENOMEM. */
void table_add(struct table *table, const char *text);
void table_add_colored(struct table *table, const char *text, enum color color);
void table_addf(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Without the header. */
size_t table_rows(const struct table *table);
int table_print(const struct table *table, bool legend);

static inline void table_freep(struct table **table)
{
        table_free(*table);
}
