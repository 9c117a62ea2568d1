/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness/suite.h"
#include "util/subuid.h"

/* Whether a file with this text says that a uid is one of 1234's. */
static bool is_in(const char *text, size_t size, uid_t uid)
{
        FILE *f = fmemopen((void *) text, size, "r");
        bool is;

        ck_assert_ptr_nonnull(f);
        is = subuid_is_in(f, uid, 1234);
        fclose(f);
        return is;
}

static bool grants(const char *text, uid_t uid)
{
        return is_in(text, strlen(text), uid);
}

START_TEST(a_range_has_a_first_and_a_last)
{
        static const char text[] = "1233:100000:65536\n1234:200000:65536\n1234:4294967290:5";

        ck_assert(!grants(text, 165535));
        ck_assert(!grants(text, 199999));
        ck_assert(grants(text, 200000));
        ck_assert(grants(text, 265535));
        ck_assert(!grants(text, 265536));
        ck_assert(grants(text, 4294967294));
        ck_assert(!grants("root:100000:65536\n", 100000));
        ck_assert(!grants("1234:200000:0\n", 200000));
}
END_TEST

START_TEST(ranges_may_overlap)
{
        ck_assert(grants("1233:100:100\n1234:150:100\n", 160));
        ck_assert(!grants("1233:100:100\n1234:150:100\n", 140));
}
END_TEST

static const char *const garbage[] = {
                "1234:200000:-1\n",
                "1234:-1:200000\n",
                "1234:+200000:65536\n",
                "1234: 200000:65536\n",
                "1234:200000:65536x\n",
                "1234:200000:65536:\n",
                "1234:200000:65536 # no more\n",
                "1234:200000:99999999999999999999999\n",
                "1234:200000:4294967296\n",
                "1234:0200000:65536\n", /* octal for newuidmap of shadow 4.13 */
                "1234:200000\n:65536\n",
                "1234:200000:\n65536\n",
                "1234::65536\n",
                "#1234:200000:65536\n",
                " 1234:200000:65536\n",
                "01234:200000:65536\n",
                "::\n",
                ":\n",
                "\n",
};

START_TEST(garbage_grants_nothing)
{
        ck_assert(!grants(garbage[_i], 200000));
        ck_assert(!grants(garbage[_i], 65536));
        ck_assert(!grants(garbage[_i], 4294967294));
}
END_TEST

START_TEST(nor_does_the_middle_of_a_line)
{
        static const char entry[] = "1234:200000:65536\n";
        char text[4200];

        for (size_t n = 1; n < 4100; n++) {
                memset(text, '#', n);
                strcpy(text + n, entry);
                ck_assert_msg(!grants(text, 200000), "after %zu bytes", n);
        }
        ck_assert(!is_in("1234:200000:65536\0x\n", 21, 200000));
}
END_TEST

START_TEST(root_is_nobodys_subordinate)
{
        ck_assert(!grants("1234:0:65536\n", 0));
        ck_assert(grants("1234:0:65536\n", 1));
}
END_TEST

int main(void)
{
        TCase *c = tcase_create("subuid");
        Suite *s = suite_create("subuid");

        tcase_add_test(c, a_range_has_a_first_and_a_last);
        tcase_add_test(c, ranges_may_overlap);
        tcase_add_loop_test(c, garbage_grants_nothing, 0, sizeof garbage / sizeof *garbage);
        tcase_add_test(c, nor_does_the_middle_of_a_line);
        tcase_add_test(c, root_is_nobodys_subordinate);
        suite_add_tcase(s, c);
        return run_suite(s);
}
