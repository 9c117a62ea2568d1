/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Has this time come, of CLOCK_BOOTTIME? As exact as the clock itself, and much faster if it is far away. */
bool deadline_has_passed(uint64_t usec);
