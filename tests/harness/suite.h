/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The one runner of all tests that use check: each test in a process of its own, with a time limit, the results in
 * TAP on standard output, and the messages of the failures on standard error. */

#include <check.h>
#include <stdlib.h>

#include "tests/harness/base.h"

/* Waits until the condition holds, and fails if it does not within the limit. */
#define ck_assert_happens(condition) ck_assert_msg(HAPPENS(condition), "this did not happen: " #condition)

/* Adds a case with these tests, which NULL ends. */
TCase *add_case(Suite *suite, const char *name, const TTest *const *tests);
int run_suite(Suite *suite);
int run_suites(Suite *const *suites, size_t n);
int run_tests(const char *name, const TTest *const *tests);

/* A checked fixture: a test that leaves another number of descriptors open than it has found fails. */
void fds_before(void);
void fds_after(void);
