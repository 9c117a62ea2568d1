/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "daemon/bus/peer.h"

/* Asking polkit whether a caller may do what the tree refuses it.
 *
 * Only a call that was refused is asked about, and only where the model names a privilege with which it might not
 * have been; which it does alike for what is hidden and for what is missing, so that a refusal, and the time it
 * takes, tell nothing. The message is kept while polkit thinks (polkit may ask a person), others are served, and once
 * there is an answer the message goes through the whole of the daemon again, with what was granted: the path is
 * resolved anew, and what has changed meanwhile counts. A caller that goes takes its questions with it.
 *
 * polkit knows callers by their name on the system bus, so on a direct connection a call that it might allow is
 * answered with InteractiveAuthorizationRequired, and can be made again over the bus. */

struct polkit;

int polkit_new(struct endpoint *e, struct polkit **ret);
struct polkit *polkit_free(struct polkit *p);

/* What was granted to this very message, enum privilege. p may be NULL. */
unsigned polkit_granted(const struct polkit *p, const sd_bus_message *m);

/* The refusal of a call, with the privilege that it lacked and the context that it named. Returns 1 where polkit is
 * asked and the message is kept; else what to return instead of r, with the error that goes with it. */
int polkit_refused(struct polkit *p, struct peer *peer, sd_bus_message *m, unsigned privilege,
                const char *context, sd_bus_error *error, int r);

/* Every call on the bus comes by here, once its sender is known. Returns 1 where it has been taken care of: an object
 * that is hidden or missing has no handler that could be refused. */
int polkit_filter(struct polkit *p, struct peer *peer, sd_bus_message *m);
/* The same for a direct connection, when an object was not found: 0, or an error. p may be NULL. */
int polkit_object_refused(struct polkit *p, struct peer *peer, sd_bus_message *m, sd_bus_error *error);

void polkit_peer_gone(struct polkit *p, const struct peer *peer);
void polkit_name_changed(struct polkit *p, const char *name, const char *new_owner);
