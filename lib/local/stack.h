/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

/* Is it certain that the caller is in no signal handler? Takes some µs. Does not allocate, and takes no
 * lock. */
bool stack_is_ordinary(void);
