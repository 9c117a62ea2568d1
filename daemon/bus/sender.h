/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/peer.h"

/* The peers that send us messages over a bus, by their unique names.
 *
 * If sd-bus asked the broker who a sender is, it would wait for the answer. So the first message of a sender
 * is set aside, and its credentials are asked for without waiting. The credentials are kept until the name of
 * the sender is gone.
 *
 * The bus gives us the calls of all in one queue. So each is set aside, and handled when it is its sender's
 * turn (turns.h), in the order in which they came from that sender. */

struct sender;

struct senders {
        struct endpoint *endpoint; /* of the connection to the bus */
        struct sender *by_name;
        uint32_t n_waiting; /* calls that were set aside */
};

/* To be called for every message before anybody handles it. 1: it was set aside, or dropped. */
int senders_take(struct senders *all, sd_bus_message *m);
/* Reads on, while calls wait: behind them there may be one of somebody whose turn comes before. */
void senders_fetch(struct senders *all);
/* The sender of a message that senders_take() has let pass. NULL: it is unknown. */
struct peer *senders_peer(const struct senders *all, const char *name);
void senders_forget(struct senders *all, const char *name);
void senders_clear(struct senders *all);
