/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/peer.h"

/* The system bus or the session bus, where every peer comes in by one connection.
 *
 * Asking the broker who a sender is would be a synchronous round trip in sd-bus. So the first message of a sender is
 * set aside, its credentials are asked for without waiting, and its messages go on, in their order, once they are
 * there. They are kept until the sender's name is gone. */

struct broker;

int broker_new(struct service *s, bool user, struct broker **ret);
struct broker *broker_free(struct broker *b);
