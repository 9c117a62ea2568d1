/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/model/tree.h"

/* The journal of what was decided about the contexts: records in memory that somebody else keeps, from which
 * a tree is made again. It has no descriptor and no clock. The format is record.h.
 *
 * What is in it. One record for each decision (enum decision), with how things are then: a context was made;
 * it has ended, and with it all below it that has not ended by itself; it is drained, at a later time than
 * it ended; it was released; its own deadline was moved; the policies of its members; it is forgotten. All
 * that comes together in one drain is one record for a context: one that was made and has ended is made as
 * an ended one, and one that was made and forgotten is not in it. The rest of the effects are not in it,
 * since they follow: EFFECT_NEW, _DONE and _ROOT from the above, EFFECT_MOVED from the own deadlines,
 * EFFECT_KILL from the policies. Nor are members and handles. They come back from the kernel and with parked
 * descriptors.
 *
 * The order is: the model, journal_write(), the effects. Its records count when the writer has moved
 * file->used over them, so whoever keeps the file publishes that with one store, before anything is done in
 * the world. In a drain the world finds that nobody is left in some contexts, which is decided there. So
 * journal_write() is called twice: before the first effect is carried out, and before the contexts are taken
 * from the queue.
 *
 * Ends in slices. The root is done at once, and so is its record. Where the daemon dies in the middle, the
 * tree that is made again is one in which the end has come to all. Nobody has seen those active to which it
 * had not come. What was perhaps not carried out is left as effects (`carried_out` below). So that is not
 * moved over the record of an end that goes on in slices (tree_own_ending()), in neither file.
 *
 * One thing may be otherwise than it was. What ends while a large tree is extended in slices comes back as
 * if the extension had come to all at once: it may show another deadline, and where its own deadline had
 * just passed it may read deadline-exceeded instead of canceled. */

/* Where records are. The bytes may move between two calls, and size may grow. */
struct journal_buffer {
        uint8_t *bytes;
        size_t size;
        size_t used; /* whole groups; what is behind that does not count */
};

struct journal {
        struct journal_buffer *file;
        struct journal_buffer *next;       /* the one that is being made, or NULL */
        struct cursor cursor;              /* how far that is */
        uint64_t reserved_id, noted_label; /* what RECORD_USED has said last */
};

/* So much is left for what cannot be refused. Between two drains these are ends, releases and forgettings of
 * a slice; the text of a cause is what takes room. */
#define JOURNAL_RESERVE (UINT32_C(1) << 20)

/* Whether a verb that would take so much at most may be called, or is to be refused. */
static inline bool journal_has_room(const struct journal_buffer *file, size_t bytes)
{
        return file->size >= JOURNAL_RESERVE && bytes <= file->size - JOURNAL_RESERVE &&
               file->used <= file->size - JOURNAL_RESERVE - bytes;
}

/* At most so much a Create takes, with all the ancestors that it makes. */
size_t journal_create_bytes(const struct create_options *o);
/* The same of what can be refused else: an Extend, an Attach. */
#define JOURNAL_CHANGE_BYTES 1024

/* Writes what was decided about the contexts of the queue: one group, or nothing if that is nothing. Returns
 * 1 or 0. -ENOSPC: the file is full, nothing was written, and nothing is lost: all is as before, and the same
 * call with more room goes on. If the next file is full, it is given up (j->next is NULL). */
int journal_write(struct journal *j, struct tree *t, struct effect_queue *queue);

/* Writes a file with all contexts, and makes it the journal's: at once for a new journal, or in slices. While
 * the slices go on all changes are written to both files. A change of a context that the new file has not
 * come to yet is nothing to it: when it comes to it, the context is written as it is then. New contexts are
 * the first of their siblings, so one whose parent was written is never come to, and one whose parent was not
 * is. To be called between drains, when the queue is empty. The file is empty. Until it is whole j->file
 * counts, and is what is kept.
 *
 * journal_begin() returns 0 or -ENOSPC. journal_compact() writes up to so many contexts, and returns 1 if
 * there are more, 0 if the new file is j->file now, or -ENOSPC if it was full and is given up. */
int journal_begin(struct journal *j, struct tree *t, struct journal_buffer *file);
int journal_compact_begin(struct journal *j, struct tree *t, struct journal_buffer *next);
int journal_compact(struct journal *j, struct tree *t, uint32_t budget);
void journal_compact_stop(struct journal *j);

/* Makes the tree, which is empty, as the records say (daemon/model/restore.h; tree_restored() comes later).
 * What ended by a record at or after carried_out has its effects again. *ret_used says how much was used:
 * whole groups. 0: that is all of it. 1: the end of the bytes is cut off, and the tree is that of the groups
 * before. -ENODATA: there is no whole file. -EBADMSG: it is damaged. -EPROTONOSUPPORT: it is of another
 * version. -ENOMEM. After an error the tree is only good for tree_free(). */
int journal_replay(struct tree *t, const uint8_t *bytes, size_t size, size_t carried_out, size_t *ret_used);
