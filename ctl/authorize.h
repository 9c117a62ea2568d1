/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl/ctxctl.h"

/* The daemon has answered a call with InteractiveAuthorizationRequired. This makes the call again over the
 * system bus, where polkit can be asked; polkit may then ask the user, unless --no-ask-password was given.
 * Returns what sd_bus_call() returns. */
int authorize_and_call(struct ctl *ctl, sd_bus_message *m, sd_bus_message **ret_reply, sd_bus_error *error);

/* Closes the connection and ends the agent, at the end of the program. */
void authorize_done(struct ctl *ctl);
