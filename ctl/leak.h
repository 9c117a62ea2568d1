/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-bus.h>

#include "ctl/ctxctl.h"

/* Reports, as Leaks and the signals have them: an object with the journal's fields. */

/* Path, id and fields of a message, and the sentence, as MESSAGE. 0 or -errno. */
int leak_read(sd_bus_message *m, json_object **ret);
/* All below a prefix, added to an array. 0, or a positive exit status. */
int leaks_read(struct ctl *ctl, const char *prefix, json_object *array, bool *ret_truncated);

/* A field: "" and UINT64_MAX where there is none. */
const char *leak_text(json_object *leak, const char *name);
uint64_t leak_number(json_object *leak, const char *name);
bool leak_is_resolved(json_object *leak);
