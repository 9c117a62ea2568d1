/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "tests/harness/suite.h"
#include "util/crc32c.h"

static void assert_sum(const void *data, size_t n, uint32_t sum)
{
        ck_assert_uint_eq(crc32c(data, n), sum);
        ck_assert_uint_eq(crc32c_by_table(data, n), sum);
}

/* Those of RFC 3720, B.4, and the usual one. */
START_TEST(known_sums)
{
        unsigned char bytes[32] = {};

        assert_sum("123456789", 9, 0xe3069283);
        assert_sum("", 0, 0);
        assert_sum(bytes, 32, 0x8a9136aa);
        memset(bytes, 0xff, 32);
        assert_sum(bytes, 32, 0x62a8ab43);
        for (unsigned char i = 0; i < 32; i++)
                bytes[i] = i;
        assert_sum(bytes, 32, 0x46dd794e);
}
END_TEST

START_TEST(both_ways_are_the_same)
{
        unsigned char bytes[300];

        srand(1);
        for (size_t i = 0; i < sizeof bytes; i++)
                bytes[i] = (unsigned char) rand();
        for (size_t from = 0; from < 9; from++)
                for (size_t n = 0; n + from <= sizeof bytes; n++)
                        ck_assert_uint_eq(crc32c(bytes + from, n), crc32c_by_table(bytes + from, n));
}
END_TEST

int main(void)
{
        const TTest *const tests[] = {known_sums, both_ways_are_the_same, NULL};
        Suite *suite = suite_create("crc32c");

        add_case(suite, "crc32c", tests);
        return run_suite(suite);
}
