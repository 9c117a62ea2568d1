/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "ctl/ctxctl.h"

/* Prints as --json= says, and frees. Returns 0, or a positive exit status. */
int json_print(const struct ctl *ctl, json_object *object);

/* Adds to an object; a NULL or empty text is null, and so is UINT64_MAX (no deadline, unknown). */
void json_add_text(json_object *object, const char *name, const char *text);
void json_add_number(json_object *object, const char *name, uint64_t value);

/* The next basic value or variant of a message, as JSON. 0 or -errno. */
int json_from_message(sd_bus_message *m, json_object **ret);
/* An a{sv} or a{ss} as an object. */
int json_from_dictionary(sd_bus_message *m, const char *entry, json_object *object);

/* For output to people: text_defuse() on every string in it. */
void json_defuse(json_object *object);
