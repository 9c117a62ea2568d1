/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>

#include "daemon/journal/encode.h"
#include "daemon/journal/internal.h"

/* So many ids are reserved when less than half of them are left. */
#define IDS_RESERVED 4096

struct record_writer journal_group(const struct journal_buffer *file)
{
        return (struct record_writer){.p = file->bytes + file->used, .end = file->bytes + file->size};
}

static uint64_t reserved(const struct tree *t)
{
        return t->last_id < RESTORE_ID_MAX - IDS_RESERVED ? t->last_id + IDS_RESERVED : RESTORE_ID_MAX;
}

void journal_encode_used(struct record_writer *w, const struct tree *t)
{
        record_begin(w, RECORD_USED);
        record_write_u64(w, reserved(t));
        record_write_u64(w, t->last_label);
}

void journal_note_used(struct journal *j, const struct tree *t, bool used)
{
        if (used)
                j->reserved_id = reserved(t);
        j->noted_label = t->last_label;
}

/* noted_label: what the labels of the group say by themselves. */
static bool is_to_be_reserved(const struct journal *j, const struct tree *t, uint64_t noted_label)
{
        return j->reserved_id < t->last_id + IDS_RESERVED / 2 || noted_label < t->last_label;
}

/* The same group, at the end of the other file. */
static void write_to_next(struct journal *j, const uint8_t *group, size_t n)
{
        if (!j->next)
                return;
        if (j->next->size - j->next->used < n) {
                journal_compact_stop(j);
                return;
        }
        memcpy(j->next->bytes + j->next->used, group, n);
        j->next->used += n;
}

int journal_write(struct journal *j, struct tree *t, struct effect_queue *queue)
{
        struct record_writer w = journal_group(j->file);
        struct context *c, *first = NULL, *last = NULL;
        uint64_t noted_label = j->noted_label, n;
        const uint8_t *group = w.p;
        bool used;

        STAILQ_FOREACH (c, queue, effects) {
                if (c->decided == 0)
                        continue;
                first = first ? first : c;
                last = c;
                if (c->decided & DECIDED_FORGOTTEN)
                        encode_forgotten(&w, c);
                else
                        encode_decisions(&w, c);
                n = c->decided & DECIDED_MADE ? label_number(c->label) : 0;
                noted_label = n > noted_label ? n : noted_label;
        }
        used = is_to_be_reserved(j, t, noted_label);
        if (used)
                journal_encode_used(&w, t);
        record_end_group(&w);
        if (w.is_full)
                return -ENOSPC;
        if (w.p == group)
                return 0;
        journal_note_used(j, t, used);
        for (c = first; c; c = c == last ? NULL : STAILQ_NEXT(c, effects))
                c->decided = 0;
        write_to_next(j, group, (size_t) (w.p - group));
        j->file->used += (size_t) (w.p - group);
        return 1;
}

size_t journal_create_bytes(const struct create_options *o)
{
        size_t n = CTXD_LABELS_MAX * ENCODE_CONTEXT_MAX;

        n += RECORD_HEADER + 8 + 16;                     /* a policy */
        n += 2 * (RECORD_HEADER + 2 * sizeof(uint64_t)); /* another one is released; ids are reserved */
        if (o->description)
                n += strlen(o->description) + 1;
        if (o->has_cause && o->cause_message)
                n += strlen(o->cause_message);
        for (size_t i = 0; i < o->n_values; i++)
                n += strlen(o->values[i].key) + strlen(o->values[i].value) + 2;
        return n;
}
