/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/peer.h"

/* The system bus or the session bus, where every peer comes in by one connection. A bus that is not there, or
 * goes away, is tried again and again, with a pause that grows. Nothing waits for it. */

struct broker;

int broker_new(struct service *s, bool user, struct broker **ret);
/* 1: we have had the name at least once; 0: not yet; negative: we could not get it at start, and do not try
 * again. */
int broker_owns_name(const struct broker *b);
struct broker *broker_free(struct broker *b);
