/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "ctl/ctxctl.h"

/* Prints the object as --json= says, and frees it. Returns 0, or a positive exit status after an error
 * message. */
int json_print(const struct ctl *ctl, json_object *object);

/* Adds a member to an object. A text that is NULL or empty becomes null, and so does the number
 * UINT64_MAX, which stands for "none" and "unknown". */
void json_add_text(json_object *object, const char *name, const char *text);
void json_add_number(json_object *object, const char *name, uint64_t value);
/* Reads a member of an object: "" and UINT64_MAX where there is none. */
const char *json_get_text(json_object *object, const char *name);
uint64_t json_get_number(json_object *object, const char *name);

/* Adds the entries of an a{sv} or a{ss} to an object. 0 or -errno. */
int json_from_dictionary(sd_bus_message *m, const char *entry, json_object *object);

/* In an object that came from the daemon "" and UINT64_MAX are none: they become null. */
void json_null_for_none(json_object *object);
/* Of a dictionary of properties: none is null, and "DeadlineUSec" becomes "deadline_usec". */
int json_from_properties(sd_bus_message *m, json_object *object);

/* Makes every string in the object printable, before people read it on a terminal. Line breaks stay in stacks
 * alone. -ENOMEM. */
int json_make_printable(json_object *object);
