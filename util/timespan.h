/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* Reads a time as people write it, for the configuration and for the command line: "5s", "1min 30s",
 * "1.5h", "500ms". A number without a unit is seconds. "infinity" is UINT64_MAX. In µs. 0, -EINVAL, or
 * -ERANGE if it is too long. */
int parse_timespan(const char *text, uint64_t *ret_usec);
