/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/journal/record.h"
#include "tests/law/journal-model.h"
#include "util/crc32c.h"

/* Law 33 where the journal is cut off, damaged, or of a version before. */

/* Every verb, one after the other. Nothing has members or handles in the end, since there is no world. */
static void tell_a_story(void)
{
        static const struct value values[] = {
                        {(char *) "org.example.a", (char *) "1"}, {(char *) "org.example.b", (char *) ""}};
        struct create_options o = plain;
        struct attachment a = {.wanted = {15, 1000, 7}};
        struct context *c, *below, *again;

        commit();
        o.values = values;
        o.n_values = 2;
        o.description = "what it is for";
        o.deadline_usec = now + 100;
        o.has_cause = true;
        o.cause_error = 5;
        o.cause_message = "too late";
        o.mode = 0750;
        o.grace_usec = 7;
        c = make_with("top/middle/a", &o);
        below = make_until("top/middle/a/b", now + 5000);
        commit();
        ck_assert_int_eq(tree_extend(t, now, &root, below, now + 50, &refused), 0);
        ck_assert_int_eq(tree_attach(t, now, &caller_daemon, below, &a, &refused), 0);
        commit();
        tree_attached(t, below);
        ck_assert_int_eq(create_as(&alice, "~/x/", &plain, &again), 1);
        commit();
        at(now + 60);
        commit();
        at(now + 60);
        tree_left(t, now, below);
        commit();
        ck_assert_int_eq(tree_release(t, now, &root, c, &refused), 0);
        make("top/middle/a");
        ck_assert_int_eq(cancel_because(again, 9, "not needed", NULL), 1);
        commit();
        t->retain_usec = 10;
        at(now + 20);
        commit();
        make("one/more");
        commit();
}

/* As it was then; 0: none of that size. */
static const char *text_then(size_t used)
{
        for (unsigned i = 0; i < n_moments; i++)
                if (moments[i].used == used)
                        return moments[i].text;
        return NULL;
}

/* Where a group ends. */
static bool is_end(size_t used)
{
        size_t at = 0;

        while (at < used) {
                struct record r;
                int64_t n = record_read(file.bytes + at, file.used - at, &r);

                ck_assert_int_gt(n, 0);
                at += (size_t) n;
                if (at == used)
                        return r.is_last;
        }
        return at == used;
}

START_TEST(law_33_each_prefix_is_the_tree_of_some_moment)
{
        size_t last = 0;

        begin();
        tell_a_story();
        ck_assert_uint_gt(n_moments, 8);
        for (size_t n = 0; n <= file.used; n++) {
                struct tree *back, *alive = NULL;
                int r = restore_from(file.bytes, n, n, alive, &back);

                if (r < 0) {
                        ck_assert_int_eq(r, -ENODATA);
                        ck_assert_uint_lt(n, moments[0].used);
                        continue;
                }
                ck_assert_int_eq(r, !is_end(n));
                if (r == 0)
                        last = n;
                ck_assert_ptr_nonnull(text_then(last));
                ck_assert_uint_eq(back->n_contexts, (unsigned) strtoul(text_then(last) + 9, NULL, 10));
                if (!strstr(text_then(last), "below 1 ")) /* a member comes back from the world only */
                        assert_is(back, text_then(last));
                tree_free(back);
        }
        ck_assert_uint_eq(last, file.used);
        end();
}
END_TEST

START_TEST(law_33_a_flipped_bit_is_found)
{
        unsigned cut = 0;

        begin();
        tell_a_story();
        for (size_t bit = 0; bit < file.used * 8; bit++) {
                struct tree *back;
                int r;

                file.bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
                r = restore_from(file.bytes, file.used, 0, NULL, &back);
                ck_assert_int_ne(r, 0);
                cut += r == 1; /* a length: it is seen because the end is known */
                tree_free(back);
                file.bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
        }
        ck_assert_uint_lt(cut, 32 * 100);
        end();
}
END_TEST

/* Whole, with its checksum, but of another version, kind or meaning. */
static void assert_refused(size_t at, uint8_t value, int error)
{
        uint32_t length, crc;
        struct tree *back;
        uint8_t was;
        size_t start = 0;

        for (;;) {
                memcpy(&length, file.bytes + start + 4, sizeof length);
                if (start + length > at)
                        break;
                start += length;
        }
        was = file.bytes[at];
        file.bytes[at] = value;
        crc = crc32c(file.bytes + start + 4, length - 4);
        memcpy(file.bytes + start, &crc, sizeof crc);
        ck_assert_int_eq(restore_from(file.bytes, file.used, 0, NULL, &back), error);
        ck_assert_ptr_null(back);
        file.bytes[at] = was;
        crc = crc32c(file.bytes + start + 4, length - 4);
        memcpy(file.bytes + start, &crc, sizeof crc);
}

START_TEST(law_33_what_is_of_another_version_is_refused)
{
        struct tree *back;

        begin();
        make("a");
        commit();
        assert_refused(8, 77, -EPROTONOSUPPORT);                 /* its first kind */
        assert_refused(9, RECORD_VERSION + 1, -EPROTONOSUPPORT); /* and its version */
        assert_refused(10, 0x82, -EPROTONOSUPPORT);              /* and its flags */
        assert_refused(RECORD_HEADER, 'C', -EBADMSG);            /* no journal */
        assert_refused(8, RECORD_RELEASED, -EBADMSG);            /* it does not begin as one */
        assert_refused(moments[0].used - 1, '/', -EBADMSG);      /* the end of the label */
        assert_refused(moments[0].used - 2, '/', -EBADMSG);      /* its text */
        make("b");
        commit();
        assert_refused(moments[1].used - 2, 'a', -EBADMSG); /* the same name twice */
        ck_assert_int_eq(restore_from(file.bytes, file.used, 0, NULL, &back), 0);
        tree_free(back);
        end();
}
END_TEST

/* The file of each version that there was. */
static const char *golden;

static size_t read_golden(uint8_t bytes[1 << 16])
{
        FILE *f = fopen(golden, "re");
        size_t n;

        ck_assert_ptr_nonnull(f);
        n = fread(bytes, 1, 1 << 16, f);
        fclose(f);
        return n;
}

START_TEST(law_33_the_file_of_version_1_is_read)
{
        static uint8_t bytes[1 << 16];
        const char *path = getenv("CTXD_WRITE_JOURNAL");
        struct tree *back;
        size_t n;

        begin();
        tell_a_story();
        if (path) { /* for a new version */
                FILE *f = fopen(path, "we");

                ck_assert(f && fwrite(file.bytes, 1, file.used, f) == file.used && fclose(f) == 0);
        }
        n = read_golden(bytes);
        ck_assert_int_eq(restore_from(bytes, n, n, NULL, &back), 0);
        assert_is(back, moments[n_moments - 1].text);
        tree_free(back);
        /* A change of the format that keeps the version would not be read where there are old files. */
        ck_assert_uint_eq(n, file.used);
        ck_assert_int_eq(memcmp(bytes, file.bytes, n), 0);
        end();
}
END_TEST

int main(int argc, char **argv)
{
        const TTest *const tests[] = {
                        law_33_each_prefix_is_the_tree_of_some_moment,
                        law_33_a_flipped_bit_is_found,
                        law_33_what_is_of_another_version_is_refused,
                        law_33_the_file_of_version_1_is_read,
                        NULL,
        };

        golden = argc > 1 ? argv[1] : "version-1";
        return run_laws("law-model-journal-file", tests);
}
