/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/remote/client.h"

/* What became of the call m, r and *error, which has failed. Where it takes an authorization that only the system bus
 * can give, it is made again there, and allowed to ask whoever sits there. That may take long, so the client's lock is
 * let go of meanwhile: its connection may be another one afterwards. */
int client_call_interactively(struct ctx_client *client, sd_bus_message *m, sd_bus_error *error,
                sd_bus_message **ret_reply, int r);
