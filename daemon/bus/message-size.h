/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-bus.h>

/* Whether the content of a message has at most max bytes, roughly. It stops reading there. The message is
 * rewound afterwards. */
bool message_is_up_to(sd_bus_message *m, size_t max);
