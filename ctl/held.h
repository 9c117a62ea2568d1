/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl/endings.h"

/* Members that their signal cannot end now, whatever they wait for: they are traced or frozen, they may not
 * be signalled, or the kernel drops the signal. They are no leaks. Others were given none. */

#define HELD_MAX WHY_MAX

enum held {
        HELD_NOT,         /* the signal reaches it, or it has gone */
        HELD_UNSIGNALLED, /* it was given none */
        HELD_FAST,
};

/* Says why in the buffer, which has HELD_MAX bytes. Its ending was read (endings.h). */
enum held process_held(const struct process *process, char *buffer);

/* Adds those that are held of the contexts at a prefix and below it that are done, in the form of leak
 * reports (leak.h), in place of those of the same processes. Gives those that got no signal, and adds to
 * reports of them why (CTXD_UNSIGNALLED). 0, or a positive exit status after an error message. */
int held_read(struct ctl *ctl, const char *prefix, json_object *array, struct process_list *ret_unsignalled);
