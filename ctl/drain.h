/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl/contexts.h"

/* Waits until no member of a context that is done is left, and shows meanwhile who is (with --json nothing):
 * on a terminal a list that is drawn anew, elsewhere a line for each who comes or leaves. At the end says so,
 * or lists who has not left. json: gets "drained" and "left". Returns the exit status. */
int drain(struct ctl *ctl, const char *path, uint64_t timeout_usec, json_object *json);
