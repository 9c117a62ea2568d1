/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Law 50: text from a client reaches a terminal or a log as text. */

#include <string.h>

#include "util/cleanup.h"
#include "util/printable.h"
#include "tests/harness/suite.h"

static const struct {
        const char *text, *shown;
} texts[] = {
                {"", ""}, {"client went away", "client went away"}, {"C:\\n", "C:\\n"},
                {"a\nb\r\tc", "a\\nb\\r\\tc"}, {"\033]0;owned\a\033[2J", "\\x1b]0;owned\\x07\\x1b[2J"},
                {"\x7f", "\\x7f"},
                {"\xc2\x9b"
                 "31m",
                                "\\u009b31m"}, /* a control sequence in one character */
                {"\x9b"
                 "31m",
                                "\\x9b31m"}, /* the same as a byte */
                {"a\xe2\x80\xae"
                 "b",
                                "a\\u202eb"}, /* the rest from right to left */
                {"\xe2\x81\xa6x\xe2\x81\xa9", "\\u2066x\\u2069"},
                {"\xe2\x80\xa8\xe2\x80\xa9", "\\u2028\\u2029"}, /* line breaks, too */
                {"\xf3\xa0\x81\x81", "\\U000e0041"},
                {"gr\xc3\xbc\xc3\x9f\xf0\x9f\x98\x80", "gr\xc3\xbc\xc3\x9f\xf0\x9f\x98\x80"},
                {"\xff\xc3", "\\xff\\xc3"}, {"\xed\xa0\x80", "\\xed\\xa0\\x80"},
                {"\xc0\x8a", "\\xc0\\x8a"}, /* a newline that is longer than need be */
};

START_TEST(law_50_what_is_obeyed_is_shown)
{
        char buffer[128];

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                _cleanup_free_ char *copy = printable_new(texts[i].text, false), *again;

                ck_assert_str_eq(copy, texts[i].shown);
                ck_assert_uint_lt(strlen(copy), PRINTABLE_SIZE(strlen(texts[i].text)));
                ck_assert_str_eq(printable(texts[i].text, false, buffer, sizeof buffer), texts[i].shown);
                again = printable_new(copy, false);
                ck_assert_str_eq(again, copy);
        }
        ck_assert_str_eq(printable("a\nb\033", true, buffer, sizeof buffer), "a\nb\\x1b");
}
END_TEST

START_TEST(law_50_a_terminal_without_utf8_gets_ascii)
{
        char buffer[128];

        printable_in_ascii();
        ck_assert_str_eq(printable("gr\xc3\xbc\xc4\x9b\xe2\x82\xac\xf0\x9f\x98\x80\x9b", false, buffer,
                                         sizeof buffer),
                        "gr\\u00fc\\u011b\\u20ac\\U0001f600\\x9b");
}
END_TEST

START_TEST(what_does_not_fit_is_cut_between_characters)
{
        char buffer[8];

        ck_assert_str_eq(printable("abcdef\n", false, buffer, sizeof buffer), "abcdef");
        ck_assert_str_eq(printable("abcd\033e", false, buffer, sizeof buffer), "abcd");
        ck_assert_str_eq(printable("abcdef\xc3\xbc", false, buffer, sizeof buffer), "abcdef");
        ck_assert_str_eq(printable("x", false, buffer, 1), "");
}
END_TEST

int main(void)
{
        return run_tests("printable", (const TTest *const[]){law_50_what_is_obeyed_is_shown,
                                                      law_50_a_terminal_without_utf8_gets_ascii,
                                                      what_does_not_fit_is_cut_between_characters, NULL});
}
