/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

struct context;

extern const sd_bus_vtable manager_vtable[];
extern const sd_bus_vtable context_vtable[];
extern const sd_bus_vtable driver_vtable[]; /* org.freedesktop.DBus, on direct connections */

/* Finds the context of an object path, if the caller may read it. */
int context_find(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret_found,
                sd_bus_error *error);
int context_enumerate(
                sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes, sd_bus_error *error);
/* All properties but Values, as entries of a{sv}. */
int context_append_others(sd_bus *bus, sd_bus_message *m, const struct context *c);
/* values.c: to be asked of every call, once its sender is known: answers who asks for Values. 0: that is not
 * asked for, or the object is not found. */
int values_property(sd_bus_message *m, sd_bus_error *error);
