/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl/contexts.h"

/* What the journal has about a context: what ctxd and its probe have logged with its path and id. */

/* Prints the last lines, after an empty one. Prints nothing where the daemon is one of our own making
 * (--address=), whose log is not there. Where the journal may not be read, says so once. */
void log_lines_print(const struct ctl *ctl, const struct listed *c, uint64_t lines);
