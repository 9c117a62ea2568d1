/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/journal/journal.h"
#include "daemon/model/restore.h"

/* What the tests of the journal share. */

/* All of a tree that is kept, as text: a line for the tree and one for each context and user. Two trees are
 * equal if their texts are. It brings the tree up to date first (tree_reach). The caller frees it.
 *
 * Not in it, since they are not kept: since when nobody holds a done context, and the order in which they are
 * forgotten; kills that were carried out, which are again; news and effects; what is not visible of an end
 * in slices. last_id is not either, since some ids are reserved. */
char *tree_text(struct tree *t);

/* Prints the first line that is not the same, and returns false; or returns true. */
bool text_is_same(const char *is, const char *should);

struct context *context_of(const struct tree *t, uint64_t id); /* or NULL */

/* A file with so much room. */
void file_init(struct journal_buffer *f, size_t size);
void file_deinit(struct journal_buffer *f);

/* Makes a tree from the bytes, and does what the world does: members and handles are those of `alive`, which
 * may be NULL. Returns what journal_replay() returns; *ret is NULL if that is an error. */
int restore_from(const uint8_t *bytes, size_t size, size_t carried_out, const struct tree *alive,
                struct tree **ret);
