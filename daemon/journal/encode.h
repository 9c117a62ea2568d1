/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/journal/record.h"
#include "daemon/model/restore.h"

/* The fields of each kind of record: written from a context, and read as what daemon/model/restore.h takes.
 */

/* All of a context that is kept: RECORD_CONTEXT, and RECORD_POLICIES if it has any. more: fields.h. */
void encode_context(struct record_writer *w, const struct context *c, unsigned more);
/* What was decided about it, but for DECIDED_FORGOTTEN. */
void encode_decisions(struct record_writer *w, const struct context *c);
/* Adds to the last record, if that is a RECORD_FORGOTTEN. */
void encode_forgotten(struct record_writer *w, const struct context *c);

/* So much at most takes a record of the end of one, and one of a context that has a description, a cause and
 * values of so many bytes, with their NUL. */
#define ENCODE_END_MAX (RECORD_HEADER + 8 + 2 + 3 * 8 + 1 + 12 + 16 + CTXD_REASON_MAX + 1)
#define ENCODE_CONTEXT_MAX (RECORD_HEADER + 5 * 8 + 2 * 4 + 4 + 1 + 24 + 1 + 29 + CTXD_LABEL_MAX + 1)

/* Applies one record that was read. 0, or what the functions of restore.h return. */
int decode(struct restore *to, struct record *r, bool again);
