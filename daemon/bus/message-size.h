/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-bus.h>

/* Whether what a message carries takes no more than so many bytes, roughly; looks no further than that. Leaves the
 * message rewound. */
bool message_is_up_to(sd_bus_message *m, size_t max);
