/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <systemd/sd-bus.h>

#include "ctl/ctxctl.h"

/* The daemon, as ctxctl sees it. Everything here that fails has said so on standard error already, with the
 * daemon's sentence where it has one, and returns a positive exit status; 0 is success. */

/* Connects on first use. */
int bus_connect(struct ctl *ctl);
void bus_disconnect(struct ctl *ctl);

/* A call of org.ctxd1.Manager. */
int bus_call(struct ctl *ctl, sd_bus_message **ret_reply, const char *member, const char *types, ...);

/* For calls with options: make the message, append, send. */
int bus_message(struct ctl *ctl, sd_bus_message **ret, const char *member);
int bus_send(struct ctl *ctl, sd_bus_message *m, sd_bus_message **ret_reply, sd_bus_error *ret_error);

/* Says it, and returns the exit status that fits. */
int bus_failed(const sd_bus_error *error, int r);
/* A message that cannot be made or read. */
int bus_broken(int r);

/* Every property of an interface, for sd_bus_message_enter_container(m, 'a', "{sv}"). */
int bus_properties(struct ctl *ctl, const char *object, const char *interface, sd_bus_message **ret_reply,
                sd_bus_error *ret_error);

/* Appends one {sv} entry. */
int append_option(sd_bus_message *m, const char *name, const char *type, ...);

#define _cleanup_message_ _cleanup_(sd_bus_message_unrefp)
#define _cleanup_error_ _cleanup_(sd_bus_error_free)
