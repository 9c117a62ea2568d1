/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>

#include "daemon/journal/encode.h"
#include "daemon/journal/fields.h"
#include "daemon/journal/internal.h"

/* A file with all contexts: parents before children, and the newest of siblings first, as context_next()
 * goes, so that a cursor of the tree keeps the place while contexts come and go. */

static int end_group(struct journal *j, struct record_writer *w)
{
        record_end_group(w);
        if (w->is_full) {
                journal_compact_stop(j);
                return -ENOSPC;
        }
        j->next->used = (size_t) (w->p - j->next->bytes);
        return 0;
}

int journal_compact_begin(struct journal *j, struct tree *t, struct journal_buffer *next)
{
        struct record_writer w;

        assert(!j->next && next->used == 0 && STAILQ_EMPTY(&t->effects));
        tree_set_cursor(t, &j->cursor, t->background, context_next(t->background, t->background));
        j->next = next;
        w = journal_group(next);
        record_begin(&w, RECORD_BEGIN);
        record_write_u64(&w, JOURNAL_MAGIC);
        return end_group(j, &w);
}

void journal_compact_stop(struct journal *j)
{
        if (!j->next)
                return;
        tree_unset_cursor(&j->cursor);
        j->next = NULL;
}

/* What follows is done only when all below its root was come to. */
static unsigned fields_of(const struct tree *t, const struct context *c)
{
        return FIELD_IN_ORDER | (tree_own_ending(t, c) > 0 ? FIELD_AGAIN : 0);
}

int journal_compact(struct journal *j, struct tree *t, uint32_t budget)
{
        struct record_writer w = journal_group(j->next);
        const struct context *c;
        int r;

        assert(STAILQ_EMPTY(&t->effects));
        for (; (c = j->cursor.next) && budget > 0; budget--) {
                encode_context(&w, c, fields_of(t, c));
                j->cursor.next = context_next(c, t->background);
        }
        if (!c) {
                journal_encode_used(&w, t);
                record_begin(&w, RECORD_WHOLE);
        }
        r = end_group(j, &w);
        if (r < 0 || c)
                return r < 0 ? r : 1;
        journal_note_used(j, t, true);
        j->file = j->next;
        journal_compact_stop(j);
        return 0;
}

int journal_begin(struct journal *j, struct tree *t, struct journal_buffer *file)
{
        int r;

        *j = (struct journal){};
        r = journal_compact_begin(j, t, file);
        return r < 0 ? r : journal_compact(j, t, UINT32_MAX);
}
