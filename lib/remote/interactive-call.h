/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/remote/client.h"

/* The call m has failed with r and *error. If it needs an authorization that can only be given on the system
 * bus, it is repeated there, and polkit may ask the person at the machine. Returns the result of that, or
 * else r. This may take long. So the client's lock is released meanwhile, and the client may have another
 * connection afterwards. */
int client_call_interactively(struct ctx_client *client, sd_bus_message *m, sd_bus_error *error,
                sd_bus_message **ret_reply, int r);
