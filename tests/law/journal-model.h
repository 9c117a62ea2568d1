/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "tests/law/journal.h"
#include "tests/law/model.h"

/* A tree with a journal, for tests of what becomes of the journal. */

enum { MOMENTS_MAX = 64 };
static struct journal journal;
static struct journal_buffer file, other;
/* The trees that were there, each by where the file ended then. */
static struct {
        size_t used;
        char *text;
} moments[MOMENTS_MAX];
static unsigned n_moments;

static inline void begin(void)
{
        file_init(&file, 1 << 16);
        file_init(&other, 1 << 16);
        n_moments = 0;
        t->last_id = 1000;
        t->now_usec = now;
        ck_assert_int_eq(journal_begin(&journal, t, &file), 0);
}

static inline void end(void)
{
        journal_compact_stop(&journal);
        for (unsigned i = 0; i < n_moments; i++)
                free(moments[i].text);
        file_deinit(&file);
        file_deinit(&other);
}

static inline void commit(void)
{
        ck_assert_int_ge(journal_write(&journal, t, &t->effects), 0);
        drain();
        ck_assert_uint_lt(n_moments, MOMENTS_MAX);
        moments[n_moments].used = journal.file->used;
        moments[n_moments++].text = tree_text(t);
}

static inline void assert_is(struct tree *back, const char *should)
{
        char *is;

        is = tree_text(back);
        ck_assert(should && text_is_same(is, should));
        free(is);
}
