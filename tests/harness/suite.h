/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Runs tests under check: each test in a process of its own, with a time limit. Results go to standard
 * output as TAP, messages of failures to standard error. */

#include <check.h>
#include <stdlib.h>

#include "tests/harness/base.h"

/* Waits until the condition holds. Fails if it does not hold within WIDE_SEC. */
#define ck_assert_happens(condition) ck_assert_msg(HAPPENS(condition), "this did not happen: " #condition)

/* Adds a case with these tests. NULL ends the list. */
TCase *add_case(Suite *suite, const char *name, const TTest *const *tests);
int run_suite(Suite *suite);
int run_suites(Suite *const *suites, size_t n);
int run_tests(const char *name, const TTest *const *tests);

/* Checked fixtures. A test fails if it leaves more or fewer descriptors open than before; but libctxclient
 * may keep so many (lib/local/poll-fd.c). */
#define EVENTFDS_KEPT 8
void fds_before(void);
void fds_after(void);
