/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "ctl/ctxctl.h"

/* cancel --wait: waits until the last member of a context that is done has left, and meanwhile shows who
 * is left: on a terminal a list that is redrawn, elsewhere a line for each process that comes or leaves.
 * At the end prints that nobody is left, as far as the daemon sees, or who is. If json is not NULL, nothing
 * is printed, and json gets "drained", "left" and "membership_backend". Returns the exit status. */
int drain_wait(struct ctl *ctl, const char *path, uint64_t timeout_usec, json_object *json);
