/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/law/journal-model.h"

/* Law 33 where the journal is full, or made anew, and what is done again after a restart. */

START_TEST(law_33_a_full_journal_loses_nothing)
{
        struct create_options o = plain;
        struct tree *back;
        size_t used;
        char *text;

        begin();
        file.size = file.used;
        make("c");
        used = file.used;
        ck_assert_int_eq(journal_write(&journal, t, &t->effects), -ENOSPC);
        ck_assert_uint_eq(file.used, used);
        while (journal_write(&journal, t, &t->effects) == -ENOSPC)
                file.size++;
        ck_assert_uint_eq(file.used, file.size); /* whole, and not a byte more */
        drain();
        ck_assert_int_eq(restore_from(file.bytes, file.used, 0, NULL, &back), 0);
        text = tree_text(t);
        assert_is(back, text);
        tree_free(back);
        free(text);
        ck_assert(!journal_has_room(&file, 0));

        /* What a Create takes at most. */
        file.size = 1 << 16;
        o.description = "some words";
        o.cause_message = "some more words";
        o.has_cause = true;
        make_with("a/b/c/d/e/f", &o);
        used = file.used;
        ck_assert_int_eq(journal_write(&journal, t, &t->effects), 1);
        ck_assert_uint_le(file.used - used, journal_create_bytes(&o));
        drain();
        end();
}
END_TEST

START_TEST(law_33_there_is_room_for_the_ends_of_a_slice)
{
        static char words[CTXD_REASON_MAX + 1];
        struct create_options o = plain;
        struct journal_buffer large;
        size_t used;

        memset(words, 'w', CTXD_REASON_MAX);
        begin();
        file_init(&large, 8 << 20);
        ck_assert_int_eq(journal_compact_begin(&journal, t, &large), 0);
        ck_assert_int_eq(journal_compact(&journal, t, 1), 0);
        o.deadline_usec = now + 10;
        o.has_cause = true;
        o.cause_message = words;
        for (int i = 0; i < 512; i++) {
                char path[32];

                sprintf(path, "x%d", i);
                make_with(path, &o);
        }
        ck_assert_int_eq(journal_write(&journal, t, &t->effects), 1);
        drain();
        used = large.used;
        large.size = used + JOURNAL_RESERVE;
        ck_assert(journal_has_room(&large, 0));
        ck_assert(!journal_has_room(&large, 1));
        at(now + 10);
        ck_assert_int_eq(journal_write(&journal, t, &t->effects), 1);
        drain();
        file_deinit(&large);
        end();
}
END_TEST

static unsigned count_effects(struct tree *tree, unsigned wanted)
{
        struct context *c;
        unsigned n = 0;

        STAILQ_FOREACH (c, &tree->effects, effects)
                n += (c->pending & wanted) == wanted;
        return n;
}

static struct tree *restore_again(size_t carried_out)
{
        struct tree *back;

        ck_assert_int_eq(restore_from(journal.file->bytes, journal.file->used, carried_out, t, &back), 0);
        return back;
}

START_TEST(law_33_what_was_perhaps_not_carried_out_is_done_again)
{
        struct context *top, *early;
        struct tree *back;
        size_t before, between;

        begin();
        early = make("early");
        make("early/x");
        top = make("top");
        for (int i = 0; i < 20; i++) {
                char path[32];

                sprintf(path, "top/%d", i);
                make(path);
        }
        commit();
        cancel(early);
        before = file.used;
        commit();
        between = file.used;
        t->slice = 2;
        cancel(top);
        commit();

        back = restore_again(file.used);
        ck_assert_uint_eq(count_effects(back, EFFECT_DONE), 0);
        tree_free(back);
        back = restore_again(between);
        ck_assert_uint_eq(count_effects(back, EFFECT_DONE | EFFECT_DRAINED), 21);
        ck_assert_uint_eq(count_effects(back, EFFECT_DONE | EFFECT_ROOT), 1);
        tree_free(back);
        back = restore_again(before);
        ck_assert_uint_eq(count_effects(back, EFFECT_DONE | EFFECT_DRAINED), 23);
        ck_assert_uint_eq(count_effects(back, EFFECT_DONE | EFFECT_ROOT), 2);
        tree_free(back);

        /* It goes on while another file is made: all of it is done again, and nothing else. */
        ck_assert_uint_gt(tree_own_ending(t, top), 0);
        commit();
        ck_assert_int_eq(journal_write(&journal, t, &t->effects), 0);
        drain();
        ck_assert_int_eq(journal_compact_begin(&journal, t, &other), 0);
        ck_assert_int_eq(journal_compact(&journal, t, 100), 0);
        ck_assert_ptr_eq(journal.file, &other);
        back = restore_again(other.used);
        ck_assert_uint_eq(count_effects(back, EFFECT_DONE | EFFECT_DRAINED), 21);
        tree_free(back);
        end();
}
END_TEST

/* Where the daemon dies in the middle of an end: those that it had not come to, with deadlines before and
 * after it, end as they would have. */
START_TEST(law_33_an_end_under_way_goes_on)
{
        struct tree *back;
        char path[32], *text;

        begin();
        make("top");
        for (unsigned i = 0; i < 20; i++) {
                sprintf(path, "top/%u", i);
                make_until(path, now + 5 + i);
                sprintf(path, "top/%u/below", i);
                make(path);
        }
        commit();
        t->slice = 2;
        now += 15;
        cancel(find("top"));
        ck_assert_int_ge(journal_write(&journal, t, &t->effects), 1);
        drain();
        ck_assert_uint_gt(tree_ending(t, find("top")), 0);
        back = restore_again(file.used);
        text = tree_text(t);
        assert_is(back, text);
        assert_done(context_of(back, find("top/3")->id), CONTEXT_DEADLINE_EXCEEDED,
                        context_of(back, find("top/3")->id), ETIMEDOUT, CTXD_ERR_DEADLINE);
        assert_done(context_of(back, find("top/13/below")->id), CONTEXT_CANCELED,
                        context_of(back, find("top")->id), ECANCELED, CTXD_ERR_CANCELED);
        tree_free(back);
        free(text);
        end();
}
END_TEST

/* The child's deadline does not count before its parent's is moved, and then it has to have its place. */
START_TEST(law_14_a_parent_that_came_back_is_extended)
{
        struct tree *back;

        begin();
        make_until("top", now + 10);
        make_until("top/below", now + 100);
        commit();
        back = restore_again(file.used);
        ck_assert_int_eq(tree_extend(back, now, &root, context_of(back, find("top")->id), UINT64_MAX,
                                         &refused),
                        0);
        tree_check(back);
        ck_assert_uint_eq(tree_next_usec(back), now + 100);
        tree_free(back);
        end();
}
END_TEST

START_TEST(law_33_a_file_that_is_not_whole_does_not_count)
{
        struct tree *back;
        char *text;

        begin();
        for (int i = 0; i < 10; i++) {
                char path[32];

                sprintf(path, "top/%d", i);
                make(path);
        }
        commit();
        ck_assert_int_eq(journal_compact_begin(&journal, t, &other), 0);
        for (int i = 0; journal_compact(&journal, t, 1) > 0; i++) {
                ck_assert_ptr_eq(journal.file, &file);
                ck_assert_int_eq(restore_from(other.bytes, other.used, other.used, NULL, &back), -ENODATA);
                if (i == 3) /* one that the new file has, one that it comes to, and some below both */
                        cancel(find("top/9"));
                if (i == 4)
                        cancel(find("top/2"));
                if (i == 5)
                        make("top/2/below/it");
                if (i == 6)
                        make("top/9/below/it");
                commit();
        }
        ck_assert_ptr_eq(journal.file, &other);
        text = tree_text(t);
        back = restore_again(other.used);
        assert_is(back, text);
        tree_free(back);
        free(text);

        /* One that is full is given up, and nothing else happens. */
        file.size = other.used / 2;
        file.used = 0;
        ck_assert_int_eq(journal_compact_begin(&journal, t, &file), 0);
        ck_assert_int_eq(journal_compact(&journal, t, 100), -ENOSPC);
        ck_assert_ptr_eq(journal.file, &other);
        ck_assert_ptr_null(journal.next);
        make("still");
        commit();
        end();
}
END_TEST

START_TEST(law_34_an_id_that_was_not_recorded_is_not_given_again)
{
        struct context *c;
        struct tree *back;

        begin();
        for (int i = 0; i < 5000; i++) {
                c = make("c");
                tree_discard(t, c);
                if (i % 1000 == 0) {
                        commit();
                        back = restore_again(file.used);
                        ck_assert_uint_ge(back->last_id, t->last_id + 1000);
                        tree_free(back);
                }
                drain();
        }
        end();
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {
                        law_33_a_full_journal_loses_nothing,
                        law_33_there_is_room_for_the_ends_of_a_slice,
                        law_33_what_was_perhaps_not_carried_out_is_done_again,
                        law_33_an_end_under_way_goes_on,
                        law_14_a_parent_that_came_back_is_extended,
                        law_33_a_file_that_is_not_whole_does_not_count,
                        law_34_an_id_that_was_not_recorded_is_not_given_again,
                        NULL,
        };

        return run_laws("law-model-journal-room", tests);
}
