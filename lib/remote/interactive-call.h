/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lib/remote/client.h"

/* The answer to the call m says that it needs an authorization, which can only be given on the system bus. So
 * it is repeated there, and polkit may ask the person at the machine. If that can be done, the answer is
 * replaced. 0, or a negative errno. This may take long. So the client's lock is released meanwhile, and the
 * client may have another connection afterwards. */
int client_call_interactively(struct ctx_client *client, sd_bus_message *m, sd_bus_message **answer);
