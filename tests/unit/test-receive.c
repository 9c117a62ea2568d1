/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The daemon finds out whether sd-bus receives by its function. With the argument "hidden" it must find that
 * it does not. */

#include "daemon/bus/receive.h"
#include "tests/harness/suite.h"

static bool expected;

START_TEST(receive_says_whether_it_takes_effect)
{
        ck_assert(receive_takes_effect() == expected);
}
END_TEST

int main(int argc, char *argv[])
{
        expected = argc < 2;
        return run_tests("receive", (const TTest *const[]){receive_says_whether_it_takes_effect, NULL});
}
