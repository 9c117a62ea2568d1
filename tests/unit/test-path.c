/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/path.h"
#include "tests/harness/suite.h"

/* The grammar of names, on both sides of each of its limits. */

static char *repeat(char *buffer, const char *what, size_t n)
{
        char *p = buffer;

        for (size_t i = 0; i < n; i++)
                p = stpcpy(p, what);
        *p = '\0';
        return buffer;
}

static void assert_path(const char *path, bool valid)
{
        const char *why = NULL;

        ck_assert_msg(path_check(path, &why) == (valid ? 0 : -EINVAL), "%s", path);
        ck_assert_msg(valid == !why, "%s: %s", path, why ? why : "valid");
        ck_assert_int_eq(path_check(path, NULL), valid ? 0 : -EINVAL);
}

START_TEST(label_characters)
{
        for (int i = 0; i < 256; i++) {
                char c = (char) i, text[2] = {c, '\0'};
                bool valid = (i >= '0' && i <= '9') || (i >= 'a' && i <= 'z') || (i >= 'A' && i <= 'Z') ||
                             (i != 0 && strchr("_:@-", c));

                ck_assert_msg(label_is_valid(text, 1) == (valid && c != '@'), "character %d", i);
                ck_assert_msg(label_is_valid((char[]){'a', c, 'b'}, 3) == (valid || c == '.'), "character %d",
                                i);
        }
}
END_TEST

START_TEST(label_dots_and_length)
{
        char text[CTXD_LABEL_MAX + 2];

        ck_assert(!label_is_valid(".", 1));
        ck_assert(!label_is_valid("..", 2));
        ck_assert(label_is_valid("...", 3));
        ck_assert(label_is_valid(".a", 2));
        ck_assert(label_is_valid("a.", 2));
        ck_assert(label_is_valid("..a", 3));
        ck_assert(!label_is_valid("", 0));
        ck_assert(!label_is_valid("a", 0));
        repeat(text, "a", CTXD_LABEL_MAX + 1);
        ck_assert(label_is_valid(text, 1));
        ck_assert(label_is_valid(text, CTXD_LABEL_MAX));
        ck_assert(!label_is_valid(text, CTXD_LABEL_MAX + 1));
}
END_TEST

START_TEST(path_shapes)
{
        static const char *const good[] = {
                        "/", "a", "a/b", "user-1000/build/42", "a/.../b", "A_z.0:9@-/x", "a@/b@c", "#"};
        static const char *const bad[] = {"", "//", "/a", "a/", "a//b", "a/./b", "..", "a/..", "a b", "a#1",
                        "a\n", "~", "a/~", "\303\251", "a\\b", "a/b/", "@", "@host/a", "a/@b"};

        for (size_t i = 0; i < sizeof good / sizeof *good - 1; i++)
                assert_path(good[i], true);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                assert_path(bad[i], false);
        assert_path("#", false);
}
END_TEST

START_TEST(path_limits)
{
        char path[2 * CTXD_PATH_MAX], label[CTXD_LABEL_MAX + 2];

        repeat(path, "a/", CTXD_LABELS_MAX);
        path[2 * CTXD_LABELS_MAX - 1] = '\0';
        assert_path(path, true);
        strcat(path, "/a");
        assert_path(path, false);

        repeat(label, "a", CTXD_LABEL_MAX);
        assert_path(label, true);
        strcat(label, "a");
        assert_path(label, false);
        snprintf(path, sizeof path, "x/%s/y", label);
        assert_path(path, false);

        repeat(label, "a", CTXD_LABEL_MAX - 1); /* and a slash: eight of them are 1024 */
        path[0] = '\0';
        for (int i = 0; i < 8; i++)
                sprintf(path + strlen(path), "%s/", label);
        path[CTXD_PATH_MAX - 1] = '\0';
        assert_path(path, true);
        strcat(path, "a");
        ck_assert_uint_eq(strlen(path), CTXD_PATH_MAX);
        assert_path(path, true);
        path[1000] = '/'; /* the label is shorter, the path is not */
        assert_path(path, true);
        strcat(path, "a");
        ck_assert_uint_eq(strlen(path), CTXD_PATH_MAX + 1);
        assert_path(path, false);
}
END_TEST

static void assert_reference(const char *text, bool generate, const char *path, uint64_t id, bool generated)
{
        struct reference ref;
        const char *why = NULL;

        ck_assert_msg(reference_parse(text, 1000, generate, &ref, &why) == 0, "%s: %s", text, why);
        ck_assert_str_eq(ref.path, path);
        ck_assert_uint_eq(ref.id, id);
        ck_assert_int_eq(ref.generate, generated);
}

static void assert_no_reference(const char *text, bool generate)
{
        struct reference ref, before;
        const char *why = NULL;

        memset(&ref, 0x5a, sizeof ref);
        before = ref;
        ck_assert_msg(reference_parse(text, 1000, generate, &ref, &why) == -EINVAL, "%s", text);
        ck_assert_msg(why && why[0], "%s", text);
        ck_assert_mem_eq(&ref, &before, sizeof ref);
        ck_assert_int_eq(reference_parse(text, 1000, generate, &ref, NULL), -EINVAL);
}

START_TEST(reference_forms)
{
        assert_reference("a/b", false, "a/b", 0, false);
        assert_reference("/a/b", false, "a/b", 0, false);
        assert_reference("a/b#7", false, "a/b", 7, false);
        assert_reference("/", false, "/", 0, false);
        assert_reference("/", true, "/", 0, true);
        assert_reference("a/", true, "a", 0, true);
        assert_reference("/a/", true, "a", 0, true);
        assert_reference("a", true, "a", 0, false);
        assert_reference("~", false, "user-1000", 0, false);
        assert_reference("~/a", false, "user-1000/a", 0, false);
        assert_reference("/~/a", false, "user-1000/a", 0, false);
        assert_reference("~/", true, "user-1000", 0, true);
        assert_reference("~/a#12", false, "user-1000/a", 12, false);
        assert_no_reference("", false);
        assert_no_reference("", true);
        assert_no_reference("//", true);
        assert_no_reference("//a", false);
        assert_no_reference("///", true);
        assert_no_reference("a/", false);
        assert_no_reference("a//", true);
        assert_no_reference("~a", false);
        assert_no_reference("~root/a", false);
        assert_no_reference("a/~", false);
        assert_no_reference("a/#1", true);
        assert_no_reference("#1", false);
        assert_no_reference("#", false);
        assert_no_reference("/#1", false);
}
END_TEST

START_TEST(reference_ids)
{
        assert_reference("a#1", false, "a", 1, false);
        assert_reference("a#18446744073709551615", false, "a", UINT64_MAX, false);
        assert_no_reference("a#18446744073709551616", false);
        assert_no_reference("a#18446744073709551620", false);
        assert_no_reference("a#99999999999999999999", false);
        assert_no_reference("a#184467440737095516150", false);
        assert_no_reference("a#0", false);
        assert_no_reference("a#01", false);
        assert_no_reference("a#", false);
        assert_no_reference("a#-1", false);
        assert_no_reference("a#+1", false);
        assert_no_reference("a# 1", false);
        assert_no_reference("a#1 ", false);
        assert_no_reference("a#1#1", false);
        assert_no_reference("a#1/b", false);
        assert_no_reference("a#0x1", false);
}
END_TEST

START_TEST(reference_pins)
{
        struct reference ref;

        assert_reference("a#7/b", true, "a/b", 7, false);
        assert_reference("/a/b#7/c/d", true, "a/b/c/d", 7, false);
        assert_reference("a#7/", true, "a", 7, true);
        assert_reference("a#7/b/", true, "a/b", 7, true);
        assert_reference("~#7/b", true, "user-1000/b", 7, false);
        ck_assert_int_eq(reference_parse("~/a#7/b", 1000, true, &ref, NULL), 0);
        ck_assert_uint_eq(ref.pinned, strlen("user-1000/a"));
        ck_assert_int_eq(reference_parse("a#7/", 1000, true, &ref, NULL), 0);
        ck_assert_uint_eq(ref.pinned, 1);
        ck_assert_int_eq(reference_parse("a#7", 1000, false, &ref, NULL), 0);
        ck_assert_uint_eq(ref.pinned, 1);
        ck_assert_int_eq(reference_parse("a/b", 1000, true, &ref, NULL), 0);
        ck_assert_uint_eq(ref.pinned, 0);
        assert_no_reference("a#7", true); /* a new one has none */
        assert_no_reference("a/b#7", true);
        assert_no_reference("a#7/b", false);
        assert_no_reference("a#7/", false);
        assert_no_reference("a#7//", true);
        assert_no_reference("a#7//b", true);
        assert_no_reference("a/#7/b", true);
        assert_no_reference("a#7/b#8", true);
        assert_no_reference("a#7/b#8/c", true);
        assert_no_reference("a#7/..", true);
        assert_no_reference("a#7/~", true);
        assert_no_reference("a#0/b", true);
        assert_no_reference("a#/b", true);
        assert_no_reference("a#7b/c", true);
        assert_no_reference("a#18446744073709551616/b", true);
        assert_no_reference("#7/b", true);
        assert_no_reference("/#7/b", true);
        assert_no_reference("/#7/", true);
        assert_no_reference("//#7/b", true);
}
END_TEST

START_TEST(reference_uids)
{
        struct reference ref;

        ck_assert_int_eq(reference_parse("~", 0, false, &ref, NULL), 0);
        ck_assert_str_eq(ref.path, "user-0");
        ck_assert_int_eq(reference_parse("~", 4294967294, false, &ref, NULL), 0);
        ck_assert_str_eq(ref.path, "user-4294967294");
}
END_TEST

START_TEST(reference_lengths)
{
        char text[2 * CTXD_PATH_MAX], label[CTXD_LABEL_MAX + 1];
        struct reference ref;

        repeat(label, "a", CTXD_LABEL_MAX - 1);
        text[0] = '\0';
        for (int i = 0; i < 8; i++)
                sprintf(text + strlen(text), "%s/", label);
        text[CTXD_PATH_MAX - 1] = 'a';
        ck_assert_uint_eq(strlen(text), CTXD_PATH_MAX);
        assert_reference(text, false, text, 0, false);
        strcat(text, "#18446744073709551615");
        text[CTXD_PATH_MAX] = '\0';
        assert_reference(text, false, text, 0, false);
        strcat(text, "b");
        assert_no_reference(text, false);
        /* An id in the middle does not count, what follows it does. */
        strcpy(text + CTXD_PATH_MAX - 2, "#1/a");
        ck_assert_int_eq(reference_parse(text, 1000, true, &ref, NULL), 0);
        ck_assert_uint_eq(strlen(ref.path), CTXD_PATH_MAX);
        strcat(text, "b");
        assert_no_reference(text, true);
        /* ~ is longer than it looks */
        text[0] = '~';
        text[1] = '/';
        text[CTXD_PATH_MAX - 7] = '\0';
        ck_assert_uint_eq(strlen(text), CTXD_PATH_MAX - 7);
        assert_no_reference(text, false);
        text[CTXD_PATH_MAX - 8] = '\0';
        ck_assert_int_eq(reference_parse(text, 1000, false, &ref, NULL), 0);
        ck_assert_uint_eq(strlen(ref.path), CTXD_PATH_MAX);
}
END_TEST

START_TEST(objects_and_back)
{
        static const char alphabet[] = "ABCXYZabcxyz0129_.:@-";
        char path[CTXD_PATH_MAX + 2], *object, *back;

        srand(12345);
        for (int round = 0; round < 20000; round++) {
                size_t labels = 1 + (size_t) rand() % (round % 100 == 0 ? CTXD_LABELS_MAX : 5), length = 0;

                for (size_t i = 0; i < labels; i++) {
                        size_t n = 1 + (size_t) rand() % (round % 50 == 1 ? CTXD_LABEL_MAX : 14),
                               start = length;

                        if (length + n + 1 > CTXD_PATH_MAX)
                                break;
                        do
                                for (size_t j = 0; j < n; j++)
                                        path[start + j] = alphabet[(size_t) rand() % (sizeof alphabet - 1)];
                        while (!label_is_valid(path + start, n));
                        length = start + n;
                        path[length++] = '/';
                }
                path[length - 1] = '\0';
                ck_assert_int_eq(path_check(path, NULL), 0);
                ck_assert_int_eq(path_to_object(path, &object), 0);
                for (const char *p = object; *p; p++)
                        ck_assert(*p == '/' || *p == '_' || (*p >= '0' && *p <= '9') ||
                                        (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z'));
                ck_assert_int_eq(path_from_object(object, &back), 0);
                ck_assert_str_eq(back, path);
                free(object);
                free(back);
        }
}
END_TEST

START_TEST(objects_by_example)
{
        static const char *const bad[] = {"/org/ctxd1/contexts", "/org/ctxd1", "/", "", "/org/ctxd1/context/",
                        "/org/ctxd1/context//a", "/org/ctxd1/context/a/", "/org/ctxd1/context/_2f",
                        "/org/ctxd1/context/_20", "/org/ctxd1/context/_2e", "/org/ctxd1/context/_",
                        "/org/ctxd1/context/_00", "/org/ctxd1/contexta/b", "/org/ctxd1/context/a_2fb",
                        "/org/ctxd1/context/_23"};
        char *object, *path = (char *) "untouched", *longest = NULL;

        ck_assert_int_eq(path_to_object("/", &object), 0);
        ck_assert_str_eq(object, "/org/ctxd1/context");
        free(object);
        ck_assert_int_eq(path_to_object("a/b-c", &object), 0);
        ck_assert_str_eq(object, "/org/ctxd1/context/a/b_2dc");
        free(object);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                ck_assert_msg(path_from_object(bad[i], &path) < 0, "%s", bad[i]);
                ck_assert_str_eq(path, "untouched");
        }
        ck_assert_int_eq(path_from_object("/org/ctxd1/context", &path), 0);
        ck_assert_str_eq(path, "/");
        free(path);
        longest = calloc(1, 100000);
        strcpy(longest, CTXD_CONTEXT_OBJECT "/");
        memset(longest + strlen(longest), 'a', 90000);
        ck_assert_int_lt(path_from_object(longest, &path), 0);
        free(longest);
}
END_TEST

START_TEST(keys)
{
        static const char *const good[] = {"a.b", "org.example.user", "A-B_c.0", "a.b.c.d.e"};
        static const char *const bad[] = {"", "user", ".", "..", ".a", "a.", "a..b", "a b.c", "a.b/c",
                        "a.b:c", "a.\303\251", "a.b\n", "a.b@"};
        char key[CTXD_KEY_MAX + 2];
        const char *why;

        for (size_t i = 0; i < sizeof good / sizeof *good; i++)
                ck_assert_msg(key_check(good[i], &why) == 0, "%s", good[i]);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                why = NULL;
                ck_assert_msg(key_check(bad[i], &why) == -EINVAL, "%s", bad[i]);
                ck_assert_ptr_nonnull(why);
                ck_assert_int_eq(key_check(bad[i], NULL), -EINVAL);
        }
        repeat(key, "a", CTXD_KEY_MAX);
        key[3] = '.';
        ck_assert_int_eq(key_check(key, NULL), 0);
        strcat(key, "a");
        ck_assert_int_eq(key_check(key, NULL), -EINVAL);
}
END_TEST

int main(void)
{
        const TTest *tests[] = {
                        label_characters,
                        label_dots_and_length,
                        path_shapes,
                        path_limits,
                        reference_forms,
                        reference_ids,
                        reference_pins,
                        reference_uids,
                        reference_lengths,
                        objects_and_back,
                        objects_by_example,
                        keys,
                        NULL,
        };

        return run_tests("path", tests);
}
