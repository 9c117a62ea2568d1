/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl/processes.h"

/* Members that no signal can end now, whatever they wait for: they are traced or frozen, they may not be
 * signalled, or the kernel drops the signal. They are no leaks. */

#define HELD_MAX 256

/* Says why in the buffer, which has HELD_MAX bytes. "": a signal can reach the process, or it has gone.
 * owner: the user whose context it is. */
const char *process_held(const struct process *process, uint32_t owner, char *buffer);

/* Adds those of the contexts at a prefix and below it that are done, in the form of leak reports (leak.h), in
 * place of those of the same processes. 0, or a positive exit status after an error message. */
int held_read(struct ctl *ctl, const char *prefix, json_object *array);
