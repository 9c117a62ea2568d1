/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/journal/journal.h"
#include "daemon/journal/record.h"

/* What the files of journal/ share. */

/* Begins a group at the end of the file. */
struct record_writer journal_group(const struct journal_buffer *file);
void journal_encode_used(struct record_writer *w, const struct tree *t);
/* A group was written that says all of that; used: by such a record. */
void journal_note_used(struct journal *j, const struct tree *t, bool used);
