/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/peer.h"

/* Those who send us messages over a bus, by their unique names.
 *
 * Asking the broker who a sender is would be a synchronous round trip in sd-bus. So the first message of a
 * sender is set aside, its credentials are asked for without waiting, and its messages go on, in their order,
 * once they are there. They are kept until the sender's name is gone. */

struct sender;

struct senders {
        struct endpoint *endpoint; /* of the connection to the bus */
        struct sender *by_name;
};

/* A message, before any object is looked at. Returns 1 where it has been taken care of. */
int senders_take(struct senders *all, sd_bus_message *m);
/* Who sent a message that senders_take() let pass; NULL: nobody who is known. */
struct peer *senders_peer(const struct senders *all, const char *name);
void senders_forget(struct senders *all, const char *name);
void senders_clear(struct senders *all);
