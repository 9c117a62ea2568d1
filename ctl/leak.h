/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-bus.h>

#include "ctl/ctxctl.h"

/* Leak reports. A report is an object that has the fields of the journal's entry. */

/* Reads path, id and fields from a message, and adds the sentence as MESSAGE. 0 or -errno. */
int leak_read(sd_bus_message *m, json_object **ret);
/* Adds all reports at a prefix and below it to an array. 0, or a positive exit status after an error
 * message. */
int leaks_read(struct ctl *ctl, const char *prefix, json_object *array, bool *ret_truncated);

/* What there is at a prefix and below it. */
struct leak_counts {
        size_t running, left, held; /* reports */
        uint64_t more;              /* threads that are only counted */
};

void leaks_count(json_object *array, struct leak_counts *ret);

bool leak_is_resolved(json_object *leak);
/* It stands for threads that are only counted (CTXD_COUNT). */
bool leak_is_more(json_object *leak);
/* It is none, but a process that its signal cannot end (held.h). */
bool leak_is_held(json_object *leak);
